import json
import math

import numpy as np
import pytest

from edge_agent.app import baseline as files
from edge_agent.app.health_limits import health_problems, is_watched, limits_of
from edge_agent.core.baseline import Baseline, Spread
from edge_agent.core.health_judge import HealthJudge
from edge_agent.errors import ConfigError, UsageError
from tests.config.documents import changed, load_text
from tests.scenes import plain, seen

STEADY = Spread(0.4, 0.5, 0.6)


def baseline(camera="side", **others):
    facts = {
        "camera": camera,
        "size": (1280, 720),
        "fps": 24.0,
        "brightness": Spread(100, 110, 120),
        "clipped": Spread(0, 0.1, 0.2),
        "structure": STEADY,
        "sharpness": Spread(0.1, 0.12, 0.14),
        "plane": np.arange(72 * 128, dtype=np.uint8).reshape(72, 128),
        "steady": np.arange(72 * 128).reshape(72, 128) % 3 > 0,
    }
    return Baseline(**{**facts, **others})


def side(folder, health="", camera=""):
    """The live camera of the document, with a table of its health, and more keys of its own."""
    table = f"[cameras.health]\n{health}\n" if health else ""
    text = changed(("source = 0", f"source = 0\n{camera}"), ("[mqtt]", f"{table}[mqtt]"))
    return load_text(folder, text)


@pytest.mark.parametrize(
    ("health", "camera", "words"),
    [
        ("", "", "set enabled = false in"),
        ("for_s = 2", "", "set enabled = false in"),
        ("enabled = false", "rotation = 180", "rotation and roi"),
        ("enabled = false", "roi = [[0, 0], [1, 0.5]]", "rotation and roi"),
    ],
)
def test_a_reduced_decoding_that_does_nothing_is_a_problem(tmp_path, health, camera, words):
    (problem,) = health_problems(side(tmp_path, health, f"reduced_decoding = true\n{camera}"))
    assert problem.key.endswith("reduced_decoding")
    assert words in problem.message


def test_a_reduced_decoding_without_health_is_none(tmp_path):
    assert health_problems(side(tmp_path, "enabled = false", "reduced_decoding = true")) == []


def limits(folder, health="", camera=""):
    return limits_of(side(folder, health, camera).config.cameras[1])


def test_live_cameras_are_watched_and_recordings_only_where_the_table_says_so(tmp_path):
    replayed, live = side(tmp_path).config.cameras
    assert (is_watched(replayed), is_watched(live)) == (False, True)
    assert limits_of(replayed) is None
    text = changed(("[[cameras.rules]]", "[cameras.health]\n\n  [[cameras.rules]]"))
    assert is_watched(load_text(tmp_path, text).config.cameras[0])
    assert limits(tmp_path, "enabled = false") is None


def test_a_simulated_camera_counts_as_live(tmp_path):
    text = changed(('kind = "opencv"\nsource = 0', 'kind = "simulator"\nfps = 20\nwidth = 640\nheight = 360'))
    found = limits_of(load_text(tmp_path, text).config.cameras[1])
    assert (found.frozen_s, found.size, found.fps) == (2, (640, 360), (14, 26))


def test_a_recording_may_stand_still_and_come_at_any_rate_unless_it_is_asked_for(tmp_path):
    def of(health):
        text = changed(("[[cameras.rules]]", f"fps = 5\n[cameras.health]\n{health}\n[[cameras.rules]]"))
        text = text.replace('source = "photos"\n', 'source = "photos"\nfps = 5\n').replace(
            "fps = 5\n[cameras.h", "[cameras.h"
        )
        return limits_of(load_text(tmp_path, text).config.cameras[0])

    assert (of("").frozen_s, of("").fps) == (0, None)
    assert (of("frozen_s = 3").frozen_s, of("rate_tolerance = 0.5").fps) == (3, (2.5, 7.5))


def test_without_a_baseline_only_what_nobody_runs_a_line_on_is_bad(tmp_path):
    found = limits(tmp_path)
    assert (found.brightness.enter, found.clipped.enter, found.structure.enter) == (5, 0.99, 0)
    assert math.isnan(found.sharpness.enter)
    assert math.isnan(found.in_place.enter)
    assert (found.size, found.fps, found.scene, found.frozen_s) == (None, None, None, 2)


@pytest.mark.parametrize(("source", "seconds"), [("0", 2), ("'rtsp://cam/1'", 30)])
def test_streams_may_repeat_a_picture_for_longer_than_devices(tmp_path, source, seconds):
    loaded = load_text(tmp_path, changed(("source = 0", f"source = {source}")))
    assert limits_of(loaded.config.cameras[1]).frozen_s == seconds


def test_what_was_asked_of_the_device_is_what_it_must_give(tmp_path):
    found = limits(tmp_path, camera="width = 640\nheight = 480\nfps = 20\nrotation = 90")
    assert (found.size, found.fps) == ((480, 640), (14, 26))
    assert limits(tmp_path, "rate_tolerance = 0", "width = 640\nheight = 480\nfps = 20").fps is None


def test_limits_come_from_the_baseline(tmp_path):
    files.write(tmp_path / "b.json", baseline())
    found = limits(tmp_path, 'baseline = "b.json"')
    assert (found.brightness.enter, found.brightness.leave) == (50, 60)
    assert (found.clipped.enter, found.clipped.leave) == (pytest.approx(0.6), pytest.approx(0.4))
    assert found.structure.enter == pytest.approx(0.1)
    assert (found.sharpness.enter, found.in_place.enter) == (pytest.approx(0.033), 0.33)
    assert (found.size, found.fps) == ((1280, 720), (pytest.approx(16.8), pytest.approx(31.2)))


def test_every_limit_can_be_set_by_hand(tmp_path):
    files.write(tmp_path / "b.json", baseline())
    health = """baseline = "b.json"
dark_below = 20
overexposed_above = 0.5
covered_below = 0.05
blurred_below = 0.5
moved_below = 0.2
frozen_s = 7
rate_tolerance = 0.5
for_s = 3
clear_s = 4"""
    found = limits(tmp_path, health)
    assert (found.brightness.enter, found.clipped.enter, found.structure.enter) == (20, 0.5, 0.05)
    assert (found.sharpness.enter, found.in_place.enter) == (pytest.approx(0.05), 0.2)
    assert (found.frozen_s, found.fps, found.for_s, found.clear_s) == (7, (12, 36), 3, 4)


@pytest.mark.parametrize("sharpness", [None, Spread(0, 0.1, 0.2), Spread(0.03, 0.1, 0.2)])
def test_a_baseline_whose_sharpness_tells_nothing_sets_no_limit(tmp_path, sharpness):
    files.write(tmp_path / "b.json", baseline(sharpness=sharpness))
    assert math.isnan(limits(tmp_path, 'baseline = "b.json"').sharpness.enter)


def test_a_camera_whose_every_frame_is_a_part_has_no_rate_by_its_baseline(tmp_path):
    files.write(tmp_path / "b.json", baseline())
    line = 'kind = "line"\n  parts = ["bottle"]\n  line = [[0.6, 0.0], [0.6, 1.0]]'
    text = changed((line, 'kind = "frame"'), ("[mqtt]", '[cameras.health]\nbaseline = "b.json"\n[mqtt]'))
    assert limits_of(load_text(tmp_path, text).config.cameras[1]).fps is None
    asked = text.replace("source = 0", "source = 0\nfps = 30")
    assert limits_of(load_text(tmp_path, asked).config.cameras[1]).fps is None
    wished = asked.replace("[cameras.health]", "[cameras.health]\nrate_tolerance = 0.5")
    assert limits_of(load_text(tmp_path, wished).config.cameras[1]).fps == (15, 45)


def seen_for(seconds, found, *shots):
    """The faults after so long of these pictures, 25 a second in turn, and whether each frame was fit."""
    judge = HealthJudge(found)
    fit = [judge.examine(shots[k % len(shots)], k, k * 40_000_000) for k in range(round(25 * seconds))]
    return [finding.fault for finding in judge.findings], fit


def lit(level, spot=None, share=0.01):
    """A plain surface with light falling off to its sides, and one spot that covers a share of it."""
    image = plain(level)
    if spot is not None:
        side = round((image.shape[0] * image.shape[1] * share) ** 0.5)
        image[100 : 100 + side, 100 : 100 + side] = spot
    return image


BELTS = {
    "grey belt": lit(110),
    "dim belt": lit(30),
    "dark machine with a lit part": lit(4, spot=230, share=0.02),
    "dark machine": lit(6),
    "white product": lit(240),
    "bright field with a thin rail": lit(255, spot=20, share=0.02),
}


@pytest.mark.parametrize("name", BELTS)
def test_without_a_baseline_an_ordinary_plain_picture_is_no_fault(tmp_path, name):
    shots = [seen(BELTS[name], 2, seed=seed) for seed in range(8)]
    faults, fit = seen_for(5, limits(tmp_path), *shots)
    assert faults == []
    assert all(fit)


def test_a_light_that_flashes_in_every_second_frame_is_no_illness(tmp_path):
    shots = [seen(plain(level), 2, seed=level) for level in (110, 1, 112, 2)]
    faults, fit = seen_for(5, limits(tmp_path), *shots)
    assert faults == []
    assert fit == [number % 2 == 0 for number in range(len(fit))]


@pytest.mark.parametrize(("level", "fault"), [(0, "dark"), (2, "dark"), (255, "overexposed")])
def test_without_a_baseline_a_camera_that_sees_nothing_is_found(tmp_path, level, fault):
    faults, fit = seen_for(5, limits(tmp_path), *(seen(plain(level), 1, seed=seed) for seed in range(8)))
    assert faults == [fault]
    assert not any(fit)


def test_a_baseline_is_read_as_it_was_written(tmp_path):
    written = baseline()
    files.write(tmp_path / "b.json", written)
    read = files.read(tmp_path / "b.json", "side")
    assert (read.plane == written.plane).all()
    assert (read.steady == written.steady).all()
    assert (read.size, read.fps, read.sharpness) == (written.size, written.fps, written.sharpness)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("baseline/1", "baseline/9"),
        lambda text: text.replace('"fps": 24.0', '"fps": -1'),
        lambda text: text.replace('"fps": 24.0', '"fps": NaN'),
        lambda text: text.replace('"plane": "', '"plane": "!'),
        lambda text: json.dumps({**json.loads(text), "plane_size": [70, 128]}),
        lambda text: json.dumps({**json.loads(text), "plane_size": [72, 10**9]}),
        lambda text: json.dumps({**json.loads(text), "steady": "eJw="}),
        lambda text: text + " " * files.MAX_BYTES + "x",
    ],
)
def test_a_damaged_baseline_is_told_with_what_to_do(tmp_path, damage):
    path = tmp_path / "b.json"
    files.write(path, baseline())
    path.write_text(damage(path.read_text()))
    with pytest.raises(
        ConfigError, match=r"b\.json is no baseline, or a damaged one; take it anew: edge-agent snapshot"
    ):
        files.read(path, "side")


def test_a_baseline_of_another_camera_or_size_and_a_folder_are_refused(tmp_path):
    files.write(tmp_path / "b.json", baseline("top"))
    files.write(tmp_path / "c.json", baseline())
    (tmp_path / "d.json").mkdir()
    for name, camera, sentence in (
        ("b", "", "is the baseline of camera 'top', not of 'side'"),
        ("c", "width = 640\nheight = 480", "was taken at 1280x720, the camera is to give 640x480"),
        ("d", "", "cannot be read: Is a directory"),
    ):
        loaded = side(tmp_path, f'baseline = "{name}.json"', camera)
        (problem,) = health_problems(loaded)
        assert problem.key == "cameras[1].health.baseline"
        assert sentence in problem.message


def test_a_baseline_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        files.write(tmp_path / "nowhere" / "b.json", baseline())
