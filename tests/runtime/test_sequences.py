"""The hard cases of a line: sequences of detections with a known truth go through the real inspector and ledger.

Those in `tests/data/sequences` are what a real detector found on cut-outs that were moved over a belt
(`scripts/record_sequences.py`); the others are simulated, at many speeds and offsets.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.belts import (
    LINE,
    RECORDED,
    SCENES,
    WIDE,
    Scene,
    Sequence,
    Shot,
    along,
    load,
    look,
    missed,
    row,
    verdicts,
    way_of,
)

FOLDER = Path(__file__).resolve().parents[1] / "data" / "sequences"
FILES = sorted(FOLDER.glob("*.jsonl"))
LATEST = 12  # pictures after the crossing: as many as a part may be missed in, at 25 per second
EARLIEST = 5  # pictures: parts in one wide box are placed by its centre


def latest_of(name):
    """Pictures from a crossing to its verdict: where a part stands on the line, a pixel decides which it is."""
    return 10_000 if "turns" in name or name.startswith("stops") else LATEST


def assert_each_part_has_its_verdict(sequence, latest=LATEST):
    given_in = verdicts(sequence)
    assert len(given_in) == len(sequence.crossings)
    for crossed, judged in zip(sorted(sequence.crossings), sorted(given_in), strict=True):
        assert -EARLIEST <= judged - crossed <= latest or latest > LATEST


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_each_part_of_a_recorded_sequence_gets_its_verdict(path):
    assert_each_part_has_its_verdict(load(path), latest_of(path.stem))


def test_every_recorded_sequence_is_there_and_small():
    assert {path.stem for path in FILES} == set(RECORDED)
    assert all(path.stat().st_size < 100_000 for path in FILES)


@pytest.mark.parametrize("name", SCENES)
@settings(deadline=None, max_examples=5)
@given(st.floats(5, 88), st.floats(0, 1), st.integers(0, 2**32))
def test_each_part_of_a_simulated_scene_gets_its_verdict(name, step_px, phase, seed):
    fastest_px = FASTEST_PX.get(name, 88)
    step_px = min(step_px, fastest_px)
    assert_each_part_has_its_verdict(look(SCENES[name](step_px, phase * step_px), seed), latest_of(name))


# A row whose pictures or sightings are missing while its speed is still unknown: above, there may be one too few.
FASTEST_PX = {
    "missed_early": 80,
    "missed_20": 60,
    "missed_20_late": 60,
    "lost_20": 50,
    "lost_20_late": 50,
    "lost_10_missed_10_late": 50,
}


def test_a_part_that_is_hidden_for_long_is_given_up():
    scene = missed(10, 0, 600, 20)
    assert scene.crossings()
    assert verdicts(look(scene, 1)) == []


@pytest.mark.parametrize("frame_ms", [10, 40, 200, 1000])
def test_five_missed_frames_cost_no_part_however_slow_the_camera_is(frame_ms):
    sequence = look(missed(20, 0, 600, 5, count=3), 1)
    shots = tuple(Shot(s.seq, s.seq * frame_ms * 1_000_000, s.found) for s in sequence.shots)
    assert_each_part_has_its_verdict(replace(sequence, shots=shots))


def test_parts_that_are_one_box_from_start_to_end_are_one_part():
    way = way_of((60, 25), start=-60.0)
    pair = Scene((along(way, 0, width=200),))
    assert len(verdicts(look(pair, 1))) == 1


def test_a_reflection_counts_where_the_line_crosses_it_too():
    scene = SCENES["reflected"](20, 3)
    long_line = Scene(scene.things, missed=scene.missed, line=LINE)
    assert len(verdicts(look(long_line, 1))) == 2 * len(scene.crossings())


def test_a_sequence_is_the_same_after_it_was_saved(tmp_path):
    sequence = look(Scene(row(way_of((30, 25)), 2, 130)), 1)
    sequence.save(tmp_path / "one.jsonl")
    assert load(tmp_path / "one.jsonl") == sequence


def test_the_truth_counts_a_part_that_left_and_came_again_twice():
    assert len(SCENES["returns_after"](20, 0).crossings()) == 2
    assert len(SCENES["turns_after_and_again"](20, 0).crossings()) == 1


def test_a_sequence_without_verdicts_would_be_noticed():
    sequence = look(SCENES["burst"](20, 0), 1)
    blind = Sequence(
        sequence.about, "", tuple(Shot(s.seq, s.captured_ns, ()) for s in sequence.shots), sequence.crossings
    )
    with pytest.raises(AssertionError):
        assert_each_part_has_its_verdict(blind)
    assert max(sequence.crossings) < WIDE
