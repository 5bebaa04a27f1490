import ctypes

import pytest
from structlog.testing import capture_logs

from edge_agent.backends.tensorrt.tensors import Tensors
from tests.backends.tensorrt.engines import UNSUPPORTED_IN_CAPTURE, gives, opened, relu

pytestmark = pytest.mark.usefixtures("tensorrt")


@pytest.mark.parametrize("call", [b"cuStreamBeginCapture", b"cuStreamEndCapture", b"cuGraphInstantiateWithFlags"])
def test_what_cannot_be_recorded_is_run_without_a_graph(tmp_path, driver, call):
    driver.pretended_fail_next(call, UNSUPPORTED_IN_CAPTURE)
    with capture_logs() as logs:
        backend = opened(relu(tmp_path))
    entry = next(entry for entry in logs if entry["event"] == "cuda_graph_unused")
    assert call.decode() in entry["reason"]
    assert "CUDA graph" not in backend.runtime
    assert gives(backend, 4)
    assert gives(backend, 6)
    backend.close()


def test_an_engine_that_refuses_to_run_while_it_is_recorded_runs_without_a_graph(tmp_path, driver, monkeypatch):
    """Loops and DLA layers, for example."""
    from tensorrt import _context  # of the stand-in

    enqueue = _context.IExecutionContext.execute_async_v3

    def refusing(self, stream_handle):
        status = ctypes.c_int()
        driver.cuStreamIsCapturing(ctypes.c_void_p(stream_handle), ctypes.byref(status))
        if not status.value:
            return enqueue(self, stream_handle)
        self._sink.log(
            self._sink.ERROR, "Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"
        )
        return False

    monkeypatch.setattr(_context.IExecutionContext, "execute_async_v3", refusing)
    with capture_logs() as logs:
        backend = opened(relu(tmp_path))
    reason = next(entry["reason"] for entry in logs if entry["event"] == "cuda_graph_unused")
    assert "operation not permitted when stream is capturing" in reason
    assert gives(backend, 4)
    backend.close()
    assert driver.pretended_live() == 0


def test_a_graph_that_gives_something_else_is_not_trusted(tmp_path, monkeypatch):
    """As one that misses a part of the work would: here the graph has no run of the engine in it."""
    real = Tensors.run

    def with_less_in_a_graph(self):
        status = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuStreamIsCapturing(ctypes.c_void_p(self._cuda.stream), ctypes.byref(status))
        if not status.value:
            real(self)
        else:
            self._cuda.upload(spare_device, spare_host)

    backend = opened(relu(tmp_path))
    spare_device, spare_host = backend._cuda.device(4), backend._cuda.host(4)
    monkeypatch.setattr(Tensors, "run", with_less_in_a_graph)
    with capture_logs() as logs:
        backend.picture_from_gpu(wanted=False)
    assert logs[-1]["event"] == "cuda_graph_unused"
    assert logs[-1]["reason"] == "its outputs are not those of a run without it"
    assert gives(backend, 4)
    backend.close()


def test_the_check_of_the_graph_leaves_the_inputs_as_they_are(tmp_path):
    backend = opened(relu(tmp_path))
    assert not backend.inputs[0].array.any()
    backend.inputs[0].array.fill(7)
    backend.picture_from_gpu(wanted=False)
    assert (backend.inputs[0].array == 7).all()
    assert (backend.infer()[0] == 7).all()
    backend.close()


def test_why_there_is_no_graph_is_said_once(tmp_path, driver):
    with capture_logs() as logs:
        driver.pretended_fail_next(b"cuStreamBeginCapture", UNSUPPORTED_IN_CAPTURE)
        backend = opened(relu(tmp_path))
        driver.pretended_fail_next(b"cuStreamBeginCapture", UNSUPPORTED_IN_CAPTURE)
        backend.picture_from_gpu(wanted=False)
    assert [entry["event"] for entry in logs].count("cuda_graph_unused") == 1
    backend.picture_from_gpu(wanted=False)
    assert "CUDA graph" in backend.runtime
    backend.close()
