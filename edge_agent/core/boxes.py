"""Boxes: overlap, non-maximum suppression, and the way from a decoder's candidates to detections.

Boxes are `(N, 4)` xyxy: left, top, right, bottom, in pixels. Rotated boxes are `(N, 5)` cxcywhr: centre x, centre y,
width, height, in pixels, and the angle in radians from the x axis towards the y axis, which points down.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.datatypes import Array, Detections, FloatArray
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.quantised import lie_within

CANDIDATES = 1000
"""At most so many of the best candidates enter NMS: its time grows with their square (1000 take about 5 ms)."""

_FAR_PX = 1e5
"""Boxes are cut to this distance from the model's corner: one absurd box must not cost the others their precision."""

_BLOCK = 64
"""Rotated boxes are compared with all others so many at a time: that fits the processor's cache."""

_THIN_PX = 1e-3
"""A rotated box with a thinner side has no area worth the name, and squares that numbers cannot hold."""


def cxcywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """`(N, 4)` centre x, centre y, width, height as xyxy, in the same unit."""
    half = boxes[:, 2:4] * np.float32(0.5)
    corners = np.empty_like(boxes)  # a view of columns stays one: numpy is faster along long ones
    np.subtract(boxes[:, :2], half, out=corners[:, :2])
    np.add(boxes[:, :2], half, out=corners[:, 2:])
    return corners


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """`(N, M)` intersection over union of each box of `a` with each of `b`, 0..1; 0 where both have no area."""
    sides_a, sides_b = a.T[..., None], b.T[:, None]  # (4, N, 1) and (4, 1, M): a side at a time is fast
    common = np.minimum(sides_a[2:], sides_b[2:])
    common -= np.maximum(sides_a[:2], sides_b[:2])
    np.maximum(common, 0, out=common)
    both: FloatArray = common[0] * common[1]
    either = _area(sides_a) + _area(sides_b) - both
    return np.divide(both, either, out=both, where=either > 0)


def _area(sides: Array) -> Array:
    """Of `(4, …)` left, top, right, bottom."""
    extent = np.maximum(sides[2:] - sides[:2], 0)
    area: Array = extent[0] * extent[1]
    return area


def nms(boxes: FloatArray, scores: FloatArray, classes: Array, iou_threshold: float, limit: int) -> NDArray[np.intp]:
    """Class-aware greedy non-maximum suppression: the indices of at most `limit` boxes to keep, best score first.

    A box goes when its IoU with a better kept box of its class is above `iou_threshold`. Of equal scores the one
    with the smaller index counts as better, so that the result is always the same. Only the best `CANDIDATES` are
    looked at. `boxes` `(N, 4)` with a positive area and no more than 1e5 from 0, `scores` `(N,)` finite, `classes`
    `(N,)` integers.
    """
    order = _best_first(scores)[:CANDIDATES]
    if len(order) > 1:
        rank = list(range(len(order), 0, -1))  # in place of scores: distinct and positive, as NMSBoxes wants them
        apart = _apart(boxes.take(order, axis=0).astype(np.float64), classes.take(order))
        kept = cv2.dnn.NMSBoxes(apart.tolist(), rank, 0.0, iou_threshold)
        order = order.take(kept).ravel()
    return order[:limit]


def around(rotated: FloatArray) -> FloatArray:
    """`(N, 4)` xyxy, the upright rectangles around the rotated boxes `(N, 5)`."""
    half, angle = rotated[:, 2:4] * np.float32(0.5), rotated[:, 4:5]
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    reach = half * cos + half[:, ::-1] * sin
    return np.concatenate([rotated[:, :2] - reach, rotated[:, :2] + reach], axis=1)


def probiou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """`(N, M)` how much each rotated box of `a` and each of `b` are alike, 0..1. All have a positive area.

    Each box counts as the normal distribution with its centre and its covariance (width^2 / 12 and height^2 / 12 along
    its sides); of two, the Hellinger distance is taken from 1. Llerena et al., "Probabilistic Intersection-over-Union
    for Training and Evaluation of Oriented Object Detectors", arXiv 2106.06072, equations 4 to 8.
    """
    alike: NDArray[np.float64] = 1 - np.sqrt(-np.expm1(-_bhattacharyya(_gaussian(a), _gaussian(b))))
    return alike


def rotated_nms(
    rotated: FloatArray, scores: FloatArray, classes: Array, iou_threshold: float, limit: int
) -> NDArray[np.intp]:
    """Class-aware suppression of rotated boxes: the indices of at most `limit` of them to keep, best score first.

    A box goes when it has a `probiou` above `iou_threshold` with a better one of its class, be that one kept or not:
    Fast NMS (Bolya et al., arXiv 1904.02689, 3.3), which is what Ultralytics does with rotated boxes. Equal scores and
    `CANDIDATES` are as in `nms`. `rotated` `(N, 5)` finite with a positive area.
    """
    order = _best_first(scores)[:CANDIDATES]
    ranked, numbers = _gaussian(rotated[order]), classes[order]
    kept = np.ones(len(order), bool)
    # probiou > threshold, solved for the distance: no root and no power for each pair
    reach = -np.log1p(-((1 - iou_threshold) ** 2)) if iou_threshold > 0 else np.inf
    for number in np.unique(numbers):
        own = np.flatnonzero(numbers == number)
        for start in range(0, len(own), _BLOCK):
            worse = own[start:]
            distances = _bhattacharyya(ranked[:, worse[:_BLOCK]], ranked[:, worse])
            kept[worse] &= ~np.triu(distances < reach, 1).any(axis=0)
    return order[kept][:limit]


def rotated_to_detections(
    rotated: FloatArray,
    scores: FloatArray,
    classes: Array,
    letterbox: Letterbox,
    limit: int,
    iou_threshold: float | None,
) -> Detections:
    """As `to_detections`, of rotated boxes: what is detected is the upright rectangle around each."""
    finite = np.isfinite(rotated).all(axis=1) & np.isfinite(scores)
    boxes = np.clip(rotated, -_FAR_PX, _FAR_PX)
    sound = np.flatnonzero(finite & (boxes[:, 2:4] > _THIN_PX).all(axis=1))
    boxes, scores, classes = boxes[sound], scores[sound], classes[sound]
    if iou_threshold is not None:
        kept = rotated_nms(boxes, scores, classes, iou_threshold, limit)
        boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    return to_detections(around(boxes), scores, classes, letterbox, limit, None)


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
    if not len(boxes):
        return Detections.empty()
    if not (lie_within(boxes, _FAR_PX) and lie_within(scores, _FAR_PX) and _have_area(boxes)):
        sound = _sound(boxes, scores)
        if not sound.size:
            return Detections.empty()
        boxes, scores, classes = np.clip(boxes[sound], -_FAR_PX, _FAR_PX), scores[sound], classes[sound]
    kept = _best_first(scores)[:limit] if iou_threshold is None else nms(boxes, scores, classes, iou_threshold, limit)
    boxes = letterbox.to_frame(boxes.take(kept, axis=0)).astype(np.float32, copy=False)
    scores = np.minimum(np.maximum(scores.take(kept), 0), 1).astype(np.float32, copy=False)
    found = Detections(boxes, scores, classes.take(kept).astype(np.int32, copy=False))
    return found if _have_area(boxes) else found[_has_area(boxes)]


def _sound(boxes: FloatArray, scores: FloatArray) -> NDArray[np.intp]:
    """Which rows are finite numbers, and boxes with an area, once they are cut to `_FAR_PX`."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return np.flatnonzero(finite & _has_area(np.clip(boxes, -_FAR_PX, _FAR_PX)))


def _gaussian(rotated: FloatArray) -> NDArray[np.float64]:
    """`(6, N)`: centre x and y, variances along x and y, covariance, and the determinant of these three."""
    x, y, width, height, angle = rotated.astype(np.float64).T
    along, across = width**2 / 12, height**2 / 12
    cos, sin = np.cos(angle), np.sin(angle)
    xx, yy = along * cos**2 + across * sin**2, along * sin**2 + across * cos**2
    return np.stack([x, y, xx, yy, (along - across) * cos * sin, along * across])


def _bhattacharyya(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(N, M)` the distance of each of these normal distributions from each of those, from 0."""
    x, y = a[0][:, None] - b[0], a[1][:, None] - b[1]
    xx, yy, xy, own = a[2][:, None] + b[2], a[3][:, None] + b[3], a[4][:, None] + b[4], a[5][:, None] * b[5]
    least = 4 * np.sqrt(own)
    together = np.maximum(xx * yy - xy**2, least)  # never below, but for rounding (Minkowski's inequality)
    apart = (xx * y**2 + yy * x**2 - 2 * xy * x * y) / together
    distances: NDArray[np.float64] = np.maximum(apart, 0) / 4 + np.log(together / least) / 2
    return distances


def _best_first(scores: FloatArray) -> NDArray[np.intp]:
    """The indices, best score first; of equal ones the smaller first."""
    return (-scores).argsort(kind="stable")


def _apart(boxes: NDArray[np.float64], classes: Array) -> NDArray[np.float64]:
    """The boxes, changed in place to x, y, width, height, each class so far to the right that no two classes touch."""
    boxes[:, 2:] -= boxes[:, :2]
    boxes[:, 0] += classes * (2 * _FAR_PX + 1)
    return boxes


def _has_area(boxes: FloatArray) -> NDArray[np.bool_]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _have_area(boxes: FloatArray) -> bool:
    """Whether all of at least one have."""
    return bool(np.minimum.reduce(boxes[:, 2:] - boxes[:, :2], axis=None) > 0)
