import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.boxes import iou
from edge_agent.core.matching import alike, best_pairs, contains

PLACES = st.integers(0, 60)
SIDES = st.integers(0, 30)  # some boxes have no area


@st.composite
def some_boxes(draw):
    rows = draw(st.lists(st.tuples(PLACES, PLACES, SIDES, SIDES), max_size=12))
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float32).reshape(-1, 4)


def greedily(affinity):
    """By its definition: the greatest of what is left, the first of equal ones."""
    affinity, pairs = affinity.copy(), []
    while affinity.size and affinity.max() > 0:
        row, column = np.unravel_index(affinity.argmax(), affinity.shape)
        pairs.append((row, column))
        affinity[row, :] = affinity[:, column] = 0
    return pairs


@given(some_boxes(), st.sampled_from([0.1, 0.45, 0.9]))
def test_alike_are_the_pairs_whose_iou_is_greater_the_later_one_first(boxes, least):
    assert alike(boxes, least).tolist() == np.argwhere(np.tril(iou(boxes, boxes), -1) > least).tolist()


@given(
    st.integers(1, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.sampled_from([0, 0.5, 1, 1.7]), min_size=columns, max_size=columns), min_size=1
        )
    )
)
def test_the_best_pairs_are_taken_first_and_of_equal_ones_the_first(rows):
    assert best_pairs(np.array(rows)) == greedily(np.array(rows))


def test_a_box_contains_what_lies_on_its_edge():
    boxes = np.array([(0, 0, 10, 10), (5, 5, 20, 20)], np.float32)
    points = np.array([(10, 10), (0, 5), (21, 10)], np.float32)
    assert contains(boxes, points).tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("axis", [0, 1], ids=["in a row", "in a column"])
def test_a_thousand_boxes_side_by_side_cost_far_less_than_a_hundred_times_a_hundred(axis):
    def least_s(number):
        boxes = np.zeros((number, 4), np.float32)
        boxes[:, axis] = 10 * np.arange(number)
        boxes[:, 2:] = boxes[:, :2] + 8
        return min(timed(boxes) for _ in range(5))

    def timed(boxes):
        began_s = time.process_time()
        alike(boxes, 0.45)
        return time.process_time() - began_s

    assert least_s(1000) < 20 * least_s(100)
