import math
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.eyesight import PLANE, TURNS, glimpse, look_at, sampled
from tests.fixtures import needs_shared
from tests.scenes import as_jpeg, blurred, hand, plain, scene, seen, with_part
from tests.system.agents import IMAGES

PHOTOS = ["bus.jpg", "cat_720p.jpg", "dog.jpg", "kite_and_cold.jpg"]
SEEDS = range(6)


def sharpness(image):
    return look_at(image).sharpness


def test_brightness_contrast_and_shares_are_those_of_the_green_of_the_picture():
    image = plain(100)
    image[:, : image.shape[1] // 2, 1] = 255
    image[: image.shape[0] // 2, : image.shape[1] // 2, 1] = 0
    look = look_at(image)
    assert look.brightness == pytest.approx(50 + 255 / 4, abs=2)
    assert (look.black, look.clipped) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.25, abs=0.02))
    assert look.contrast == pytest.approx(float(image[:, :, 1].std()), abs=2)
    assert look.size == (640, 360)


@pytest.mark.parametrize("sigma", [0, 1, 4, 8, 15])
@pytest.mark.parametrize("compressed", [False, True])
def test_noise_on_a_plain_picture_is_no_structure(sigma, compressed):
    image = seen(plain(120), sigma)
    assert look_at(as_jpeg(image) if compressed else image).structure < 0.02


@pytest.mark.parametrize("sigma", [1, 4, 8, 15])
def test_a_hand_before_the_lens_has_no_structure(sigma):
    assert look_at(seen(hand(), sigma)).structure < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scene_has_structure_even_with_noise(seed):
    assert look_at(seen(scene(seed), 3)).structure > 0.2
    assert look_at(seen(scene(seed), 8)).structure > 0.15


def test_fine_texture_all_over_is_structure():
    rng = np.random.default_rng(1)
    assert look_at(np.clip(rng.normal(128, 40, (360, 640, 3)), 0, 255).astype(np.uint8)).structure > 0.9


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma_px", [1.5, 3, 6])
def test_a_blurred_scene_has_less_than_a_third_of_its_sharpness(seed, sigma_px):
    image = scene(seed)
    assert sharpness(seen(blurred(image, sigma_px))) < sharpness(seen(image)) / 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("changed", [{"gain": 0.8}, {"gain": 1.2}, {"gain": 0.6}, {"sigma": 1}, {"sigma": 6}])
def test_light_and_noise_are_not_taken_for_blur(seed, changed):
    image = scene(seed)
    assert sharpness(seen(image, **changed)) > 0.6 * sharpness(seen(image))


@pytest.mark.parametrize("seed", SEEDS)
def test_compression_is_not_taken_for_blur_nor_hides_it(seed):
    image = np.repeat(scene(seed)[:, :, 1:2], 3, axis=2)
    usual = sharpness(as_jpeg(seen(image), 80))
    assert sharpness(as_jpeg(seen(image), 60)) > 0.5 * usual
    assert sharpness(as_jpeg(seen(blurred(image, 3)), 80)) < usual / 3


@needs_shared
@pytest.mark.parametrize("name", PHOTOS)
def test_blurred_photos_are_told_from_sharp_ones(name):
    photo = cv2.imread(str(IMAGES / name))
    usual = sharpness(seen(photo))
    assert sharpness(seen(photo, 8)) > 0.6 * usual
    assert sharpness(seen(photo, gain=0.8)) > 0.6 * usual
    for sigma_px in (1.5, 2, 4):
        assert sharpness(seen(blurred(photo, sigma_px))) < usual / 3
        assert sharpness(as_jpeg(seen(blurred(photo, sigma_px)))) < usual / 3


def test_a_plain_picture_has_no_sharpness_that_could_be_told():
    assert sharpness(plain(90)) is None
    assert sharpness(seen(plain(90), 1)) is None


def test_a_picture_is_the_same_as_itself_and_not_as_the_next_of_a_real_sensor():
    image = scene()
    assert look_at(image).same_as(look_at(image.copy()))
    for sigma in (0.5, 1, 3):
        assert not look_at(seen(image, sigma, seed=1)).same_as(look_at(seen(image, sigma, seed=2)))


def test_pictures_of_other_sizes_are_not_the_same():
    assert not look_at(plain(9, 640, 360)).same_as(look_at(plain(9, 1280, 720)))


def test_samples_are_never_many_and_turn_by_turn_of_other_pixels():
    y, x = np.mgrid[:720, :1280]
    image = np.stack([x // 256, x % 256, y % 256], axis=2).astype(np.uint8)
    planes = [sampled(image, turn) for turn in range(TURNS)]
    assert {plane.shape for plane in planes} == {PLANE}
    columns = {tuple(plane[0]) for plane in planes}
    assert len(columns) == 4


def test_the_mean_of_all_turns_is_smooth_where_one_sample_jumps():
    image = plain(0, 1280, 720)
    image[:, 643:] = 200
    moved = plain(0, 1280, 720)
    moved[:, 648:] = 200

    def smooth(picture):
        return np.mean([sampled(picture, turn).astype(float) for turn in range(TURNS)], axis=0)

    assert np.abs(smooth(image) - smooth(moved)).max() == pytest.approx(100, abs=1)


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    fill=st.sampled_from(["black", "white", "noise", "steps"]),
    view=st.sampled_from(["whole", "mirrored", "every second", "turned"]),
)
def test_any_picture_gives_finite_numbers(height, width, fill, view):
    rng = np.random.default_rng(height * 1000 + width)
    image = {
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (height, width, 3), np.uint8),
        "steps": (np.indices((height, width)).sum(0)[..., None] * np.array([7, 90, 255])).astype(np.uint8),
    }[fill]
    look = look_at(
        {
            "whole": image,
            "mirrored": image[::-1, ::-1],
            "every second": image[::2, ::2],
            "turned": image.swapaxes(0, 1),
        }[view]
    )
    numbers = [look.brightness, look.black, look.clipped, look.contrast, look.structure]
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
    assert all(type(number) is float for number in numbers)
    assert max(look.black, look.clipped, look.structure) <= 1
    assert look.sharpness is None or (math.isfinite(look.sharpness) and look.sharpness >= 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_large_part_that_passes_is_not_taken_for_blur(seed):
    image = scene(seed)
    for x in range(0, 520, 40):
        assert sharpness(seen(with_part(image, x))) > 0.4 * sharpness(seen(image))


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (1001, 499)])
@pytest.mark.parametrize("how", ["fresh", "known", "without focus", "glimpse"])
def test_a_look_costs_no_more_than_64_kib_at_once(size, how):
    image = seen(scene(1, *size))
    before = look_at(image)
    looks = {
        "fresh": lambda: look_at(image),
        "known": lambda: look_at(image, before),
        "without focus": lambda: look_at(image, before, focus=False),
        "glimpse": lambda: glimpse(image),
    }
    tracemalloc.start()
    looks[how]()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_mean_of_four_samples_is_exact():
    image = seen(scene(3))
    height, width = image.shape[0] // PLANE[0], image.shape[1] // PLANE[1]
    cells = image[:, :, 1].reshape(PLANE[0], height, PLANE[1], width).astype(np.float64)
    corners = cells[:, [0, height // 2]][:, :, :, [0, width // 2]]
    assert np.array_equal(glimpse(image), corners.mean(axis=(1, 3)))


def test_a_look_stays_what_it_was_when_the_memory_of_its_picture_is_used_again():
    image = np.ascontiguousarray(scene()[:60, :100].transpose(2, 0, 1)).transpose(1, 2, 0)
    look, same = look_at(image), look_at(image.copy())
    image[:] = 0
    look_at(image)
    assert look.same_as(same)
