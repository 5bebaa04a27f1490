"""Inputs and heads of detection models: what their names and shapes tell, and the grids of those without anchors.

An anchor-free head makes one prediction for every cell of 8, 16 and 32 pixels of the model input.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edge_agent.core.datatypes import FloatArray, TensorSpec
from edge_agent.errors import ModelError

STRIDES = (8, 16, 32)

Layout = Literal["channels_first", "anchors_first"]
"""Of a head's output: `[1, columns, cells]` or `[1, cells, columns]`."""

_CHANNELS = (1, 3)
_NEXT = ("n", "_n", "out", "_out", "new", "_new", "next", "_next")
"""What exporters put behind the name of a state for what the next run wants to find there."""


def is_planar(image: TensorSpec) -> bool | None:
    """Whether an image input is `[1, channels, H, W]` and not `[1, H, W, channels]`; None where it is neither."""
    if len(image.shape) != 4:  # noqa: PLR2004 - batch, height, width, channels
        return None
    if image.shape[1] in _CHANNELS:
        return True
    return False if image.shape[3] in _CHANNELS else None


def input_wh(image: TensorSpec) -> tuple[int, int] | None:
    """Width and height of an image input in pixels; None where they are not fixed."""
    planar = is_planar(image)
    if planar is None:
        return None
    height, width = image.shape[2:4] if planar else image.shape[1:3]
    return (width, height) if min(width, height) > 0 else None


def picture_of(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The one input with the form of a picture, of three channels rather than one; None where no one is it."""
    alike = [spec for spec in inputs if is_planar(spec) is not None]
    coloured = [spec for spec in alike if spec.shape[1 if is_planar(spec) else 3] == max(_CHANNELS)]
    best = coloured or alike
    return best[0] if len(best) == 1 else None


def refuse_state(model: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Lets models pass that look at each picture for itself; the message begins with the name of the `model`.

    A state is an input named after an output (`h` and `hn`, `state` and `stateN`, `past_key` and `present_key`, `h_in`
    and `h_out`), or one of floats, and no picture, with the shape of an output.

    Raises:
        ModelError: an input wants what an output gave in the run before.
    """
    picture = picture_of(inputs)
    pairs = [(before, after) for before in inputs if before is not picture for after in outputs]
    for alike in (_follows, _same_form):
        for before, after in pairs:
            if alike(before, after):
                raise ModelError(
                    f"{model}: it carries a state from run to run: its output {after.name} wants to be the input "
                    f"{before.name} of the next run. Here every picture is judged by itself, and several cameras share "
                    "one engine; use a model without a state"
                )


def is_grey(image: TensorSpec) -> bool:
    """Whether an image input has one channel."""
    planar = is_planar(image)
    return planar is not None and image.shape[1 if planar else 3] == 1


def cells(wh: tuple[int, int], strides: Sequence[int] = STRIDES) -> int:
    """How many predictions a head makes for an input of `wh` pixels: 8400 at 640 x 640, 3549 at 416 x 416."""
    return sum((wh[0] // stride) * (wh[1] // stride) for stride in strides)


def layouts(image: TensorSpec, output: TensorSpec, *more_strides: Sequence[int]) -> list[Layout]:
    """The layouts that an output's shape allows: none for another kind of head, two where it is not clear.

    A dimension counts the cells where it equals their number, also for each of `more_strides`, or is not known.
    """
    wh = input_wh(image)
    counts = {-1} | ({cells(wh, strides) for strides in (STRIDES, *more_strides)} if wh else set())
    _, first, last = output.shape
    counted: list[tuple[Layout, int, int]] = [("channels_first", last, first), ("anchors_first", first, last)]
    return [layout for layout, rows, columns in counted if rows in counts and columns > 0]


def corners_and_strides(wh: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Of each cell, in the head's order (fine to coarse, row by row): `(N, 2)` column and row, `(N, 1)` stride."""
    corners, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(wh[0] // stride), np.arange(wh[1] // stride))
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((columns.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _follows(before: TensorSpec, after: TensorSpec) -> bool:
    old, new = before.name.lower(), after.name.lower()
    swapped = {old.replace("past", "present"), old.replace("_in", "_out"), old.replace("in_", "out_")} - {old}
    return new in swapped | {stem + end for stem in (old, old.removesuffix("0")) for end in _NEXT}


def _same_form(before: TensorSpec, after: TensorSpec) -> bool:
    several = any(side != 1 for side in before.shape)
    return several and before.dtype.kind == "f" and (before.shape, before.dtype) == (after.shape, after.dtype)
