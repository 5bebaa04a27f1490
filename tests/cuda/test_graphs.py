import numpy as np
import pytest

from edge_agent.cuda import CudaError, open_cuda
from tests import pretended_cuda

CAPTURE = ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphGetNodes", "cuGraphInstantiateWithFlags"]


@pytest.fixture
def copying(session):
    """Work that doubles what is in `source` into `target`, by way of the GPU."""
    source, middle, target = session.host(16), session.device(16), session.host(16)
    order = []

    def double():
        order.append(int(source.array[0]))
        source.array[:] *= 2

    def work():
        assert pretended_cuda.enqueue(session.stream, double) == 0
        session.upload(middle, source)
        session.download(target, middle)

    return work, source, target, order


def test_a_capture_records_and_does_not_run(session, copying):
    work, source, target, order = copying
    source.array[:], target.array[:] = 1, 0
    session.capture(work)
    session.wait()
    assert order == []
    assert target.array.sum() == 0


def test_a_graph_replays_its_work_in_order_on_the_data_of_now(session, copying):
    work, source, target, order = copying
    graph = session.capture(work)
    source.array[:] = 3
    for _ in range(3):
        graph.launch()
    session.wait()
    assert order == [3, 6, 12]
    assert np.array_equal(target.array, np.full(16, 24))


def test_a_launch_comes_after_what_is_on_the_stream_before(session, copying):
    work, source, target, order = copying
    graph = session.capture(work)
    source.array[:] = 1
    work()
    graph.launch()
    session.wait()
    assert order == [1, 2]
    assert target.array[0] == 4


def test_a_capture_of_nothing_is_refused(session):
    with pytest.raises(CudaError, match="the work to capture put nothing on the stream"):
        session.capture(lambda: None)
    session.wait()


@pytest.mark.parametrize("forbidden", ["wait", "host", "device", "release"])
def test_what_a_capture_forbids_is_an_error_and_the_stream_lives_on(session, copying, forbidden):
    work, source, target, _ = copying
    spare = session.device(8)

    def spoilt():
        work()
        {
            "wait": session.wait,
            "host": lambda: session.host(8),
            "device": lambda: session.device(8),
            "release": lambda: session.release(spare),
        }[forbidden]()

    with pytest.raises(CudaError, match="captur"):
        session.capture(spoilt)
    source.array[:] = 2
    work()
    session.wait()
    assert target.array[0] == 4
    session.capture(work).launch()
    session.wait()
    assert target.array[0] == 8


def test_what_the_work_raises_comes_through_and_the_stream_lives_on(session, copying):
    work, source, target, _ = copying

    def broken():
        work()
        raise KeyError("enqueue refused")

    with pytest.raises(KeyError, match="enqueue refused"):
        session.capture(broken)
    source.array[:] = 2
    work()
    session.wait()
    assert target.array[0] == 4


def test_a_failure_that_the_work_hides_is_found_at_the_end(session, copying):
    work, *_ = copying

    def hiding():
        work()
        with pytest.raises(CudaError):
            session.device(8)

    with pytest.raises(CudaError, match=r"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED \(901\).*in cuStreamEndCapture"):
        session.capture(hiding)
    work()
    session.wait()


@pytest.mark.parametrize("call", CAPTURE)
def test_a_step_of_the_capture_that_fails_is_named_and_leaves_nothing(driver, session, copying, call):
    work, *_ = copying
    driver.pretended_fail_next(call.encode(), 801)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_NOT_SUPPORTED \(801\): operation not supported, in " + call):
        session.capture(work)
    assert driver.pretended_live_of(b"graph") == driver.pretended_live_of(b"exec") == 0
    session.wait()


def test_a_launch_that_fails_is_an_error(driver, session, copying):
    work, *_ = copying
    graph = session.capture(work)
    driver.pretended_fail_next(b"cuGraphLaunch", 719)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_LAUNCH_FAILED \(719\).*in cuGraphLaunch"):
        graph.launch()


def test_a_closed_graph_is_given_back_once_and_refuses_to_launch(driver, session, copying):
    work, *_ = copying
    graph = session.capture(work)
    graph.close()
    graph.close()
    assert driver.pretended_live_of(b"exec") == 0
    with pytest.raises(RuntimeError, match="Graph was released"):
        graph.launch()


def test_a_graph_that_outlives_its_session_was_given_back_with_it(library):
    session = open_cuda(library)
    device, host = session.device(8), session.host(8)
    graph = session.capture(lambda: session.upload(device, host))
    session.close()
    graph.close()
    with pytest.raises(RuntimeError, match="CUDA was closed"):
        graph.launch()
