from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.core.boxes import CANDIDATES, cxcywh_to_xyxy, iou, nms, to_detections
from edge_agent.core.letterbox import Letterbox

SQUARE = Letterbox.fit((100, 100), (100, 100))


def plain_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def plain_nms(boxes, scores, classes, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(classes[i] == classes[k] and plain_iou(boxes[i], boxes[k]) > threshold for k in kept):
            kept.append(i)
    return kept


@st.composite
def scenes(draw):
    """Boxes on a small canvas, so that many overlap, with scores of few values, so that many are equal."""
    n = draw(st.integers(0, 25))
    corner = st.integers(-10, 30)
    side = st.integers(1, 20)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=n, max_size=n))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)
    boxes *= np.float32(draw(st.sampled_from([0.37, 1.0, 41.3])))
    scores = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.float32) / 5
    classes = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32)
    return boxes, scores, classes


@given(scenes(), st.floats(0, 1))
def test_nms_keeps_what_a_plain_greedy_loop_keeps_in_the_same_order(scene, threshold):
    boxes, scores, classes = scene
    overlaps = [plain_iou(a, b) for a in boxes.tolist() for b in boxes.tolist()]
    assume(all(abs(overlap - threshold) > 1e-5 for overlap in overlaps))
    assert nms(boxes, scores, classes, threshold, 100).tolist() == plain_nms(
        boxes.tolist(), scores.tolist(), classes.tolist(), threshold
    )


@given(scenes())
def test_iou_is_what_it_says_for_every_pair(scene):
    boxes, _, _ = scene
    wanted = [[plain_iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    np.testing.assert_allclose(iou(boxes, boxes), np.array(wanted).reshape(len(boxes), len(boxes)), atol=1e-4)


def test_iou_of_boxes_without_an_area_is_zero():
    point = np.array([[5, 5, 5, 5]], np.float32)
    assert iou(point, point) == 0


def test_of_two_equal_scores_the_first_one_is_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    assert nms(boxes, np.array([0.5, 0.5], np.float32), np.zeros(2, np.int32), 0.5, 10).tolist() == [0]


def test_boxes_of_different_classes_never_suppress_each_other():
    boxes = np.array([[-50, 0, 10, 10]] * 3, np.float32)
    kept = nms(boxes, np.array([0.1, 0.3, 0.2], np.float32), np.array([0, 79, 4000]), 0.5, 10)
    assert kept.tolist() == [1, 2, 0]


def test_nms_keeps_at_most_the_limit_and_the_best_of_them():
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(50)], np.float32)
    assert nms(boxes, np.arange(50, dtype=np.float32), np.zeros(50, np.int32), 0.5, 3).tolist() == [49, 48, 47]


def test_a_flood_of_boxes_is_cut_to_the_best_candidates():
    n = CANDIDATES + 500
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(n)], np.float32)
    kept = nms(boxes, np.arange(n, dtype=np.float32), np.zeros(n, np.int32), 0.5, n)
    assert kept.tolist() == list(range(n - 1, 499, -1))


def test_no_boxes_give_no_indices():
    assert nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), 0.5, 10).size == 0


def test_centre_and_size_become_corners():
    assert cxcywh_to_xyxy(np.array([[10, 20, 4, 6]], np.float32)).tolist() == [[8, 17, 12, 23]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_rows_are_left_out_and_the_others_stay(bad):
    boxes = np.array([[1, 1, 9, 9], [bad, 1, 9, 9], [20, 20, 30, 30]], np.float32)
    scores = np.array([0.9, 0.8, bad], np.float32)
    found = to_detections(boxes, scores, np.array([0, 1, 2], np.int32), SQUARE, 10, 0.5)
    assert found.classes.tolist() == [0]


def test_an_absurdly_large_box_does_not_keep_others_from_suppressing_each_other():
    boxes = np.array([[-1e30, -1e30, 1e30, 1e30], [10, 10, 20, 20], [10, 10, 20, 20]], np.float32)
    found = to_detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([5, 9, 9]), SQUARE, 10, 0.5)
    assert found.boxes.tolist() == [[0, 0, 100, 100], [10, 10, 20, 20]]


def test_boxes_without_an_area_in_the_frame_are_left_out():
    boxes = np.array([[10, 10, 10, 20], [9, 9, 5, 12], [-20, 0, -10, 50], [100, 0, 120, 50]], np.float32)
    assert len(to_detections(boxes, np.ones(4, np.float32), np.arange(4), SQUARE, 10, 0.5)) == 0


def test_scores_are_cut_to_one_and_ordered():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    found = to_detections(boxes, np.array([0.7, 1.004], np.float32), np.zeros(2, np.int32), SQUARE, 10, None)
    assert found.scores.tolist() == [1.0, np.float32(0.7)]


def test_without_an_iou_threshold_overlapping_boxes_all_stay():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    found = to_detections(boxes, np.array([0.1, 0.2, 0.3], np.float32), np.zeros(3, np.int32), SQUARE, 2, None)
    assert found.scores.tolist() == [np.float32(0.3), np.float32(0.2)]
