import subprocess
import sys
import threading
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_agent.backends import onnx
from edge_agent.backends.tensorrt.messages import logger_for
from edge_agent.core import plan_header
from edge_agent.core.datatypes import InputFormat
from edge_agent.cuda import CudaError
from edge_agent.errors import DeviceMemoryError, EngineUnfitError, ModelError, UnavailableError
from tests.backends.tensorrt.engines import ILLEGAL_ADDRESS, NO_DEVICE, OUT_OF_MEMORY, gives, opened, relu
from tests.fake_tensorrt import VERSIONS, write_engine
from tests.fixtures import REPO

MODELS = [
    REPO / "examples" / "models" / "yolox_nano_416_coco.onnx",
    REPO / "edge_agent" / "demo_model" / "bottles.onnx",
]
EVERY_VERSION = pytest.mark.parametrize("version", VERSIONS)

pytestmark = pytest.mark.usefixtures("tensorrt")


@EVERY_VERSION
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_real_models_give_what_the_onnx_backend_gives(tmp_path, model):
    reference = onnx.create(onnx.Config(path=model, threads=1))
    backend = opened(write_engine(tmp_path / "m.engine", model))
    assert [bound.spec for bound in backend.inputs] == [bound.spec for bound in reference.inputs]
    assert list(backend.outputs) == list(reference.outputs)
    noise = np.random.default_rng(0).integers(0, 255, backend.inputs[0].spec.shape)
    for _ in range(2):
        backend.inputs[0].array[...] = reference.inputs[0].array[...] = noise
        for ours, theirs in zip(backend.infer(), reference.infer(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        noise = noise[..., ::-1]
    backend.close()


@EVERY_VERSION
def test_the_engine_is_named_with_all_that_was_chosen(tmp_path, version):
    backend = opened(relu(tmp_path))
    first, gpu, library, memory, graph = backend.runtime.split(", ")
    assert first.startswith(f"TensorRT {version}")
    assert gpu == "sm_87 (Orin)"
    assert library.split()[0] in ("pycuda", "cuda-bindings")
    assert memory in ("mapped memory", "copied memory")
    assert graph == "CUDA graph"
    backend.close()


def test_metadata_is_that_of_the_header(tmp_path):
    backend = opened(relu(tmp_path, header=plan_header.make({"task": "detect", "names": {"0": "cap"}})))
    assert backend.metadata == {"task": "detect", "names": {"0": "cap"}}
    backend.close()


def test_kinds_of_memory_are_measured_and_the_faster_is_kept(tmp_path, driver):
    with capture_logs() as logs:
        backend = opened(relu(tmp_path))
    entry = next(entry for entry in logs if entry["event"] == "tensor_memory")
    assert entry["engine"] == "m.engine"
    assert min(entry["mapped_ms"], entry["copied_ms"]) > 0
    if entry["copied_ms"] < 0.9 * entry["mapped_ms"]:
        assert entry["chosen"] == "copied"
    if entry["mapped_ms"] < entry["copied_ms"]:
        assert entry["chosen"] == "mapped"
    of_tensors = driver.pretended_live_of(b"device") - 2  # engine and context have one each
    assert of_tensors == (2 if entry["chosen"] == "copied" else 0)
    assert f"{entry['chosen']} memory" in backend.runtime
    backend.close()


def test_without_memory_for_copies_tensors_are_mapped(tmp_path, driver):
    driver.pretended_fail_times(
        b"cuMemAlloc", OUT_OF_MEMORY, 3, 2
    )  # engine, context, input have theirs; pycuda tries twice
    with capture_logs() as logs:
        backend = opened(relu(tmp_path))
    entry = next(entry for entry in logs if entry["event"] == "tensor_memory")
    assert entry["chosen"] == "mapped"
    assert "CUDA_ERROR_OUT_OF_MEMORY" in entry["reason"]
    assert driver.pretended_live_of(b"device") == 2
    assert gives(backend, 4)
    backend.close()
    driver.pretended_reset()


def test_a_picture_that_the_gpu_writes_is_not_copied_over(tmp_path):
    backend = opened(relu(tmp_path))
    picture = backend._tensors.inputs[0]
    written = backend._tensors.memory_by_gpu(picture)
    source = backend._cuda.host(written.nbytes)
    source.array.view(np.float32)[:] = 9
    backend._cuda.upload(written, source)
    picture.array.fill(3)
    for wanted, value in ((True, 9), (False, 3), (True, 9)):
        backend.picture_from_gpu(wanted=wanted)
        assert "CUDA graph" in backend.runtime
        assert (backend.infer()[0] == value).all()
    backend.close()


def test_a_model_that_takes_no_picture_needs_no_preprocessing_on_the_gpu(tmp_path):
    backend = opened(relu(tmp_path, [1, 8]))
    assert backend.device_preprocessor(InputFormat(), np.zeros((3, 256), np.float32)) is None
    backend.close()


def test_pictures_that_the_gpu_cannot_prepare_leave_all_as_it_was(tmp_path, driver):
    backend = opened(relu(tmp_path, [1, 3, 32, 32]))
    live = driver.pretended_live()
    fmt = InputFormat(fit="centre_crop")
    assert backend.device_preprocessor(fmt, np.zeros((3, 256), np.float32)) is None
    assert driver.pretended_live() == live
    assert gives(backend, 4)
    backend.close()


def test_nothing_is_allocated_for_a_frame(tmp_path, driver):
    backend = opened(relu(tmp_path))
    for _ in range(5):
        backend.infer()
    live, calls = (
        driver.pretended_live(),
        driver.pretended_calls(b"cuMemAlloc") + driver.pretended_calls(b"cuMemHostAlloc"),
    )
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{REPO}/edge_agent/*")]
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot().filter_traces(ours)
        for _ in range(200):
            backend.infer()
        after = tracemalloc.take_snapshot().filter_traces(ours)
    finally:
        tracemalloc.stop()
    assert sum(change.size_diff for change in after.compare_to(before, "filename")) < 1024
    assert driver.pretended_live() == live
    assert driver.pretended_calls(b"cuMemAlloc") + driver.pretended_calls(b"cuMemHostAlloc") == calls
    backend.close()


def test_only_the_thread_that_opened_it_may_run_and_close_it(tmp_path):
    backend = opened(relu(tmp_path))
    refused = []

    def elsewhere():
        for call in (backend.infer, backend.close):
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(refused) == 2
    assert all("may be used there only" in words for words in refused)
    assert gives(backend, 4)
    backend.close()


def test_two_engines_run_side_by_side_and_one_outlives_the_other(tmp_path):
    first, second = opened(relu(tmp_path, name="a")), opened(relu(tmp_path, [1, 3, 8, 8], name="b"))
    assert gives(first, 3)
    assert gives(second, 5)
    assert gives(first, 4)
    first.close()
    assert gives(second, 6)
    second.close()


def test_two_threads_have_an_engine_each(tmp_path, driver):
    paths, right = [relu(tmp_path, name="a"), relu(tmp_path, [1, 3, 8, 8], name="b")], []

    def serve(path):
        backend = opened(path)
        right.append(all(gives(backend, value) for value in range(50)))
        backend.close()

    threads = [threading.Thread(target=serve, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True, True]


@EVERY_VERSION
def test_all_is_given_back_in_order(tmp_path, tensorrt, driver):
    backend = opened(relu(tmp_path))
    assert tensorrt._live() == 3
    backend.close()
    backend.close()
    assert tensorrt._live() == 0
    assert driver.pretended_live() == 0
    assert driver.pretended_stack_depth() == 0


FIRST_CALLS = [
    b"cuInit", b"cuDeviceGet", b"cuDevicePrimaryCtxRetain", b"cuStreamCreate", b"cuEventCreate", b"cuMemAlloc",
    b"cuMemHostAlloc", b"cuMemHostGetDevicePointer", b"pretended_enqueue", b"cuEventRecord", b"cuEventSynchronize",
    b"cuMemcpyHtoDAsync", b"cuMemcpyDtoHAsync",
]  # fmt: skip


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("call", FIRST_CALLS)
def test_what_fails_half_way_gives_back_what_was_there(tmp_path, tensorrt, driver, call, after):
    """Where the call comes once only, or where there is another way without it, it opens."""
    path = relu(tmp_path)
    driver.pretended_fail_after(call, OUT_OF_MEMORY if b"Alloc" in call else ILLEGAL_ADDRESS, after)
    with suppress(ModelError, UnavailableError):
        opened(path).close()
    assert tensorrt._live() == 0
    assert driver.pretended_live() == 0
    assert driver.pretended_stack_depth() == 0


def test_a_gpu_that_is_out_of_order_hides_no_reason(tmp_path, tensorrt, driver):
    driver.pretended_fail_next(b"cuMemcpyHtoDAsync", ILLEGAL_ADDRESS)
    driver.pretended_fail_after(b"cuEventRecord", ILLEGAL_ADDRESS, 2)  # the third time it is waited for, to close
    with pytest.raises(ModelError, match=r"m.engine: cannot be run on this GPU: .*cuMemcpyHtoDAsync"):
        opened(relu(tmp_path))
    assert driver.pretended_calls(b"cuEventRecord") == 4


def test_what_still_runs_is_waited_for_before_it_is_freed(tmp_path, tensorrt, driver):
    backend = opened(relu(tmp_path))
    driver.pretended_slow_ms(100)
    backend._run()
    backend.close()
    assert tensorrt._live() == 0


def test_an_error_that_is_kept_keeps_no_engine(tmp_path, tensorrt, driver):
    """Its traceback has the frames in which it was raised."""
    with pytest.raises(ModelError) as caught:
        opened(relu(tmp_path, dtypes={"y": "FP8" if hasattr(tensorrt.DataType, "FP8") else "BOOL"}))
    assert caught.value.__traceback__ is not None
    assert tensorrt._live() == 0
    assert driver.pretended_live() == 0


@EVERY_VERSION
def test_an_engine_of_another_version_says_which_and_what_to_do(tmp_path):
    header = plan_header.make({"edge_agent": {"tensorrt": "8.4.1", "compute": "8.7"}})
    path = relu(tmp_path, header=header, version=[8, 4, 1])
    with pytest.raises(
        EngineUnfitError, match=r"built by TensorRT 8\.4\.1 for sm_87; this is TensorRT .* on sm_87; rebuild"
    ):
        opened(path)


@EVERY_VERSION
def test_an_engine_for_another_gpu_says_for_which(tmp_path):
    with pytest.raises(
        EngineUnfitError,
        match=r"built (by TensorRT [\d.]+ )?for sm_72; this is TensorRT .* on sm_87; rebuild it: edge-agent",
    ):
        opened(relu(tmp_path, compute=[7, 2]))


@EVERY_VERSION
@pytest.mark.parametrize("damage", ["noise", "cut"])
def test_a_damaged_engine_says_so(tmp_path, damage):
    path = relu(tmp_path)
    content = path.read_bytes()
    path.write_bytes(bytes(range(256)) * 20 if damage == "noise" else content[: len(content) // 2])
    with pytest.raises(EngineUnfitError, match=r"m.engine: .* is damaged; copy it again, or rebuild it"):
        opened(path)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
def test_a_version_compatible_engine_runs_only_where_it_is_allowed(tmp_path, version):
    path = relu(tmp_path, version_compatible=True)
    with pytest.raises(EngineUnfitError, match="set allow_host_code = true"):
        opened(path)
    backend = opened(path, allow_host_code=True)
    assert gives(backend, 4)
    backend.close()


@EVERY_VERSION
@pytest.mark.parametrize("what", ["engine_memory", "context_memory"])
def test_too_little_memory_is_told_from_a_bad_engine(tmp_path, driver, monkeypatch, what):
    path = relu(tmp_path)
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", what)
    with pytest.raises(DeviceMemoryError, match=r"too little memory for it \(\d+ of 4096 MB are free\)"):
        opened(path)


def test_too_little_memory_for_the_tensors_is_told_too(tmp_path, driver):
    path = relu(tmp_path)
    driver.pretended_fail_next(b"cuMemHostAlloc", OUT_OF_MEMORY)
    with pytest.raises(DeviceMemoryError, match="too little memory"):
        opened(path)


def test_without_a_gpu_the_error_says_so(tmp_path, driver):
    path = relu(tmp_path)
    driver.pretended_fail_next(b"cuDeviceGet", NO_DEVICE)
    with pytest.raises(UnavailableError, match=r"needs an NVIDIA GPU, .*CUDA_ERROR_NO_DEVICE"):
        opened(path)


@EVERY_VERSION
def test_a_run_that_is_refused_raises_with_the_last_words_of_tensorrt(tmp_path, monkeypatch, tensorrt):
    backend = opened(relu(tmp_path))
    backend._drop_graph()
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "enqueue")
    logger_for(tensorrt).log(tensorrt.ILogger.ERROR, "what went wrong")
    with pytest.raises(ModelError, match=r"m.engine: the engine cannot be run \(TensorRT .* says: what went wrong\)"):
        backend.infer()
    monkeypatch.delenv("FAKE_TENSORRT_FAIL")
    assert gives(backend, 4)
    backend.close()


def test_all_is_given_back_also_where_the_gpu_is_out_of_order(tmp_path, tensorrt, driver):
    backend = opened(relu(tmp_path))
    driver.pretended_fail_next(b"cuEventRecord", ILLEGAL_ADDRESS)
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        backend.close()
    assert tensorrt._live() == 0
    backend.close()


def test_a_gpu_that_fails_is_an_error_of_cuda(tmp_path, driver):
    backend = opened(relu(tmp_path))
    driver.pretended_fail_next(b"cuEventSynchronize", ILLEGAL_ADDRESS)
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        backend.infer()
    backend.close()


def test_importing_the_kind_imports_no_library():
    code = (
        "import sys, edge_agent.backends.tensorrt as kind; kind.Config(path='m.engine');"
        "print([name for name in ('tensorrt', 'pycuda', 'cuda.bindings', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
