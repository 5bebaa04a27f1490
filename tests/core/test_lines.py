from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.lines import DIRECTIONS, crosses, distances_to, normal_along

UPRIGHT = ((0.5, 0.0), (0.5, 1.0))
LEVEL = ((0.0, 0.5), (1.0, 0.5))
WAYS = {
    "right": (UPRIGHT, (0.4, 0.5), (0.6, 0.5)),
    "left": (UPRIGHT, (0.6, 0.5), (0.4, 0.5)),
    "down": (LEVEL, (0.5, 0.4), (0.5, 0.6)),
    "up": (LEVEL, (0.5, 0.6), (0.5, 0.4)),
}
OPPOSITE = {"right": "left", "left": "right", "up": "down", "down": "up"}


@pytest.mark.parametrize("way", WAYS)
def test_a_line_is_crossed_its_own_way(way):
    line, before, now = WAYS[way]
    assert crosses(line, way, before, now)


@pytest.mark.parametrize("way", WAYS)
def test_a_line_is_not_crossed_the_other_way(way):
    line, before, now = WAYS[way]
    assert not crosses(line, OPPOSITE[way], before, now)


@pytest.mark.parametrize("way", WAYS)
def test_any_counts_both_ways(way):
    line, before, now = WAYS[way]
    assert crosses(line, "any", before, now)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_order_of_the_two_points_of_a_line_does_not_matter(direction):
    for line, before, now in WAYS.values():
        if normal_along(line, direction) is not None:
            assert crosses(line, direction, before, now) == crosses(line[::-1], direction, before, now)


@pytest.mark.parametrize(("line", "direction"), [(UPRIGHT, "up"), (UPRIGHT, "down"), (LEVEL, "left"), (LEVEL, "right")])
def test_a_line_that_runs_the_way_of_the_parts_is_never_crossed(line, direction):
    assert normal_along(line, direction) is None
    assert not crosses(line, direction, (0.1, 0.1), (0.9, 0.9))


@pytest.mark.parametrize(
    ("direction", "expected"), [("right", True), ("left", False), ("down", True), ("up", False), ("any", True)]
)
def test_a_slanted_line_has_a_side_for_each_direction(direction, expected):
    rising = ((0.3, 0.8), (0.8, 0.3))  # y points down: it leans to the right
    assert crosses(rising, direction, (0.4, 0.4), (0.7, 0.7)) is expected
    assert crosses(rising, direction, (0.7, 0.7), (0.4, 0.4)) is (direction == "any" or not expected)


def test_beside_the_ends_of_a_line_nothing_is_crossed():
    short = ((0.5, 0.4), (0.5, 0.6))
    assert not crosses(short, "right", (0.4, 0.3), (0.6, 0.3))
    assert not crosses(short, "right", (0.4, 0.7), (0.6, 0.7))


def test_the_ends_belong_to_the_line():
    short = ((0.5, 0.25), (0.5, 0.75))
    assert crosses(short, "right", (0.25, 0.25), (0.75, 0.25))
    assert crosses(short, "right", (0.25, 0.75), (0.75, 0.75))


def test_what_counts_is_where_the_way_meets_the_line_and_not_where_it_ends():
    short = ((0.5, 0.4), (0.5, 0.6))
    assert crosses(short, "right", (0.3, 0.2), (0.7, 0.8))
    assert not crosses(short, "right", (0.45, 0.0), (0.9, 0.5))


def test_a_point_on_the_line_is_beyond_it():
    assert crosses(UPRIGHT, "right", (0.4, 0.5), (0.5, 0.5))
    assert not crosses(UPRIGHT, "right", (0.5, 0.5), (0.6, 0.5))
    assert not crosses(UPRIGHT, "right", (0.5, 0.5), (0.5, 0.5))


def test_who_waits_on_the_line_and_goes_back_crosses_it_the_other_way_only_for_any():
    assert not crosses(UPRIGHT, "right", (0.5, 0.5), (0.4, 0.5))
    assert crosses(UPRIGHT, "any", (0.4, 0.5), (0.5, 0.5)) != crosses(UPRIGHT, "any", (0.5, 0.5), (0.6, 0.5))


POINTS = st.tuples(st.floats(0, 1), st.floats(0.01, 0.99))


@settings(deadline=None)
@given(st.lists(POINTS, min_size=2, max_size=30), st.sampled_from(["right", "left"]))
def test_on_any_way_crossings_there_and_back_take_turns(way, direction):
    steps = list(pairwise(way))
    there = [i for i, (a, b) in enumerate(steps) if crosses(UPRIGHT, direction, a, b)]
    is_beyond = (lambda p: p[0] >= 0.5) if direction == "right" else (lambda p: p[0] <= 0.5)
    assert there == [i for i, (a, b) in enumerate(steps) if not is_beyond(a) and is_beyond(b)]


@settings(deadline=None)
@given(st.lists(POINTS, min_size=2, max_size=30))
def test_any_counts_every_change_of_sides_once(way):
    steps = list(pairwise(way))
    crossings = sum(crosses(UPRIGHT, "any", a, b) for a, b in steps)
    sides = [x < 0.5 for x, _ in way]
    changes = sum(a != b for a, b in pairwise(sides))
    assert crossings == changes


def test_the_distance_to_a_line_is_that_to_its_nearest_point_and_ends_count():
    points = np.array([[3, 5], [0, 5], [0, -4], [3, 14]], np.float32)
    assert distances_to(((0, 0), (0, 10)), points).tolist() == [3, 0, 4, 5]
