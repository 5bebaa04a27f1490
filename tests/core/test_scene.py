import numpy as np
import pytest

from edge_agent.core.eyesight import TURNS, sampled
from edge_agent.core.scene import Scene
from tests.scenes import blurred, plain, pushed, scene, seen, with_part

SEEDS = range(6)
MOVED = 0.33


def smooth(image, sigma=3, gain=1.0):
    return np.mean([sampled(seen(image, sigma, gain, turn), turn) for turn in range(TURNS)], axis=0).astype(np.float32)


def scene_of(image, steady=None):
    plane = smooth(image).astype(np.uint8)
    return Scene(plane, np.ones(plane.shape, bool) if steady is None else steady)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_camera_that_stands_still_finds_everything_in_place(seed):
    image = scene(seed)
    wanted = scene_of(image)
    assert wanted.can_tell
    for changed in ({}, {"sigma": 8}, {"gain": 0.8}, {"gain": 1.2}, {"gain": 0.5}):
        assert wanted.in_place(smooth(image, **changed)) > 0.85
    shadow = np.clip(image * np.linspace(0.6, 1.2, image.shape[1])[None, :, None], 0, 255).astype(np.uint8)
    assert wanted.in_place(smooth(shadow)) > 0.85
    assert wanted.in_place(smooth(blurred(image, 1.5))) > 0.7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("push", [(0.02, 0), (0, 0.02), (0.05, 0), (0, 0.05), (-0.05, 0.05)])
def test_a_camera_that_was_pushed_finds_hardly_anything(seed, push):
    assert scene_of(scene(seed)).in_place(smooth(pushed(scene(seed), *push))) < MOVED


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("push", [(0.02, 0), (0, 0.03), (0.05, 0), (-0.05, 0.05), (0.08, -0.08)])
def test_what_was_pushed_is_found_elsewhere(seed, push):
    assert scene_of(scene(seed)).elsewhere(smooth(pushed(scene(seed), *push))) > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_in_place_hidden_or_another_scene_is_not_found_elsewhere(seed):
    wanted = scene_of(scene(seed))
    for image in (scene(seed), blurred(scene(seed), 6), plain(120), *(scene(other) for other in range(20, 30))):
        assert wanted.elsewhere(smooth(image)) < 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_camera_that_was_turned_finds_hardly_anything(seed):
    assert scene_of(scene(seed)).in_place(smooth(pushed(scene(seed), turned_deg=5))) < MOVED


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("x", [0, 150, 300, 450])
def test_a_large_part_that_stands_there_does_not_move_the_camera(seed, x):
    image = scene(seed)
    assert scene_of(image).in_place(smooth(with_part(image, x))) > MOVED


@pytest.mark.parametrize("shift_px", [0.5, 1, 2])
def test_a_camera_that_shakes_by_a_pixel_has_not_moved(shift_px):
    image = scene(1)
    assert scene_of(image).in_place(smooth(pushed(image, shift_px / 640, shift_px / 360))) > 0.5


def test_rails_along_the_belt_do_not_hide_a_push_along_them():
    image = plain(150)
    image[40:46] = 40
    image[300:306] = 40
    for x in (100, 300, 500):
        image[46:300, x : x + 5] = 90
    wanted = scene_of(image)
    assert wanted.in_place(smooth(image)) > 0.9
    assert wanted.in_place(smooth(pushed(image, 0.03))) < MOVED


def test_what_moves_while_the_baseline_is_taken_does_not_count():
    image = scene(2)
    steady = np.ones(smooth(image).shape, bool)
    steady[:, :64] = False
    half = image.copy()
    half[:, :320] = 128
    assert scene_of(image, steady).in_place(smooth(half)) > 0.9
    assert scene_of(image, steady).tiles < scene_of(image).tiles


@pytest.mark.parametrize("image", [plain(0), plain(255), plain(120)], ids=["black", "white", "grey"])
def test_a_plain_scene_cannot_tell(image):
    wanted = scene_of(image)
    assert not wanted.can_tell
    assert wanted.in_place(smooth(image)) is None


def test_a_picture_of_another_shape_cannot_tell():
    assert scene_of(scene()).in_place(np.zeros((10, 12), np.float32)) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (7, 7), (8, 8), (9, 128)])
def test_the_smallest_planes_are_no_error(shape):
    wanted = Scene(np.zeros(shape, np.uint8), np.ones(shape, bool))
    assert wanted.in_place(np.zeros(shape, np.float32)) is None
