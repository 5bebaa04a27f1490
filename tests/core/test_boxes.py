import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.core.boxes import (
    CANDIDATES,
    around,
    cxcywh_to_xyxy,
    iou,
    nms,
    probiou,
    rotated_nms,
    rotated_to_detections,
    to_detections,
)
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


def plain_probiou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two rotated boxes, by the matrices that the paper writes, one pair at a time."""

    def normal(box):
        x, y, width, height, angle = box
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.array([x, y]), turn @ np.diag([width**2 / 12, height**2 / 12]) @ turn.T

    (at, spread), (other, wide) = normal(a), normal(b)
    mean = (spread + wide) / 2
    distance = (at - other) @ np.linalg.inv(mean) @ (at - other) / 8
    distance += math.log(np.linalg.det(mean) / math.sqrt(np.linalg.det(spread) * np.linalg.det(wide))) / 2
    return 1 - math.sqrt(max(0.0, 1 - math.exp(-distance)))


def plain_fast_nms(boxes, scores, classes, threshold: float) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    return [
        i
        for rank, i in enumerate(order)
        if not any(classes[i] == classes[k] and plain_probiou(boxes[i], boxes[k]) > threshold for k in order[:rank])
    ]


@st.composite
def rotated_scenes(draw):
    n = draw(st.integers(0, 12))
    corner, side = st.integers(-10, 30), st.integers(1, 20)
    angle = st.floats(-3.0, 3.0, width=32)
    rows = draw(st.lists(st.tuples(corner, corner, side, side, angle), min_size=n, max_size=n))
    scores = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.float32) / 5
    classes = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32)
    return np.array(rows, np.float32).reshape(-1, 5), scores, classes


@given(rotated_scenes(), st.floats(0.05, 0.95))
def test_rotated_nms_keeps_what_no_better_box_of_its_class_is_too_much_like(scene, threshold):
    boxes, scores, classes = scene
    alike = [plain_probiou(a, b) for a in boxes.tolist() for b in boxes.tolist()]
    assume(all(abs(share - threshold) > 1e-5 for share in alike))
    assert rotated_nms(boxes, scores, classes, threshold, 100).tolist() == plain_fast_nms(
        boxes.tolist(), scores.tolist(), classes.tolist(), threshold
    )


@given(rotated_scenes())
def test_probiou_is_what_the_paper_says_for_every_pair(scene):
    boxes, _, _ = scene
    wanted = [[plain_probiou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    np.testing.assert_allclose(probiou(boxes, boxes), np.array(wanted).reshape(len(boxes), len(boxes)), atol=1e-5)


def test_probiou_of_a_box_with_itself_turned_by_half_a_turn_is_one():
    box = np.array([[50, 40, 30, 10, 0.3]], np.float32)
    np.testing.assert_allclose(probiou(box, box + np.float32([0, 0, 0, 0, math.pi])), 1, atol=1e-3)


def test_many_rotated_boxes_are_compared_in_blocks_as_they_are_at_once():
    rng = np.random.default_rng(4)
    boxes = np.stack([*rng.uniform(0, 200, (2, 300)), *rng.uniform(5, 60, (2, 300)), rng.uniform(-1, 2, 300)], axis=1)
    boxes, scores = boxes.astype(np.float32), rng.uniform(0, 1, 300).astype(np.float32)
    ranked = np.argsort(-scores)
    alike = np.triu(probiou(boxes[ranked], boxes[ranked]) > 0.3, 1)
    assert rotated_nms(boxes, scores, np.zeros(300), 0.3, 300).tolist() == ranked[~alike.any(axis=0)].tolist()


def test_a_rotated_box_goes_by_a_better_one_that_went_itself():
    boxes = np.array([[0, 0, 20, 20, 0], [6, 0, 20, 20, 0], [12, 0, 20, 20, 0]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert probiou(boxes, boxes)[0, 2] < 0.4 < probiou(boxes, boxes)[1, 2]
    assert rotated_nms(boxes, scores, np.zeros(3), 0.4, 10).tolist() == [0]


def test_rotated_nms_keeps_at_most_the_limit_and_looks_at_the_best_candidates():
    n = CANDIDATES + 50
    boxes = np.array([[i * 100, 0, 10, 10, 0] for i in range(n)], np.float32)
    scores = np.arange(n, dtype=np.float32)
    assert rotated_nms(boxes, scores, np.zeros(n), 0.5, 3).tolist() == [n - 1, n - 2, n - 3]
    assert len(rotated_nms(boxes, scores, np.zeros(n), 0.5, n)) == CANDIDATES


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 1), (1.0, 3)])
def test_rotated_nms_at_the_ends_of_its_threshold(threshold, kept):
    boxes = np.array([[50, 50, 20, 10, 0.1]] * 2 + [[52, 50, 20, 10, 0.1]], np.float32)
    assert len(rotated_nms(boxes, np.ones(3, np.float32), np.zeros(3), threshold, 10)) == kept


@pytest.mark.parametrize(
    ("angle", "wanted"),
    [
        (0, [40, 45, 60, 55]),
        (math.pi / 2, [45, 40, 55, 60]),
        (-math.pi / 2, [45, 40, 55, 60]),
        (math.pi / 4, [39.3934, 39.3934, 60.6066, 60.6066]),
        (math.pi, [40, 45, 60, 55]),
    ],
)
def test_the_rectangle_around_a_rotated_box_touches_its_corners(angle, wanted):
    np.testing.assert_allclose(around(np.array([[50, 50, 20, 10, angle]], np.float32)), [wanted], atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(5))
def test_broken_rotated_rows_are_left_out_and_the_others_stay(bad, column):
    boxes = np.array([[30, 30, 10, 10, 0.2], [60, 60, 10, 10, 0.2], [80, 80, 0, 10, 0.2]], np.float32)
    boxes[1, column] = bad
    for threshold in (0.5, None):
        found = rotated_to_detections(boxes, np.ones(3, np.float32), np.arange(3), SQUARE, 10, threshold)
        assert found.classes.tolist() == [0]
