"""What a camera sees when all is well, summed up from some seconds of looking."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Image
from edge_agent.core.eyesight import Look

_NOISY = 3.0  # a sample that varies by more than so much of what most vary by,
_MOVING = 8.0  # and by so many levels above it, shows something that moves


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the values seen, all but the outer twentieths lie from `low` to `high`."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        low, median, high = np.percentile(values, [5, 50, 95])
        return Spread(float(low), float(median), float(high))


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """One camera at its best.

    Attributes:
        size: (width, height) in pixels.
        fps: frames per second; None: too few to tell.
        sharpness: None: the picture is too plain to tell.
        plane: `(H', W') uint8`, the picture in samples.
        steady: `(H', W') bool`, where nothing moved.
    """

    camera: str
    size: tuple[int, int]
    fps: float | None
    brightness: Spread
    clipped: Spread
    structure: Spread
    sharpness: Spread | None
    plane: Image
    steady: Array


def sum_up(camera: str, looks: Sequence[Look], smooth: FloatArray, fps: float | None) -> Baseline:
    """The baseline of pictures of one size; `smooth` is the mean of their samples, of other pixels each (`sampled`)."""
    sharp = [look.sharpness for look in looks if look.sharpness is not None]
    return Baseline(
        camera=camera,
        size=looks[0].size,
        fps=fps,
        brightness=Spread.of([look.brightness for look in looks]),
        clipped=Spread.of([look.clipped for look in looks]),
        structure=Spread.of([look.structure for look in looks]),
        sharpness=Spread.of(sharp) if len(sharp) == len(looks) else None,
        plane=np.rint(smooth).astype(np.uint8),
        steady=_steady(np.stack([look.plane for look in looks])),
    )


def _steady(planes: Array) -> Array:
    """`(H', W') bool` of `(N, H', W')`: where samples vary by noise alone."""
    low, high = np.percentile(planes, [5, 95], axis=0)
    varies = high - low
    return np.asarray(varies <= _NOISY * np.median(varies) + _MOVING)
