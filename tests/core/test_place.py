from functools import lru_cache

import numpy as np
import pytest

from edge_agent.core.eyesight import glimpse
from edge_agent.core.place import Place
from edge_agent.core.scene import Scene
from tests.scenes import pushed, scene, seen, with_part

BOUND = {"enter": 0.33, "leave": 0.4}
STATION = scene(1)


@lru_cache
def station():
    plane = np.mean([glimpse(seen(STATION, seed=seed)) for seed in range(4)], axis=0).astype(np.uint8)
    return Scene(plane, np.ones(plane.shape, bool))


class Watched:
    """A place, shown pictures ten times a second."""

    def __init__(self):
        self.place, self.tenths = Place(), 0

    def show(self, image, seconds):
        """Whether it was out, picture by picture."""
        told = []
        for _ in range(round(10 * seconds)):
            self.tenths += 1
            shot = seen(image, seed=self.tenths)
            self.place.look(shot, station(), self.tenths * 100_000_000, **BOUND)
            told.append(self.place.is_out)
        return told


def test_nothing_is_known_before_the_first_picture():
    place = Place()
    assert (place.in_place, place.is_out) == (None, False)


def test_a_camera_that_was_pushed_is_out_with_the_third_picture_and_in_with_the_fourth_after():
    watched = Watched()
    assert not any(watched.show(STATION, 4))
    assert watched.place.in_place > 0.9
    assert watched.show(pushed(STATION, 0.03), 1)[:4] == [False, False, True, True]
    assert watched.place.in_place < 0.1
    assert watched.show(STATION, 1)[:5] == [True, True, True, False, False]
    assert watched.place.in_place > 0.9


def test_a_camera_that_was_turned_is_found_by_the_smooth_picture_in_seconds():
    watched = Watched()
    watched.show(STATION, 5)
    told = watched.show(pushed(STATION, turned_deg=5), 15)
    assert 2 < told.index(True) / 10 < 10
    assert all(told[told.index(True) :])
    assert not watched.show(STATION, 15)[-1]


def test_one_picture_from_elsewhere_means_nothing():
    watched = Watched()
    for _ in range(10):
        assert not any(watched.show(STATION, 1))
        assert not any(watched.show(pushed(STATION, 0.05), 0.2))


def test_another_scene_before_the_camera_is_not_the_same_one_elsewhere():
    watched = Watched()
    watched.show(STATION, 5)
    for number in range(20, 26):
        assert not any(watched.show(scene(number), 1))
        watched.show(STATION, 3)


@pytest.mark.parametrize("x", [0, 150, 300, 450])
def test_a_part_that_stands_there_for_long_does_not_matter(x):
    assert not any(Watched().show(with_part(STATION, x), 10))


def test_pictures_that_tell_nothing_are_passed_over_for_half_a_second():
    watched = Watched()
    watched.show(STATION, 4)
    now_ns = watched.tenths * 100_000_000
    watched.place.pass_over(now_ns + 400_000_000)
    assert watched.place.in_place > 0.9
    watched.place.pass_over(now_ns + 600_000_000)
    assert watched.place.in_place is None


def test_more_than_five_pictures_a_second_are_not_looked_at_while_all_is_well():
    place = Place()
    place.look(seen(STATION), station(), 0, **BOUND)
    was = place.in_place
    for number in range(1, 10):
        place.look(scene(2), station(), number * 20_000_000, **BOUND)
    assert place.in_place == was


def test_a_picture_of_another_size_cannot_tell():
    place = Place()
    place.look(np.zeros((10, 12, 3), np.uint8), station(), 0, **BOUND)
    assert place.in_place is None
