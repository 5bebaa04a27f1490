"""Boxes: overlap, non-maximum suppression, and the way from a decoder's candidates to detections.

Boxes are `(N, 4)` xyxy: left, top, right, bottom, in pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.datatypes import Array, Detections, FloatArray
from edge_agent.core.letterbox import Letterbox

CANDIDATES = 1000
"""At most so many of the best candidates enter NMS: its time grows with their square (1000 take about 5 ms)."""

_FAR_PX = 1e5
"""Boxes are cut to this distance from the model's corner: one absurd box must not cost the others their precision."""


def cxcywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """`(N, 4)` centre x, centre y, width, height as xyxy, in the same unit."""
    half = boxes[:, 2:4] * np.float32(0.5)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """`(N, M)` intersection over union of each box of `a` with each of `b`, 0..1; 0 where both have no area."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    either = _area(a)[:, None] + _area(b)[None, :] - both
    shares: FloatArray = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shares


def nms(boxes: FloatArray, scores: FloatArray, classes: Array, iou_threshold: float, limit: int) -> NDArray[np.intp]:
    """Class-aware greedy non-maximum suppression: the indices of at most `limit` boxes to keep, best score first.

    A box goes when its IoU with a better kept box of its class is above `iou_threshold`. Of equal scores the one
    with the smaller index counts as better, so that the result is always the same. Only the best `CANDIDATES` are
    looked at. `boxes` `(N, 4)` finite with a positive area, `scores` `(N,)` finite, `classes` `(N,)` integers.
    """
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    if len(order) > 1:
        rank = np.arange(len(order), 0, -1)  # in place of scores: distinct and positive, as NMSBoxes wants them
        apart = _apart(boxes[order].astype(np.float64), classes[order])
        kept = cv2.dnn.NMSBoxes(apart.tolist(), rank.tolist(), 0.0, iou_threshold)
        order = order[np.asarray(kept).ravel()]
    return order[:limit]


def to_detections(
    boxes: FloatArray,
    scores: FloatArray,
    classes: Array,
    letterbox: Letterbox,
    limit: int,
    iou_threshold: float | None,
) -> Detections:
    """Candidates in pixels of the model input as detections in the frame, best first; at most `limit`.

    Rows with NaN or infinite numbers and boxes without an area inside the frame are left out. `iou_threshold` None
    leaves NMS out, for models that have done it themselves.
    """
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes = np.clip(boxes, -_FAR_PX, _FAR_PX)
    sound = np.flatnonzero(finite & _has_area(boxes))
    boxes, scores, classes = boxes[sound], scores[sound], classes[sound]
    if iou_threshold is None:
        kept = np.argsort(-scores, kind="stable")[:limit]
    else:
        kept = nms(boxes, scores, classes, iou_threshold, limit)
    boxes = letterbox.to_frame(boxes[kept]).astype(np.float32, copy=False)
    found = Detections(boxes, np.clip(scores[kept], 0, 1).astype(np.float32), classes[kept].astype(np.int32))
    visible = _has_area(boxes)
    return found if visible.all() else found[visible]


def _apart(boxes: NDArray[np.float64], classes: Array) -> NDArray[np.float64]:
    """The boxes as x, y, width, height, each class moved so far to the right that no two classes touch."""
    step = boxes.max() - boxes.min() + 1
    left = boxes[:, 0] + classes * step
    return np.stack([left, boxes[:, 1], boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)


def _area(boxes: FloatArray) -> FloatArray:
    area: FloatArray = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return area


def _has_area(boxes: FloatArray) -> NDArray[np.bool_]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
