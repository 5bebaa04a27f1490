"""One CUDA graph of a run: the GPU gets all of its work by a single call. It is trusted only when it gives what a run gives."""

import numpy as np

from edge_agent.backends.tensorrt.tensors import Tensors
from edge_agent.core.datatypes import Array
from edge_agent.cuda import Cuda, CudaError, Graph
from edge_agent.errors import ModelError

_RELATIVE, _ABSOLUTE = 1e-2, 1e-3
"""How far two runs in FP16 may be apart: of each value, and of the greatest of its output."""
_WIPED = 0xAA
_PICTURE_DIMS = 3
"""Inputs with so many dimensions are pictures or like them; what is smaller may be sizes or places, and noise in it harmful."""


def record(cuda: Cuda, tensors: Tensors) -> tuple[Graph | None, str]:
    """The graph of a run, or None and why there is none. All inputs keep their content, also what the GPU has written.

    The engine must have run on this stream with the tensors where they are now: TensorRT puts work off to the first run
    after a change that must not be recorded. Open sizes do no harm: they were fixed when the engine was opened.

    Raises:
        ModelError, CudaError: the engine cannot be run without a graph either.
    """
    kept = [tensor.array.copy() for tensor in tensors.inputs]
    try:
        _fill(tensors)
        return _recorded(cuda, tensors)
    finally:
        for tensor, array in zip(tensors.inputs, kept, strict=True):
            tensor.array[...] = array


def _recorded(cuda: Cuda, tensors: Tensors) -> tuple[Graph | None, str]:
    expected = _outputs_of_a_run(cuda, tensors)
    graph: Graph | None = None
    try:
        graph = cuda.capture(tensors.run)
        _wipe(cuda, tensors)
        graph.launch()
        cuda.wait()
    except (CudaError, ModelError) as error:
        why = str(error)
    else:
        if all(_alike(*pair) for pair in zip(expected, (tensor.array for tensor in tensors.outputs), strict=True)):
            return graph, ""
        why = "its outputs are not those of a run without it"
    if graph is not None:
        graph.close()
    _outputs_of_a_run(cuda, tensors)
    return None, why


def _outputs_of_a_run(cuda: Cuda, tensors: Tensors) -> list[Array]:
    tensors.run()
    cuda.wait()
    return [tensor.array.copy() for tensor in tensors.outputs]


def _fill(tensors: Tensors) -> None:
    """Pictures of noise, for an empty picture may give the same outputs as none."""
    noise = np.random.default_rng(0)
    for tensor in tensors.inputs:
        dtype = tensor.spec.dtype
        if len(tensor.spec.shape) < _PICTURE_DIMS:
            continue
        if dtype.kind == "f":
            tensor.array[...] = noise.random(tensor.spec.shape, np.float32)
        elif dtype in (np.uint8, np.int8):
            tensor.array[...] = noise.integers(0, 100, tensor.spec.shape)


def _wipe(cuda: Cuda, tensors: Tensors) -> None:
    """Else a graph of nothing would show the outputs of the run before."""
    for tensor in tensors.outputs:
        tensor.host.array.fill(_WIPED)
        if tensor.device is not None:
            cuda.upload(tensor.device, tensor.host)


def _alike(one: Array, other: Array) -> bool:
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    first, second = one.astype(np.float64), other.astype(np.float64)
    scale = np.max(np.abs(first), where=np.isfinite(first), initial=0.0)
    return np.allclose(second, first, rtol=_RELATIVE, atol=_ABSOLUTE * scale, equal_nan=True)
