"""Heads of detection models: what their shapes tell, and the grids of those without anchors.

An anchor-free head makes one prediction for every cell of 8, 16 and 32 pixels of the model input.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edge_agent.core.datatypes import FloatArray, ModelSpec, TensorSpec
from edge_agent.errors import ModelError

STRIDES = (8, 16, 32)

Layout = Literal["channels_first", "anchors_first"]
"""Of a head's output: `[1, columns, cells]` or `[1, cells, columns]`."""

_CHANNELS = (1, 3)


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


def labels_for(model: ModelSpec, classes: int) -> tuple[str, ...]:
    """The name of each of `classes` classes: the model's labels, or `class_0`, `class_1`, … where it has none.

    Raises:
        ModelError: there are more labels than classes, or fewer.
    """
    if model.labels and len(model.labels) != classes:
        raise ModelError(
            f"{model.name}: there are {len(model.labels)} labels, but the output {model.outputs[0]} has {classes} "
            "classes; give the labels file that belongs to the model"
        )
    return model.labels or tuple(f"class_{number}" for number in range(classes))
