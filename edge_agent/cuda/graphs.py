"""CUDA graphs: work recorded from a stream once and launched as one, by ctypes, because pycuda has none.

The calls are those of cuda.h (11.4 and later) on the library of the driver, which the CUDA libraries use themselves.
"""

import contextlib
import ctypes
from collections.abc import Callable

from edge_agent.cuda.failures import CudaError, check, driver

_CAPTURE_MODE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile


def capture(work: Callable[[], None], stream: int) -> int:
    """Calls `work` once, and returns an executable graph of what it put on the stream, which did not run.

    Raises:
        CudaError: the work cannot be captured, or put nothing on the stream. The stream can be used as before, as it
            can where `work` itself raises.
    """
    _call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), ctypes.c_int(_CAPTURE_MODE_THREAD_LOCAL))
    try:
        work()
    except BaseException:
        _abandon(stream)
        raise
    graph = _end(stream)
    try:
        return _instantiated(graph)
    finally:
        _call("cuGraphDestroy", graph)


def launch(executable: int, stream: int) -> None:
    """Puts a run of the graph on the stream."""
    _call("cuGraphLaunch", ctypes.c_void_p(executable), ctypes.c_void_p(stream))


def destroy(executable: int) -> None:
    """Gives the graph back."""
    _call("cuGraphExecDestroy", ctypes.c_void_p(executable))


def _end(stream: int) -> ctypes.c_void_p:
    graph = ctypes.c_void_p()
    _call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
    return graph


def _abandon(stream: int) -> None:
    with contextlib.suppress(CudaError):  # a spoilt capture has no graph; the error of the work says why
        _call("cuGraphDestroy", _end(stream))


def _instantiated(graph: ctypes.c_void_p) -> int:
    count = ctypes.c_size_t()
    _call("cuGraphGetNodes", graph, None, ctypes.byref(count))
    if not count.value:
        raise CudaError("cuStreamEndCapture", 0, "the work to capture put nothing on the stream")
    executable = ctypes.c_void_p()
    _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
    return int(executable.value or 0)


def _call(name: str, *arguments: object) -> None:
    check(name, getattr(driver(), name)(*arguments))
