from pathlib import Path

import numpy as np

from edge_agent.app.annotate import CopyNames, annotate
from edge_agent.core.datatypes import Detections


def test_a_picture_keeps_its_stem_and_those_after_it_get_numbers():
    names = CopyNames()
    paths = [Path("a/x.jpg"), Path("b/x.jpg"), Path("x.png"), Path("y.png")]
    assert [names.of(path, None) for path in paths] == ["x.jpg", "x-2.jpg", "x-3.jpg", "y.jpg"]


def test_a_number_is_left_out_where_a_picture_has_it_in_its_name():
    names = CopyNames()
    paths = [Path("x-2.png"), Path("x.png"), Path("x.jpg"), Path("a/x-2.png")]
    assert [names.of(path, None) for path in paths] == ["x-2.jpg", "x.jpg", "x-3.jpg", "x-2-2.jpg"]


def test_all_frames_of_a_video_share_a_stem():
    names = CopyNames()
    first = [names.of(Path("a/v.avi"), number) for number in range(2)]
    second = [names.of(Path("b/v.avi"), number) for number in range(3)]
    assert first == ["v-000000.jpg", "v-000001.jpg"]
    assert second == ["v-2-000000.jpg", "v-2-000001.jpg", "v-2-000002.jpg"]


def test_a_picture_named_like_a_frame_of_a_video_does_not_overwrite_it():
    names = CopyNames()
    found = [names.of(Path("v.avi"), 0), names.of(Path("v-000000.png"), None)]
    assert found == ["v-000000.jpg", "v-000000-2.jpg"]


def test_the_same_picture_twice_makes_two_copies():
    names = CopyNames()
    assert [names.of(Path("x.png"), None) for _ in range(2)] == ["x.jpg", "x-2.jpg"]


def reds(direction, line=((0.5, 0.0), (0.5, 1.0))):
    """How far the red reaches from the middle: left, right, up, down, in pixels."""
    drawn = annotate(np.zeros((300, 400, 3), np.uint8), Detections.empty(), (), line, direction)
    rows, columns = np.nonzero((drawn == (0, 0, 255)).all(axis=2))
    return 200 - columns.min(), columns.max() - 200, 150 - rows.min(), rows.max() - 150


def test_an_arrow_shows_which_way_parts_cross_the_line():
    left, right, *_ = reds("right")
    assert (right > 25, left < 5) == (True, True)
    left, right, *_ = reds("left")
    assert (left > 25, right < 5) == (True, True)
    *_, up, down = reds("down", ((0.0, 0.5), (1.0, 0.5)))
    assert (down > 25, up < 5) == (True, True)


def test_where_any_direction_counts_there_is_an_arrow_each_way():
    left, right, *_ = reds("any")
    assert min(left, right) > 25


def test_without_a_line_there_is_no_arrow():
    drawn = annotate(np.zeros((30, 40, 3), np.uint8), Detections.empty(), ())
    assert not drawn.any()
