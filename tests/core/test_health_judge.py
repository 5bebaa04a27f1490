import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.core.eyesight import TURNS, sampled
from edge_agent.core.health_judge import NO_BOUND, Bound, HealthJudge, Limits
from edge_agent.core.scene import Scene
from tests.scenes import blurred, hand, plain, pushed, scene, seen, with_part

FPS = 25
LIMITS = Limits(
    brightness=Bound(40, 48),
    clipped=Bound(0.5, 0.3),
    structure=Bound(0.1, 0.12),
    sharpness=Bound(0.035, 0.042),
    in_place=Bound(0.33, 0.4),
    frozen_s=2.0,
    size=(640, 360),
)
STATION = scene(1)
POOL = [seen(STATION, seed=seed) for seed in range(24)]


def scene_of(image):
    plane = np.mean([sampled(seen(image, seed=turn), turn) for turn in range(TURNS)], axis=0).astype(np.uint8)
    return Scene(plane, np.ones(plane.shape, bool))


class Clinic:
    """An judge, shown picture after picture at a steady rate."""

    def __init__(self, limits=LIMITS, fps=FPS):
        self.judge = HealthJudge(limits)
        self.period_ns = int(1e9 / fps)
        self.seq = 0
        self.now_ns = 5_000_000_000

    def show(self, image):
        """One picture; whether a verdict may stand on it."""
        self.seq += 1
        self.now_ns += self.period_ns
        return self.judge.examine(image, self.seq, self.now_ns)

    def show_measured(self, image):
        """The same, for a picture that was measured ahead."""
        look = self.judge.measure(image, self.now_ns + self.period_ns)
        self.seq += 1
        self.now_ns += self.period_ns
        return self.judge.examine(image, self.seq, self.now_ns, look)

    def show_for(self, seconds, *pictures):
        """All of the pictures in turn; which frames were fit."""
        count = round(seconds * 1e9 / self.period_ns)
        return [self.show(pictures[number % len(pictures)]) for number in range(count)]

    @property
    def faults(self):
        return [finding.fault for finding in self.judge.findings]


def shots(image, **how):
    return [seen(image, seed=seed, **how) for seed in range(24)]


FAULTY = {
    "dark": shots(STATION, gain=0.1),
    "black": shots(plain(0)),
    "overexposed": shots(STATION, gain=4),
    "white": shots(plain(255)),
    "covered": shots(hand()),
    "grey": shots(plain(120)),
    "blurred": shots(blurred(STATION, 4)),
    "wrong_size": [picture[::2, ::2] for picture in POOL],
}
NAMED = {"black": "dark", "white": "overexposed", "grey": "covered"}


def test_a_healthy_camera_is_fit_frame_by_frame():
    clinic = Clinic()
    assert all(clinic.show_for(20, *POOL))
    assert clinic.faults == []


@pytest.mark.parametrize("fault", FAULTY)
def test_each_fault_is_found_named_and_over_by_itself(fault):
    clinic = Clinic()
    clinic.show_for(3, *POOL)
    assert not any(clinic.show_for(0.8, *FAULTY[fault]))
    assert clinic.faults == []
    clinic.show_for(0.4, *FAULTY[fault])
    assert clinic.faults == [NAMED.get(fault, fault)]
    assert not any(clinic.show_for(1.9, *POOL))
    assert clinic.faults == [NAMED.get(fault, fault)]
    clinic.show_for(0.4, *POOL)
    assert clinic.faults == []
    assert all(clinic.show_for(2, *POOL))


def test_a_single_bad_frame_is_unfit_and_no_illness():
    clinic = Clinic()
    for _ in range(20):
        assert all(clinic.show_for(1, *POOL))
        assert not clinic.show(FAULTY["black"][0])
    assert clinic.faults == []


def test_a_finding_says_what_was_measured_and_what_the_limit_is():
    clinic = Clinic()
    clinic.show_for(2, *shots(plain(20), sigma=1))
    (finding,) = clinic.judge.findings
    assert (finding.measure, finding.limit) == ("brightness", 40)
    assert finding.value == pytest.approx(20, abs=1)


def test_between_the_two_values_of_a_bound_the_last_word_stands():
    clinic = Clinic(replace(LIMITS, structure=Bound(0, 0)))
    between = shots(plain(44), sigma=1)
    assert all(clinic.show_for(3, *between))
    clinic.show_for(2, *shots(plain(30), sigma=1))
    assert not any(clinic.show_for(5, *between))
    assert clinic.faults == ["dark"]
    clinic.show_for(3, *shots(plain(60), sigma=1))
    assert clinic.faults == []


def test_a_camera_of_one_frame_in_two_seconds_needs_three_of_them():
    clinic = Clinic(fps=0.5)
    clinic.show_for(20, *POOL)
    clinic.show(FAULTY["black"][0])
    clinic.show(FAULTY["black"][1])
    assert clinic.faults == []
    clinic.show(FAULTY["black"][2])
    assert clinic.faults == ["dark"]
    clinic.show_for(4, *POOL)
    assert clinic.faults == ["dark"]
    clinic.show_for(2, *POOL)
    assert clinic.faults == []


def test_a_frozen_picture_is_found_after_its_time_and_over_with_the_next_pictures():
    clinic = Clinic()
    clinic.show_for(3, *POOL)
    assert all(clinic.show_for(1.9, POOL[0]))
    clinic.show_for(0.4, POOL[0])
    assert clinic.faults == ["frozen"]
    clinic.show_for(2.2, *POOL)
    assert clinic.faults == []


def test_a_stream_that_repeats_a_picture_for_less_than_the_time_is_not_frozen():
    clinic = Clinic()
    for number in range(40):
        assert all(clinic.show_for(1.5, POOL[number % 24]))
    assert clinic.faults == []


@pytest.mark.parametrize("level", [0, 255])
def test_what_is_black_or_white_all_over_is_not_called_frozen_too(level):
    clinic = Clinic()
    clinic.show_for(6, plain(level))
    assert clinic.faults in (["dark"], ["overexposed"])


def test_zero_seconds_switch_the_frozen_check_off():
    clinic = Clinic(replace(LIMITS, frozen_s=0))
    assert all(clinic.show_for(60, POOL[0]))


@pytest.mark.parametrize("push", [{"share_x": 0.02}, {"share_y": 0.05}, {"turned_deg": 5}])
def test_a_camera_that_was_pushed_is_found_within_seconds_and_well_when_it_is_back(push):
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION)))
    assert all(clinic.show_for(8, *POOL))
    assert clinic.judge.in_place > 0.9
    away = shots(pushed(STATION, **push))
    clinic.show_for(0.8, *away)
    assert clinic.faults == []
    clinic.show_for(12, *away)
    assert clinic.faults == ["moved"]
    clinic.show_for(15, *POOL)
    assert clinic.faults == []


def shaking(seconds, start_s=0.0):
    """A camera that swings by a fortieth of its picture, five times a second, and is in place now and then."""
    times = start_s + np.arange(round(seconds * FPS)) / FPS
    swings = (0.025 * np.sin(2 * np.pi * 5.3 * times), 0.03 * np.sin(2 * np.pi * 7.1 * times))
    return [seen(pushed(STATION, x, y), seed=number) for number, (x, y) in enumerate(zip(*swings, strict=True))]


def test_a_camera_that_shakes_is_found_within_a_second_and_well_soon_after():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION), for_s=0.3, clear_s=1.0))
    assert all(clinic.show_for(8, *POOL))
    clinic.show_for(0.9, *shaking(0.9))
    assert clinic.faults == ["moved"]
    (finding,) = clinic.judge.findings
    assert finding.value < finding.limit
    assert not any(clinic.show_for(4, *shaking(4, 0.9)))
    clinic.show_for(1.5, *POOL)
    assert clinic.faults == []
    assert all(clinic.show_for(8, *POOL))


def test_what_blurs_some_pictures_of_a_camera_that_shakes_does_not_hide_it():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION), for_s=0.3))
    clinic.show_for(8, *POOL)
    smeared = [blurred(shot, 6) if number % 3 == 0 else shot for number, shot in enumerate(shaking(1))]
    clinic.show_for(1, *smeared)
    assert clinic.faults == ["moved"]


def test_a_blurred_camera_is_not_called_moved_too():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION), for_s=0.3))
    clinic.show_for(8, *POOL)
    for sigma in (4, 12, 20):
        clinic.show_for(5, *(seen(blurred(STATION, sigma), seed=seed) for seed in range(12)))
        assert "blurred" in clinic.faults
        assert "moved" not in clinic.faults


def test_parts_that_fill_the_picture_for_seconds_do_not_move_the_camera():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION), structure=Bound(0, 0), sharpness=NO_BOUND))
    clinic.show_for(8, *POOL)
    for number in range(6):
        assert all(clinic.show_for(1.5, *shots(scene(20 + number))))
        assert all(clinic.show_for(1.5, *POOL))


def test_parts_that_pass_or_stop_do_not_move_the_camera():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION)))
    passing = [seen(with_part(STATION, x), seed=x) for x in range(0, 520, 20)]
    assert all(clinic.show_for(30, *passing))
    assert all(clinic.show_for(60, *(seen(with_part(STATION, 300), seed=seed) for seed in range(24))))
    assert all(clinic.show_for(30, *passing))


def test_light_that_drifts_by_a_fifth_is_no_fault():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION)))
    for gain in (*np.linspace(1, 0.8, 30), *np.linspace(0.8, 1.2, 60)):
        assert all(clinic.show_for(1, *(seen(STATION, gain=gain, seed=seed) for seed in range(4))))


def test_no_false_alarm_in_ten_thousand_frames_of_an_ordinary_line():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION), fps=(18, 32)))
    pictures = [
        seen(with_part(STATION, x) if x < 520 else STATION, gain=1 + 0.1 * np.sin(x / 50), seed=x)
        for x in range(0, 1300, 10)
    ]
    assert all(clinic.show_for(400, *pictures))


def test_in_the_dark_nothing_is_said_of_focus_cover_or_place():
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION)))
    clinic.show_for(8, *POOL)
    clinic.show_for(60, *FAULTY["black"])
    assert clinic.faults == ["dark"]


@pytest.mark.parametrize(("fps", "faults"), [(25, []), (19, []), (31, []), (12, ["wrong_rate"]), (60, ["wrong_rate"])])
def test_a_rate_far_from_the_one_asked_for_is_a_fault(fps, faults):
    clinic = Clinic(replace(LIMITS, fps=(17.5, 32.5)), fps=fps)
    clinic.show_for(8, *POOL)
    assert clinic.faults == faults
    assert clinic.judge.fps == pytest.approx(fps, rel=0.01)


def test_frames_that_nobody_looked_at_count_for_the_rate():
    clinic = Clinic(replace(LIMITS, fps=(17.5, 32.5)))
    for number in range(60):
        clinic.seq += 4
        clinic.now_ns += 4 * clinic.period_ns
        assert clinic.show(POOL[number % 24])
    assert clinic.judge.fps == pytest.approx(25)


def test_an_outage_is_not_a_slow_camera():
    clinic = Clinic(replace(LIMITS, fps=(17.5, 32.5)))
    clinic.show_for(5, *POOL)
    clinic.now_ns += 30_000_000_000
    assert all(clinic.show_for(5, *POOL))


def test_pictures_that_come_in_bursts_have_the_rate_of_their_mean():
    clinic = Clinic(replace(LIMITS, fps=(17.5, 32.5)))
    for number in range(200):
        clinic.now_ns += 3 * clinic.period_ns if number % 4 == 0 else -clinic.period_ns + 1_000_000
        assert clinic.show(POOL[number % 24])
    assert clinic.judge.fps == pytest.approx(25, rel=0.2)


def test_without_limits_every_frame_is_fit():
    clinic = Clinic(Limits())
    for pictures in FAULTY.values():
        assert all(clinic.show_for(3, *pictures))


def test_new_limits_hold_from_the_next_frame_on_and_end_what_they_no_longer_forbid():
    clinic = Clinic()
    clinic.show_for(2, *FAULTY["dark"])
    clinic.judge.limits = replace(LIMITS, brightness=Bound(5, 6))
    assert not any(clinic.show_for(1.5, *FAULTY["dark"]))
    clinic.show_for(1, *FAULTY["dark"])
    assert "dark" not in clinic.faults


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 5, 3), (1, 1, 3), (1, 640, 3), (360, 1, 3)])
def test_pictures_of_any_size_are_no_error(shape):
    clinic = Clinic(replace(LIMITS, scene=scene_of(STATION)))
    for _ in range(100):
        clinic.show(np.zeros(shape, np.uint8))


def test_a_frame_that_was_measured_before_is_judged_as_one_that_was_not():
    plainly, measured = Clinic(), Clinic()
    for number in range(60):
        picture = POOL[number % len(POOL)] if number % 20 < 14 else plain(20)
        assert plainly.show(picture) == measured.show_measured(picture)
        assert plainly.judge.findings == measured.judge.findings


@pytest.mark.parametrize("sharpness", [LIMITS.sharpness, NO_BOUND], ids=["with focus", "without"])
def test_no_frame_costs_more_than_64_kib_at_once(sharpness):
    clinic = Clinic(replace(LIMITS, sharpness=sharpness, scene=scene_of(STATION)))
    clinic.show_for(2, *POOL)
    peaks = []
    tracemalloc.start()
    for _ in range(2):
        for shot in POOL:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            clinic.show(shot)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert clinic.judge.in_place > 0.9
    assert max(peaks) < 64 * 1024
