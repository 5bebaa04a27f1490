import threading
import time
import tracemalloc

import numpy as np
import pytest

from edge_agent.cuda import CudaError, Gpu, look, open_cuda
from tests import pretended_cuda

# A call each that opening makes; where it fails nothing may be left.
OPENING = [
    "cuInit",
    "cuDeviceGet",
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent",
    "cuStreamCreate",
    "cuEventCreate",
]
UNKNOWN = 999


def in_another_thread(work):
    raised = []

    def run():
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def put_work_on(session):
    """Work that sets the event returned, after the time that the pretended driver takes for it."""
    done = threading.Event()
    assert pretended_cuda.enqueue(session.stream, done.set) == 0
    return done


def test_the_gpu_is_described_without_a_context(driver, library):
    driver.pretended_compute(110)
    driver.pretended_multiprocessors(20)
    driver.pretended_name(b"Thor")
    driver.pretended_memory_mb(65536)
    driver.pretended_driver(13000)
    assert look(library) == Gpu("Thor", (11, 0), 20, integrated=True, memory_mb=65536, driver=13000)
    assert driver.pretended_calls(b"cuDevicePrimaryCtxRetain") == 0


def test_a_gpu_with_memory_of_its_own_is_not_integrated(driver, library):
    driver.pretended_integrated(0)
    assert not look(library).integrated


def test_a_gpu_that_is_not_there_is_an_error(library):
    with pytest.raises(CudaError, match=r"CUDA_ERROR_INVALID_DEVICE \(101\): invalid device ordinal, in cuDeviceGet"):
        look(library, device=1)


def test_an_open_session_names_library_gpu_and_stream(session, library):
    assert session.name.startswith(f"{library} ")
    assert session.gpu == look(library)
    assert session.stream


def test_host_memory_is_the_same_for_cpu_and_gpu(session):
    written, read = session.host(100), session.device(100)
    back = session.host(100)
    assert written.array.dtype == np.uint8
    assert written.array.shape == (100,)
    assert written.nbytes == 100
    assert written.ptr == written.array.ctypes.data
    assert written.device_ptr != written.ptr
    written.array[:] = np.arange(100)
    session.upload(read, written)
    session.download(back, read)
    session.wait()
    assert np.array_equal(back.array, np.arange(100))


def test_a_part_of_memory_can_be_copied(session):
    source, middle, target = session.host(10), session.device(10), session.host(10)
    source.array[:], target.array[:] = 5, 0
    session.upload(middle, source, 6)
    session.download(target, middle, 3)
    session.wait()
    assert target.array.tolist() == [5, 5, 5, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("nbytes", [0, -1, 9, 11])
def test_a_copy_that_does_not_fit_is_refused(session, nbytes):
    source, target = session.host(10), session.device(8)
    with pytest.raises(ValueError, match=f"cannot copy {nbytes} bytes from 10 to 8"):
        session.upload(target, source, nbytes)


def test_work_goes_on_while_the_thread_does_not_wait(driver, session):
    driver.pretended_slow_ms(30)
    done = put_work_on(session)
    assert not done.is_set()
    session.wait()
    assert done.is_set()


def test_other_threads_go_on_while_one_waits(driver, session):
    driver.pretended_slow_ms(150)
    put_work_on(session)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    session.wait()
    stop.set()
    thread.join()
    assert len(ticks) >= 5


def test_waiting_sleeps(driver, session):
    driver.pretended_slow_ms(100)
    put_work_on(session)
    cpu = time.thread_time()
    session.wait()
    assert time.thread_time() - cpu < 0.05


def test_free_memory_becomes_less_by_what_is_asked_for(session):
    free, total = session.memory_mb()
    session.device(3 << 20)
    session.host(1 << 20)
    assert session.memory_mb() == (free - 4, total)


@pytest.mark.parametrize(("kind", "call"), [("host", "cuMemHostAlloc"), ("device", "cuMemAlloc")])
def test_out_of_memory_says_so(driver, session, kind, call):
    driver.pretended_memory_mb(8)
    with pytest.raises(CudaError, match=rf"CUDA_ERROR_OUT_OF_MEMORY \(2\): out of memory, in {call}") as caught:
        getattr(session, kind)(9 << 20)
    assert caught.value.is_out_of_memory
    assert (caught.value.call, caught.value.code) == (call, 2)
    getattr(session, kind)(7 << 20)


def test_another_failure_is_not_out_of_memory(driver, session):
    driver.pretended_fail_next(b"cuMemAlloc", 201)
    with pytest.raises(CudaError) as caught:
        session.device(8)
    assert not caught.value.is_out_of_memory


def test_host_memory_the_gpu_cannot_see_is_given_back(driver, session):
    driver.pretended_fail_next(b"cuMemHostGetDevicePointer", 801)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_NOT_SUPPORTED \(801\).*in cuMemHostGetDevicePointer"):
        session.host(8)
    assert driver.pretended_live_of(b"host") == 0


def test_what_the_gpu_did_wrong_is_told_by_wait(driver, session):
    driver.pretended_fail_next(b"cuEventSynchronize", 700)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS \(700\).*in cuEventSynchronize"):
        session.wait()


@pytest.mark.parametrize("call", ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuEventRecord", "cuMemGetInfo"])
def test_each_call_that_fails_is_named_with_its_code(driver, session, call):
    host, device = session.host(8), session.device(8)
    driver.pretended_fail_next(call.encode(), UNKNOWN)
    with pytest.raises(CudaError) as caught:
        {
            "cuMemcpyHtoDAsync": lambda: session.upload(device, host),
            "cuMemcpyDtoHAsync": lambda: session.download(host, device),
            "cuEventRecord": session.wait,
            "cuMemGetInfo": session.memory_mb,
        }[call]()
    assert (caught.value.call, caught.value.code) == (call, UNKNOWN)


def test_an_error_of_a_driver_that_is_newer_than_the_library_is_told_in_its_words(driver, session):
    driver.pretended_fail_next(b"cuMemAlloc", 998)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_OF_TOMORROW \(998\): an error that .*, in cuMemAlloc"):
        session.device(8)


@pytest.mark.parametrize("call", OPENING)
def test_an_opening_that_fails_half_way_leaves_nothing(driver, library, call):
    driver.pretended_fail_next(call.encode(), UNKNOWN)
    with pytest.raises(CudaError) as caught:
        open_cuda(library)
    assert (caught.value.call, caught.value.code) == (call, UNKNOWN)
    assert driver.pretended_live() == 0
    assert driver.pretended_stack_depth() == 0
    open_cuda(library).close()


def test_released_memory_is_given_back_at_once_and_once(driver, session):
    host, device = session.host(8), session.device(8)
    for memory in (host, device, host, device):
        session.release(memory)
    assert driver.pretended_live_of(b"host") == driver.pretended_live_of(b"device") == 0


def test_memory_is_released_after_the_work_that_uses_it(driver, session):
    driver.pretended_slow_ms(20)
    device, host = session.device(8), session.host(8)
    done = put_work_on(session)
    session.download(host, device)
    session.release(device)
    assert done.is_set()


def test_released_memory_cannot_be_used(session):
    host, device = session.host(8), session.device(8)
    session.release(host)
    with pytest.raises(RuntimeError, match=r"^HostMemory was released"):
        session.upload(device, host)


def test_closing_gives_back_in_order_and_once(session, calls):
    device, host = session.device(8), session.host(8)
    session.capture(lambda: session.upload(device, host))
    session.host(8)
    before = len(calls())
    session.close()
    session.close()
    assert [call for call in calls()[before:] if "Destroy" in call or "Free" in call or "Ctx" in call] == [
        "cuGraphExecDestroy",
        "cuMemFree",
        "cuMemFreeHost",
        "cuMemFreeHost",
        "cuEventDestroy",
        "cuStreamDestroy",
        "cuCtxPopCurrent",
        "cuDevicePrimaryCtxRelease",
    ]


def test_closing_waits_for_the_work_under_way(driver, library):
    driver.pretended_slow_ms(20)
    session = open_cuda(library)
    done = put_work_on(session)
    session.close()
    assert done.is_set()


def test_closing_goes_on_after_a_failure_and_tells_it(driver, library):
    session = open_cuda(library)
    session.device(8)
    session.device(8)
    driver.pretended_fail_next(b"cuEventSynchronize", 719)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_LAUNCH_FAILED \(719\)"):
        session.close()
    assert driver.pretended_live() == 0


def test_a_closed_session_refuses_everything(session):
    host = session.host(8)
    session.close()
    for work in (session.wait, session.memory_mb, lambda: session.host(8), lambda: session.capture(session.wait)):
        with pytest.raises(RuntimeError, match="CUDA was closed"):
            work()
    session.release(host)


def test_another_thread_is_refused(session):
    host, device = session.host(8), session.device(8)
    graph = session.capture(lambda: session.upload(device, host))
    for work in (
        session.wait,
        session.memory_mb,
        session.close,
        graph.launch,
        graph.close,
        lambda: session.host(8),
        lambda: session.device(8),
        lambda: session.release(host),
        lambda: session.upload(device, host),
        lambda: session.download(host, device),
        lambda: session.capture(session.wait),
        lambda: session.kernel(b"", "none"),
    ):
        error = in_another_thread(work)
        assert isinstance(error, RuntimeError)
        assert "may be used there only" in str(error)
    session.upload(device, host)


@pytest.mark.parametrize("first", [0, 1])
def test_two_sessions_in_a_thread_share_the_context_and_close_in_any_order(driver, library, first):
    sessions = [open_cuda(library), open_cuda(library)]
    memory = [session.device(8) for session in sessions]
    sessions[first].close()
    rest = sessions[1 - first]
    rest.upload(memory[1 - first], rest.host(8))
    rest.wait()
    rest.close()
    assert driver.pretended_live() == 0


def test_two_sessions_in_two_threads_live_beside_each_other(library):
    session = open_cuda(library)

    def another():
        other = open_cuda(library)
        host, device = other.host(8), other.device(8)
        other.upload(device, host)
        other.wait()
        other.close()

    assert in_another_thread(another) is None
    session.device(8)
    session.close()


def test_memory_of_one_session_is_refused_by_another(library, session):
    other = open_cuda(library)
    with pytest.raises(RuntimeError, match="is from another Cuda object"):
        session.upload(other.device(8), session.host(8))
    other.close()


def test_a_run_allocates_nothing(driver, session):
    host, device = session.host(64), session.device(64)
    graph = session.capture(lambda: session.upload(device, host))

    def run():
        for _ in range(50):
            session.upload(device, host)
            session.download(host, device)
            graph.launch()
            session.wait()

    run()
    live = driver.pretended_live()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 500  # bytes, of 150 calls
    assert driver.pretended_live() == live
