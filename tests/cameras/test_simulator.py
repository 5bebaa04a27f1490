"""The simulated line: what it draws is what it says is there, whatever goes wrong."""

import contextlib
import json
import threading
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent.cameras import simulator
from edge_agent.cameras.simulator import LABELS, Config, Fault
from edge_agent.cameras.simulator.belt import Belt
from edge_agent.cameras.simulator.bottle import WIDTH, Bottle, draw
from edge_agent.cameras.simulator.line import Line
from edge_agent.clock import SimulatedClock
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, FrameTimeoutError

PLAIN = {"noise": 0.0, "light_drift": 0.0, "exposure_ms": 0.0}
START_NS = 1_000_000_000


def clock():
    return SimulatedClock(START_NS, datetime(2026, 1, 1, tzinfo=timezone.utc))


def a_fault(kind, at_s=1.0, for_s=2.0):
    return Fault(kind=kind, at_s=at_s, for_s=for_s)


def bottles(**options):
    """The first hundred of a belt."""
    return list(Belt(Config(parts=100, **options)).upcoming())


def bottle_with(*defects):
    for seed in range(2000):
        bottle = Bottle.random(np.random.default_rng(seed), defects=1.0, contrast=1.0)
        if set(bottle.defects) == set(defects):
            return bottle
    pytest.fail(f"no bottle has {defects}")


# --- what is drawn --------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_pictures():
    one, other = Line(Config(seed=7)), Line(Config(seed=7))
    for t_s in (0.0, 1.3, 4.0):
        assert np.array_equal(one.look(t_s)[0], other.look(t_s)[0])


@pytest.mark.parametrize("size", [(1280, 720), (3840, 180)])
def test_each_bottle_is_drawn_once_and_forgotten_when_it_has_left(size):
    line = Line(Config(width=size[0], height=size[1], touching=1))
    for t_s in (40.0, 40.1):
        line.seen(t_s)
    sprites = dict(line._sprites)
    line.seen(40.1)
    assert line._sprites == sprites
    assert len(sprites) <= len(line.belt.at(40.1)) + 6


def test_another_seed_draws_another_line():
    assert not np.array_equal(Line(Config(seed=7)).look(2.0)[0], Line(Config(seed=8)).look(2.0)[0])


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (800, 800)])
def test_bottles_stand_where_their_boxes_are(size, direction):
    width, height = size
    line = Line(Config(width=width, height=height, touching=0, clutter=0, direction=direction, **PLAIN))
    empty = line.look(0.0)[0].astype(int)
    image, seen = line.look(3.0)
    changed = np.abs(image.astype(int) - empty).max(2) > 8
    changed[round(650 * min(width / 1280, height / 720)) :] = False  # the belt runs
    whole = [one.box for one in seen if one.label == "bottle" and one.visible == 1]
    assert len(whole) >= 2
    for x1, y1, x2, _ in whole:
        columns, rows = np.nonzero(changed[:, round(x1) - 8 : round(x2) + 8].T)
        assert rows.min() == pytest.approx(y1, abs=3)
        assert columns.min() + round(x1) - 8 == pytest.approx(x1, abs=3)
        assert columns.max() + round(x1) - 7 == pytest.approx(x2, abs=3)
    for x1, y1, x2, y2 in [one.box for one in seen if one.label == "bottle"]:
        changed[round(y1) - 3 : round(y2) + 4, max(0, round(x1) - 3) : round(x2) + 4] = False
    assert not changed.any()


def test_boxes_end_at_the_edge_of_the_picture_and_say_how_much_is_seen():
    line = Line(Config())
    for t_s in np.arange(0, 6, 0.1):
        for one in line.seen(float(t_s)):
            x1, y1, x2, y2 = one.box
            assert 0 <= x1 < x2 <= 1280
            assert 0 <= y1 < y2 <= 720
            assert 0 < one.visible <= 1


def test_a_crack_changes_the_glass_in_its_box_and_nowhere_else():
    bottle = bottle_with("crack")
    whole, cracked = draw(replace(bottle, crack=None), 1.0, 0.0), draw(bottle, 1.0, 0.0)
    rows, columns = np.nonzero((whole.colour != cracked.colour).any(2))
    x1, y1, x2, y2 = dict(cracked.boxes)["crack"]
    assert (columns.min(), rows.min()) == pytest.approx((x1, y1), abs=3)
    assert (columns.max(), rows.max()) == pytest.approx((x2, y2), abs=3)


@pytest.mark.parametrize("defects", [(), ("cap_missing",), ("label_misaligned",), ("crack", "label_misaligned")])
def test_the_boxes_of_a_sprite_are_what_a_perfect_detector_finds(defects):
    if not defects:
        bottle = Bottle.random(np.random.default_rng(1), defects=0.0, contrast=1.0)
    else:
        bottle = bottle_with(*defects)
    labels = [label for label, _ in draw(bottle, 1.0, 0.0).boxes]
    assert sorted(labels) == sorted(bottle.found)
    assert ("cap" in labels) == ("cap_missing" not in defects)
    assert ("label" in labels) != ("label_misaligned" in labels)
    assert set(labels) <= set(LABELS)


def test_what_moves_is_smeared_over_the_exposure():
    sharp, smeared = (Line(Config(**{**PLAIN, "exposure_ms": ms})).look(3.0)[0] for ms in (0.0, 20.0))

    def edges(image):
        return np.abs(np.diff(image[200:640].astype(int), axis=1)).max()

    assert edges(smeared) < edges(sharp)


def test_light_drifts_and_noise_is_as_loud_as_told():
    still = Line(Config(noise=0, light_drift=0.5, clutter=0))
    light = [still.look(t_s)[0][:50].mean() for t_s in np.arange(0, 40, 2.0)]
    assert max(light) / min(light) > 1.5
    loud, quiet = (Line(Config(noise=noise, light_drift=0)).look(0.0)[0].astype(int) for noise in (8.0, 0.0))
    grey = (quiet > 40) & (quiet < 215)
    assert (loud - quiet)[grey].std() == pytest.approx(8.0, abs=0.5)


# --- what travels ---------------------------------------------------------------------------------------------------


@given(
    stops=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5)), max_size=3),
    t_s=st.floats(0, 60),
    speed=st.floats(0.1, 4),
)
@settings(deadline=None, max_examples=200)
def test_the_belt_runs_on_after_each_stop_and_times_can_be_told_from_it(stops, t_s, speed):
    faults, end_s = [], 0.0
    for wait_s, for_s in stops:
        faults.append(a_fault("belt_stop", end_s + wait_s, for_s))
        end_s = faults[-1].end_s
    belt = Belt(Config(speed=speed, faults=tuple(faults)))
    run_px = belt.run_px(t_s)
    assert 0 <= run_px <= 600 * speed * t_s + 1e-6
    assert belt.run_px(belt.time_of(run_px)) == pytest.approx(run_px, abs=1e-6)
    if not any(fault.at_s <= t_s <= fault.end_s for fault in faults):
        assert belt.time_of(run_px) == pytest.approx(t_s, abs=1e-6)


def test_bottles_may_touch_but_never_overlap():
    parts = bottles(touching=0.5)
    distances = [later.place_px - earlier.place_px for earlier, later in pairwise(parts)]
    assert min(distances) >= WIDTH
    assert 20 < sum(distance < WIDTH + 5 for distance in distances) < 80
    assert [part.number for part in parts] == list(range(1, 101))


def test_as_many_bottles_have_defects_as_asked_for():
    assert not any(part.bottle.defects for part in bottles(defects=0.0))
    assert all(part.bottle.defects for part in bottles(defects=1.0))
    some = [part.bottle.defects for part in bottles(defects=0.3)]
    assert 15 < sum(map(bool, some)) < 45
    assert {name for defects in some for name in defects} == {"crack", "label_misaligned", "cap_missing"}


def test_angles_of_labels_leave_a_gap_between_right_and_wrong():
    for part in bottles(defects=0.5):
        degrees = abs(part.bottle.label_degrees)
        assert degrees >= 8 if "label_misaligned" in part.bottle.defects else degrees <= 1.5


def test_in_a_burst_bottles_come_without_gaps():
    parts = bottles(touching=0.0, faults=(a_fault("burst", 5, 4),))
    belt = Belt(Config(touching=0.0))
    crowded = [b.place_px - a.place_px < WIDTH + 5 for a, b in pairwise(parts)]
    at_s = [belt.time_of(part.place_px) for part in parts[:-1]]
    assert all(close == (5 <= t_s < 9) for close, t_s in zip(crowded, at_s, strict=True))


def test_no_two_bottles_wait_for_time_to_go_back():
    belt = Belt(Config(parts=30))
    numbers = {part.number for t_s in np.arange(0, 25, 0.05) for part in belt.at(float(t_s))}
    assert numbers == set(range(1, 31))
    assert belt.is_over(25.0)


# --- faults ---------------------------------------------------------------------------------------------------------


def looks(kind, *times_s, **options):
    line = Line(Config(faults=(a_fault(kind),), **options))
    return [line.look(t_s)[0] for t_s in times_s]


def test_in_the_dark_next_to_nothing_is_seen():
    before, during, after = looks("dark", 0.5, 1.5, 3.5)
    assert during.mean() < 5 < before.mean() / 5
    assert after.mean() > 5 * during.mean()


def test_out_of_focus_edges_are_soft():
    before, during, after = (
        np.abs(np.diff(image[:60].astype(int), axis=1)).max() for image in looks("blurred", 0.5, 1.5, 3.5, noise=0.0)
    )
    assert during < before / 3
    assert after > during * 3


def test_a_frozen_camera_gives_the_same_picture_again_and_again():
    images = looks("frozen", 0.9, 1.0, 1.5, 2.9, 3.1)
    assert [np.array_equal(a, b) for a, b in pairwise(images)] == [False, True, True, False]


def test_a_shaken_camera_sees_its_surroundings_move():
    before, *during, after = (image[:60].astype(int) for image in looks("shaken", 0.5, 1.1, 1.35, 1.6, 3.5, **PLAIN))
    assert np.array_equal(before, after)
    assert all(np.abs(image - before).mean() > 2 for image in during)


def test_boxes_are_shaken_with_the_picture():
    still, shaken = Line(Config()), Line(Config(faults=(a_fault("shaken"),)))
    was, now = ([one.box for one in line.seen(1.2) if one.label == "cap"] for line in (still, shaken))
    assert len(was) == len(now) > 1
    assert all(one != other for one, other in zip(was, now, strict=True))


def test_at_a_belt_stop_bottles_stand_and_the_picture_still_lives():
    line = Line(Config(faults=(a_fault("belt_stop"),)))
    (one, boxes), (other, same_boxes) = line.look(1.2), line.look(2.8)
    assert boxes == same_boxes
    assert not np.array_equal(one, other)


def test_an_unplugged_camera_cannot_be_opened_until_it_is_back_and_the_belt_runs_on():
    time = clock()
    open_ = simulator.opener(Config(fps=10, faults=(a_fault("disconnected"),)), clock=time)
    camera = open_()
    assert [camera.read(1).seq for _ in range(9)] == list(range(9))
    with pytest.raises(CameraLostError, match="unplugged"):
        camera.read(1)
    with pytest.raises(CameraLostError, match="unplugged"):
        open_()
    time.go_to(START_NS + 3_050_000_000)
    assert open_().read(1).seq == 30


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"faults": [{"kind": "dark", "at_s": 1, "for_s": 2}, {"kind": "dark", "at_s": 2, "for_s": 1}]},
            "before the one at 1 s is over",
        ),
        ({"faults": [{"kind": "mist", "at_s": 1, "for_s": 2}]}, "dark"),
        ({"fps": 2, "timeout_s": 0.4}, "timeout_s must be more"),
        ({"bottles": 3}, "bottles"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Config(**options)


# --- the camera -----------------------------------------------------------------------------------------------------


def all_frames(camera):
    frames = []
    with contextlib.suppress(EndOfStreamError):
        while True:
            frames.append(camera.read(1))
    return frames


def test_frames_come_at_their_time():
    frames = all_frames(simulator.create(Config(parts=1, fps=25), clock=clock()))
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert [frame.captured_ns for frame in frames] == [START_NS + (k + 1) * 40_000_000 for k in range(len(frames))]


def test_a_frame_that_nobody_fetches_is_lost():
    time = clock()
    camera = simulator.create(Config(fps=10), clock=time)
    first = camera.read(1)
    time.go_to(START_NS + 550_000_000)
    second = camera.read(1)
    assert (first.seq, second.seq) == (0, 5)


def test_a_frame_is_not_lost_by_waiting_for_it_in_steps():
    time = clock()
    camera = simulator.create(Config(fps=1, timeout_s=2), clock=time)
    with pytest.raises(FrameTimeoutError):
        camera.read(0.6)
    assert camera.read(0.6).seq == 0


def test_closing_ends_a_wait():
    camera = simulator.create(Config(fps=1))
    camera.read(2)
    threading.Timer(0.1, camera.close).start()
    with pytest.raises(CameraLostError, match="closed"):
        camera.read(2)


# --- the truth ------------------------------------------------------------------------------------------------------


def truth_of(tmp_path, **options):
    path = tmp_path / "truth.jsonl"
    all_frames(simulator.create(Config(truth=path, **options), clock=clock()))
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_kind(lines, kind):
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.parametrize("direction", ["right", "left"])
def test_a_part_is_at_the_line_when_the_truth_says_so(tmp_path, direction):
    options = {"parts": 8, "direction": direction, "line": 0.7, "faults": (a_fault("belt_stop", 2, 1),)}
    told = of_kind(truth_of(tmp_path, **options), "part")
    line = Line(Config(**options))
    assert [one["part"] for one in told] == list(range(1, 9))
    for one in told:
        seen = line.seen((one["mono_ns"] - START_NS) / 1e9)
        (box,) = [other.box for other in seen if (other.label, other.part) == ("bottle", one["part"])]
        assert (box[0] + box[2]) / 2 == pytest.approx(0.7 * 1280, abs=1)
        found = [other.label for other in seen if other.part == one["part"]]
        assert sorted(found) == sorted(one["found"])


def test_the_truth_is_told_in_order_and_not_before_it_is_seen(tmp_path):
    path, time = tmp_path / "truth.jsonl", clock()
    camera = simulator.create(Config(truth=path), clock=time)
    while time.mono_ns() < START_NS + 4_000_000_000:
        camera.read(1)
        told = [json.loads(line)["mono_ns"] for line in path.read_text().splitlines()]
        assert told == sorted(told)
        assert told[-1] <= time.mono_ns()


def test_the_truth_tells_of_faults_stops_and_the_end(tmp_path):
    lines = truth_of(tmp_path, parts=5, faults=(a_fault("dark", 1, 0.5), a_fault("belt_stop", 2, 1)))
    assert [(line["fault"], line["on"]) for line in of_kind(lines, "fault")] == [
        ("dark", True),
        ("dark", False),
        ("belt_stop", True),
        ("belt_stop", False),
    ]
    assert [line["px_per_s"] for line in of_kind(lines, "belt")] == [600, 0, 600]
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["parts"] == len(of_kind(lines, "part")) == len(of_kind(lines, "entered")) == 5


def test_a_truth_that_cannot_be_written_is_a_lost_camera(tmp_path):
    camera = simulator.create(Config(truth=tmp_path / "no folder" / "truth"), clock=clock())
    with pytest.raises(CameraLostError, match="truth cannot be written"):
        camera.read(1)


def test_what_could_not_be_written_is_told_once_it_can(tmp_path):
    path, time = tmp_path / "later" / "truth", clock()
    camera = simulator.create(Config(truth=path, parts=2), clock=time)
    with pytest.raises(CameraLostError):
        camera.read(1)
    path.parent.mkdir()
    all_frames(camera)
    told = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert told == ["belt", "entered", "entered", "part", "part", "end"]


def test_check_tells_of_a_folder_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        simulator.verify(Config(truth=tmp_path / "no folder" / "truth"))
    with pytest.raises(ConfigError, match="is a folder"):
        simulator.verify(Config(truth=tmp_path))
    simulator.verify(Config(truth=tmp_path / "truth"))
