"""Which box is which object: overlap with where objects should be, and how wrong that was for all of them alike.

Boxes are `(N, 4) float32` xyxy in frame pixels.
"""

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Array, FloatArray


def best_pairs(affinity: Array) -> list[tuple[int, int]]:
    """Rows and columns, each at most once, greedily from the greatest affinity down; 0 is no pair."""
    affinity = affinity.copy()
    pairs: list[tuple[int, int]] = []
    while affinity.flat[best := int(affinity.argmax())] > 0:
        row, column = divmod(best, affinity.shape[1])
        pairs.append((row, column))
        affinity[row, :] = affinity[:, column] = 0
    return pairs


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
    inside = (boxes[:, None, :2] <= points[None]) & (points[None] <= boxes[:, None, 2:])
    return np.asarray(inside.all(axis=2))


def centred(boxes: FloatArray, frame: FloatArray) -> FloatArray:
    """The boxes, moved together so that the smallest box around them has the same centre as `frame` `(4,)`."""
    off = frame - around(boxes)
    return boxes + np.tile((off[:2] + off[2:]) / 2, 2)
