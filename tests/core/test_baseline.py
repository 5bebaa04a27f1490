import numpy as np
import pytest

from edge_agent.core.baseline import Spread, sum_up
from edge_agent.core.eyesight import look_at, sampled
from tests.scenes import plain, scene, seen, with_part


def baseline_of(pictures):
    smooth = np.mean([sampled(picture, turn) for turn, picture in enumerate(pictures)], axis=0)
    return sum_up("top", [look_at(picture) for picture in pictures], smooth, 25.0)


def test_a_spread_leaves_the_outer_twentieths_out():
    assert Spread.of(range(101)) == Spread(5, 50, 95)
    assert Spread.of([3]) == Spread(3, 3, 3)


def test_a_baseline_says_what_the_pictures_are_like():
    found = baseline_of([seen(scene(), seed=seed) for seed in range(32)])
    look = look_at(seen(scene()))
    assert (found.camera, found.size, found.fps) == ("top", (640, 360), 25)
    assert found.brightness.median == pytest.approx(look.brightness, abs=1)
    assert found.sharpness.low <= found.sharpness.median <= found.sharpness.high
    assert found.sharpness.median == pytest.approx(look.sharpness, rel=0.1)
    assert found.plane.shape == found.steady.shape == look.plane.shape


def test_noise_leaves_everything_steady():
    for sigma in (0, 1, 8):
        assert baseline_of([seen(scene(), sigma, seed=seed) for seed in range(32)]).steady.mean() > 0.98


def test_where_parts_move_it_is_not_steady():
    found = baseline_of([seen(with_part(scene(), 100 + 8 * number), seed=number) for number in range(32)])
    assert not found.steady[28:44, 30:70].all(axis=0).any()
    assert found.steady[:10].mean() > 0.95


def test_a_plain_picture_has_no_sharpness():
    assert baseline_of([seen(plain(128), 1, seed=seed) for seed in range(8)]).sharpness is None
