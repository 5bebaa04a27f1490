"""What `benchmarks.scale` and `benchmarks.soak` say of figures, and that they measure what they claim to."""

import statistics

import numpy as np
import pytest

from benchmarks.scaling import cameras, charts, work
from benchmarks.scaling.cameras import Verdict
from benchmarks.soak import Heard, Soak


def chart(*costs):
    it = charts.Chart("rules", "Rules", "rules", "ms")
    for x, cost in zip((1, 10, 100), costs, strict=True):
        it.add("frame", x, cost)
    return it


@pytest.mark.parametrize(
    ("costs", "word"), [((1, 1.1, 2), "no faster"), ((1, 9, 80), "no faster"), ((1, 2, 21), "FASTER")]
)
def test_ten_times_the_work_may_cost_ten_times_as_much(costs, word):
    (sentence,) = charts.growth(chart(*costs))
    assert f"grows {word} than the work" in sentence


def test_a_table_has_a_column_for_each_line():
    assert [column.header for column in charts.table(chart(1, 2, 3)).columns] == ["rules", "frame"]


def test_pixels_in_words_are_multiplied():
    assert charts.amount("1280x720") == 921_600


@pytest.mark.parametrize(
    ("totals", "shares", "words"),
    [((20, 20, 19), (1, 0.97), ("flat", "none starves")), ((20, 16, 20), (1, 0.4), ("NOT flat", "SOME STARVE"))],
)
def test_throughput_and_shares_are_told_in_words(totals, shares, words):
    said = charts.flatness(dict(enumerate(totals)), {"1": 0.97, "2": 0.95}, dict(enumerate(shares)))
    assert "runs 0.95 of the time" in said
    assert all(f": {word}" in said for word in words)


def test_by_theory_a_frame_is_no_older_where_there_are_more_cameras():
    ages = {count: statistics.median(cameras.expected_ms(count, 50, [40.0])) for count in (1, 2, 8)}
    assert all(40 <= age <= 60 for age in ages.values())


def test_by_theory_one_slow_camera_waits_for_nobody():
    assert max(cameras.expected_ms(1, 5, [40.0])) == pytest.approx(40, abs=0.01)


def test_a_window_tells_rate_and_shares():
    heard = [Verdict(f"c{k % 3 % 2}", 1000 + 10 * k, 15, 8, "pass") for k in range(300)]
    window = cameras.window(2, 120, heard)
    assert (window.fps, window.busy) == (100, 0.8)
    assert window.shares == pytest.approx((4 / 3, 2 / 3), abs=0.01)


@pytest.mark.parametrize("parts", [1, 8, 100])
def test_the_belt_is_full_in_each_picture(parts):
    assert [picture.shape for picture in work.belt(parts, finds=3)] == [(parts + 3, 6)] * work.STEPS


def test_all_that_is_in_the_recording_reaches_the_rules(tmp_path):
    model = work.recording(tmp_path / "model.npz", list(work.belt(1000)))
    rules = [{"kind": "count", "label": "part", "min": 1000}]
    image = np.zeros((720, 1280, 3), np.uint8)
    station = work.Station(tmp_path / "station", model, image, trigger=work.FRAME, rules=rules)
    for _ in range(3):
        station.judge()
    assert station.verdicts == {"pass": 3}


def test_on_a_line_the_parts_of_the_recording_are_judged(tmp_path):
    model = work.recording(tmp_path / "model.npz", list(work.belt(8)))
    image = np.zeros((720, 1280, 3), np.uint8)
    station = work.Station(tmp_path / "station", model, image, trigger=work.LINE, rules=work.rules(1))
    for _ in range(10 * work.STEPS):
        station.judge()
    assert station.verdicts == {"pass": pytest.approx(20, abs=2)}


def soaked(*tenths_ms, mb=(100.0, 100.0)):
    it = Soak(wanted=200)
    for tenth in tenths_ms:
        it.verdicts += [Heard(len(it.verdicts) + k + 1, tenth, tenth - 1, False) for k in range(20)]
    it.rss_mb = [(100, mb[0]), (200, mb[1])]
    return it.document()


def test_a_soak_that_ends_as_it_began_says_so():
    said = soaked(*[40] * 10)
    assert said["is_complete"]
    assert said["missing"] == 0
    assert "memory is flat" in said["sentence"]
    assert "as fast as at the start" in said["sentence"]


def test_a_soak_says_where_memory_grew_and_verdicts_became_slower():
    said = soaked(*[40] * 9, 45, mb=(100.0, 102.5))
    assert "memory is NOT flat (grew by 2.50 MB" in said["sentence"]
    assert "SLOWER" in said["sentence"]


def test_too_few_frames_tell_nothing():
    assert Soak(wanted=200).document()["sentence"] == "Too few frames to tell."
