"""Which box is which object: overlap with where objects should be, and how wrong that was for all of them alike.

Boxes are `(N, 4) float32` xyxy in frame pixels.
"""

from collections.abc import Sequence

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Array, FloatArray


def best_pairs(affinity: Array) -> list[tuple[int, int]]:
    """Rows and columns, each at most once, greedily from the greatest affinity down; 0 is no pair."""
    rows, columns = np.nonzero(affinity)
    best_first = sorted(zip((-affinity[rows, columns]).tolist(), rows.tolist(), columns.tolist(), strict=True))
    free_rows, free_columns = [True] * affinity.shape[0], [True] * affinity.shape[1]
    pairs: list[tuple[int, int]] = []
    for _, row, column in best_first:
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    return pairs


def alike(boxes: FloatArray, least_iou: float) -> Array:
    """`(K, 2)` pairs of boxes with a greater IoU: the later one first, in its order.

    Only boxes that begin near each other are compared, along the way on which they lie furthest apart: the time grows
    with the boxes and with how many crowd in one place, not with the square of all.
    """
    axis = int(np.ptp(boxes[:, 1]) > np.ptp(boxes[:, 0])) if len(boxes) else 0
    order = np.argsort(boxes[:, axis], kind="stable")
    start, end = boxes[order, axis], boxes[order, axis + 2]
    # what begins further on shares too little of it; a hair less than that, for it is rounded
    reach = np.searchsorted(start, end - np.float32(0.999 * least_iou) * (end - start), "right")
    here = np.arange(len(boxes))
    further = np.maximum(reach - here - 1, 0)
    first = np.repeat(here, further)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(further) - further, further)
    pairs = np.sort(np.stack([order[first], order[second]], axis=1), axis=1)[:, ::-1]
    pairs = pairs[_iou_of_pairs(boxes[pairs[:, 0]], boxes[pairs[:, 1]]) > least_iou]
    ordered: Array = pairs[np.lexsort(pairs.T[::-1])]
    return ordered


def _iou_of_pairs(a: FloatArray, b: FloatArray) -> Array:
    """`(N,)` of each box of `a` with the one of `b` in its row."""
    extent = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    both = np.prod(np.maximum(extent, 0), axis=1)
    either = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - both
    shares: Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shares


def explained(overlap: Array) -> Array:
    """How much of objects and boxes a match explains, in objects: overlaps `(…, N, M)`, 0..1 each."""
    shares: Array = np.minimum(overlap.max(axis=-1).sum(axis=-1), overlap.max(axis=-2).sum(axis=-1))
    return shares


def shifts_between(guesses: FloatArray, boxes: FloatArray) -> FloatArray:
    """`(N, M, 2)` pixels from the centre of each guess to that of each box."""
    return centres(boxes)[None] - centres(guesses)[:, None]


def overlaps_after(shifts: FloatArray, guesses: FloatArray, boxes: FloatArray) -> FloatArray:
    """`(K, N, M)` IoU of the guesses, moved by each of `(K, 2)` shifts, with the boxes."""
    moved = guesses[None] + np.tile(shifts, 2)[:, None]
    return iou(moved.reshape(-1, 4), boxes).reshape(len(shifts), len(guesses), len(boxes))


def as_rows(boxes: Sequence[FloatArray]) -> FloatArray:
    """`(N, 4)` from at least one box `(4,)`: several times faster than `np.stack`."""
    return np.concatenate(boxes).reshape(-1, 4)


def centres(boxes: FloatArray) -> FloatArray:
    """`(N, 2)` in pixels."""
    middle: FloatArray = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    return middle


def sizes(boxes: FloatArray) -> FloatArray:
    """`(N, 2)` width and height in pixels, never 0."""
    extent: FloatArray = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(1e-3))
    return extent


def around(boxes: FloatArray) -> FloatArray:
    """`(4,)` the smallest box around all."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def shares_under(boxes: FloatArray, others: FloatArray) -> Array:
    """`(N, M)` the share of each box that lies under each of the others."""
    over = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    np.clip(over, 0, None, out=over)
    shares: Array = over[..., 0] * over[..., 1] / np.prod(sizes(boxes), axis=1)[:, None]
    return shares


def contains(boxes: FloatArray, points: FloatArray) -> Array:
    """`(N, M) bool`: whether each box has each of the points `(M, 2)` within it."""
    left, top, right, bottom = boxes.T[..., None]
    x, y = points.T
    inside: Array = (left <= x) & (x <= right)  # a side at a time is fast
    inside &= (top <= y) & (y <= bottom)
    return inside


def centred(boxes: FloatArray, frame: FloatArray) -> FloatArray:
    """The boxes, moved together so that the smallest box around them has the same centre as `frame` `(4,)`."""
    off = frame - around(boxes)
    return boxes + np.tile((off[:2] + off[2:]) / 2, 2)
