"""Numbers as the engine stores them: a threshold in their own domain, so that only survivors are converted."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Quantisation, TensorSpec
from edge_agent.errors import ModelError

_FLOATS = (np.float32, np.float16)
_TAME = 1e12  # what is calculated from smaller numbers than this stays far below the largest float32
_AS_USUAL = nullcontext()


def require_readable(model: str, spec: TensorSpec) -> None:
    """That the numbers of `spec` can be read: float32, float16, or integers of at most 16 bits with one scale.

    Raises:
        ModelError: they cannot; the message begins with the name of the `model`.
    """
    if spec.quant is None and spec.dtype in _FLOATS:
        return
    if spec.quant is None or not spec.quant.scale > 0 or spec.dtype not in (np.int8, np.uint8, np.int16, np.uint16):
        raise ModelError(
            f"{model}: the output {spec} is neither float nor quantised with one scale for the whole tensor; "
            "export the model again, with float outputs"
        )


def comparable(stored: Array) -> Array:
    """A view of `stored` that compares fast and as its numbers do, for numbers not below 0.

    numpy has no vector code for float16; its bits, read as int16, rise with its value (IEEE 754) and are about 60
    times as fast to reduce. Negative numbers come out below all others; NaN above, and must be dropped later.
    """
    return stored.view(np.int16) if stored.dtype == np.float16 else stored


def floor_of(real: float, spec: TensorSpec) -> Any:
    """The largest numpy scalar that `comparable` can show whose real value is not above `real` (which is not below 0).

    A number of the tensor is above `real` exactly when its comparable form is above this one.
    """
    if spec.dtype == np.float16:
        half = np.float16(real)
        return (half if float(half) <= real else np.nextafter(half, np.float16(0))).view(np.int16)
    if spec.quant is None:
        return np.float32(real)
    info = np.iinfo(spec.dtype)
    levels = np.arange(info.min, info.max + 1)
    below = levels[dequantise(levels, spec.quant) <= np.float32(real)]
    return spec.dtype.type(below.max() if below.size else info.min)


def dequantise(stored: Array, quant: Quantisation | None) -> FloatArray:
    """The real numbers, float32: `(q - zero_point) * scale`; without `quant` the numbers as they are, float32 uncopied."""
    numbers: FloatArray = stored.astype(np.float32, copy=False)
    if quant is not None:
        numbers = numbers - np.float32(quant.zero_point)
        numbers *= np.float32(quant.scale)
    return numbers


def lie_within(numbers: Array, limit: float) -> bool:
    """Whether all of at least one number are from `-limit` to `limit`; NaN is not."""
    low, high = np.minimum.reduce(numbers, axis=None), np.maximum.reduce(numbers, axis=None)
    return bool(low >= -limit and high <= limit)


def quietly(numbers: Array, tame: float = _TAME) -> AbstractContextManager[object]:
    """In which numpy warns of nothing that is calculated from these: broken numbers are dropped after it.

    Where all lie within `tame` nothing can be broken, and nothing is done: `errstate` takes 30 us of a frame, in which
    an engine has just filled the processor's caches.
    """
    return _AS_USUAL if lie_within(numbers, tame) else np.errstate(all="ignore")


def rows_of(tensor: Array, cells: Array, *, channels_first: bool) -> Array:
    """`(K, columns)` of the cells with these numbers, out of `(columns, N)` or `(N, columns)`. A copy.

    Half floats become float32, in which numpy is fast; other numbers stay as they are stored.
    """
    rows = tensor.take(cells, axis=1).T if channels_first else tensor.take(cells, axis=0)
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows
