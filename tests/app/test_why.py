"""The story of one verdict, from a recorder's file to a person's words."""

from contextlib import closing
from datetime import datetime, timezone

import pytest

from edge_agent.app.flight import Flight
from edge_agent.app.why import Question, find, tell
from edge_agent.app.why_words import sections
from edge_agent.clock import SimulatedClock
from edge_agent.errors import UsageError
from edge_agent.runtime import recorder as recorder_module
from edge_agent.runtime.flight_file import FILE
from tests.runtime.flights import DEFECT, SESSION, recording, result, setting, told

CRACK = {"rule": "defect", "label": "crack", "score": 0.93}
PRESENCE = {"kind": "presence", "name": "presence", "require": ["cap"], "min_score": 0.5, "unsure_score": 0.35}
COUNT = {"kind": "count", "name": "count", "label": "cap", "min": 2, "max": 3, "min_score": 0.5, "unsure_score": 0.35}
SECOND_NS = 1_000_000_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(recorder_module, "WRITE_EVERY_S", 0.005)


def story(folder, word="last", **more):
    with closing(Flight(folder / FILE)) as flight:
        return tell(flight, find(flight, Question(word, **more)))


def words_of(folder, title, word="last"):
    """The lines below a heading."""
    return next(section.lines for section in sections(story(folder, word)) if section.title.startswith(title))


def three_parts(folder):
    return told(
        folder,
        ("setting", setting(DEFECT)),
        ("result", result(1, trigger_id="a 1")),
        ("result", result(2, "reject", reasons=[CRACK])),
        ("result", result(3)),
    )


@pytest.mark.parametrize(
    ("word", "part"),
    [("last", "top-3"), ("last reject", "top-2"), ("top-1", "top-1"), ("2", "top-2"), ("a 1", "top-1")],
)
def test_a_part_is_found_by_each_of_its_names(tmp_path, word, part):
    assert story(three_parts(tmp_path), word).about.part_id == part


def test_a_trigger_that_several_cameras_heard_asks_for_the_camera(tmp_path):
    parts = [result(1, trigger_id="plc-7", camera=camera, part_id=f"{camera}-1") for camera in ("top", "side")]
    told(tmp_path, *(("result", part) for part in parts))
    with pytest.raises(UsageError, match="plc-7: cameras side, top have it: choose one with --camera"):
        story(tmp_path, "plc-7")
    assert story(tmp_path, "plc-7", camera="top").about.part_id == "top-1"


@pytest.mark.parametrize("word", ["top-77", "77", "last unknown", "b 1"])
def test_a_part_that_is_not_there_is_told_with_those_that_are(tmp_path, word):
    with pytest.raises(UsageError, match="no such part was recorded; of the last session there are top-1 to top-3"):
        story(three_parts(tmp_path), word)


@pytest.mark.parametrize("word", ["", "last parrot", "last reject please"])
def test_what_can_mean_no_part_is_refused(tmp_path, word):
    with pytest.raises(UsageError, match="last"):
        story(three_parts(tmp_path), word)


def test_a_number_that_two_cameras_have_asks_for_the_camera(tmp_path):
    told(tmp_path, ("result", result(1)), ("result", result(1, camera="side", part_id="side-1")))
    with pytest.raises(UsageError, match="cameras side, top have it: choose one with --camera"):
        story(tmp_path, "1")
    assert story(tmp_path, "1", camera="top").about.part_id == "top-1"


def test_of_two_sessions_the_newer_one_is_meant_unless_one_is_named(tmp_path):
    told(tmp_path, ("result", result(1, "reject")))
    with recording(tmp_path, session="77" * 16) as recorder:
        recorder.note("result", result(1))
    assert story(tmp_path, "top-1").result["verdict"] == "pass"
    assert story(tmp_path, "top-1", session="5f0c").result["verdict"] == "reject"
    assert story(tmp_path, "top-1", session=SESSION).result["verdict"] == "reject"


def test_what_became_of_it_is_told_in_order_and_nothing_of_others(tmp_path):
    told(
        tmp_path,
        ("result", result(2)),
        ("receipt", {"camera": "top", "seq": 2, "code": 0, "ms": 1.2}),
        ("receipt", {"camera": "top", "seq": 1, "code": 0, "ms": 3.4}),
        ("ack", {"camera": "top", "seq": 2, "action": "reject", "why": "verdict", "ms": 12.3}),
    )
    assert words_of(tmp_path, "What became") == [
        "it was sent in time",
        "the broker confirmed it 1.2 ms after it was sent",
        "the arm did reject (verdict), and said so 12.3 ms after it was sent",
    ]


def test_its_picture_is_named_while_it_is_there(tmp_path):
    told(tmp_path, ("result", result(2)), ("picture", {"camera": "top", "seq": 2, "file": "top-2.jpg"}))
    assert words_of(tmp_path, "What became")[1:] == [
        "what the broker said is not recorded",
        "its picture has been deleted since",
    ]
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "top-2.jpg").touch()
    assert words_of(tmp_path, "What became")[2:] == [f"its picture: {tmp_path}/evidence/top-2.jpg"]


def test_around_it_are_the_entries_of_two_seconds_and_those_that_name_it(tmp_path):
    clock = SimulatedClock(1000 * SECOND_NS, datetime(2026, 11, 21, 9, 14, tzinfo=timezone.utc))
    lost = {"event": "camera_lost", "level": "error"}
    unsent = {"event": "verdicts_unsent", "level": "error", "camera": "top", "first_seq": 1, "last_seq": 4}
    late = result(2, captured_at="2026-11-21T09:14:03.966Z")  # judged at :04, and written down at :09
    with recording(tmp_path, clock=clock) as recorder:
        for at_s, kind, body in (
            (0, "log", {**lost, "message": "at 0"}),
            (3, "log", {**lost, "message": "at 3"}),
            (4, "receipt", {"camera": "top", "seq": 2, "code": 0, "ms": 1.2}),
            (5, "log", {**lost, "message": "at 5"}),
            (8, "log", {**lost, "message": "at 8"}),
            (9, "result", late),
            (12, "log", {**unsent, "message": "unsent"}),
            (80, "log", {**unsent, "message": "at 80"}),
        ):
            clock.go_to((1000 + at_s) * SECOND_NS)
            recorder.note(kind, body)
    found = story(tmp_path)
    assert [entry.body["message"] for entry in found.around] == ["at 3", "at 5", "unsent"]
    assert [fate.kind for fate in found.fates] == ["receipt"]
    assert found.judged_at == datetime(2026, 11, 21, 9, 14, 3, 999_900, tzinfo=timezone.utc)


def test_a_setting_counts_where_it_is_of_the_same_configuration(tmp_path):
    told(tmp_path, ("setting", setting(DEFECT, sha="d" * 64)), ("result", result(1, "reject", reasons=[CRACK])))
    assert story(tmp_path).setting is None
    assert words_of(tmp_path, "Why") == [
        "rule defect objects: defect crack 0.93",
        "the limits of that time are not recorded any more",
    ]


@pytest.mark.parametrize(
    ("rule", "verdict", "reason", "words"),
    [
        (DEFECT, "reject", CRACK, "rule defect objects: crack 0.93 is at or above min_score 0.5"),
        (DEFECT, "unknown", {**CRACK, "score": 0.42, "code": "low_confidence"},
         "rule defect is not sure: crack 0.42 is below min_score 0.5, and not below unsure_score 0.35"),
        ({**DEFECT, "min_frames": 3}, "unknown", {**CRACK, "code": "low_confidence"},
         "rule defect is not sure: crack 0.93 is above min_score 0.5, but in fewer frames than min_frames 3"),
        (PRESENCE, "reject", {"rule": "presence", "label": "cap"}, "rule presence objects: cap was not seen at all"),
        (PRESENCE, "reject", {"rule": "presence", "label": "cap", "score": 0.2},
         "rule presence objects: cap is missing: its best score 0.20 is below unsure_score 0.35"),
        (COUNT, "reject", {"rule": "count", "label": "cap"},
         "rule count objects: 2 to 3 of cap are asked for, from min_score 0.5 on"),
        ({**PRESENCE, "kind": "of_a_later_release"}, "reject", {"rule": "presence", "label": "cap"},
         "rule presence objects: presence cap"),
    ],
)  # fmt: skip
def test_each_rule_is_held_against_its_limit(tmp_path, rule, verdict, reason, words):
    told(tmp_path, ("setting", setting(rule)), ("result", result(1, verdict, reasons=[reason])))
    assert words_of(tmp_path, "Why") == [words]


def test_a_pass_says_what_each_rule_did_not_find(tmp_path):
    told(tmp_path, ("setting", setting(DEFECT, PRESENCE, COUNT)), ("result", result(1)))
    assert words_of(tmp_path, "Why pass") == [
        "rule defect: nothing of crack at unsure_score 0.35 or above",
        "rule presence: cap there, at min_score 0.5 or above",
        "rule count: the number of cap is within its bounds",
    ]


def test_an_unknown_by_a_code_is_explained(tmp_path):
    told(
        tmp_path,
        ("setting", setting()),
        ("result", result(1, "unknown", reasons=[{"code": "deadline_missed"}], late={"verdict": "reject", "reasons": [CRACK]})),
    )  # fmt: skip
    lines = words_of(tmp_path, "Why unknown")
    assert lines[0].startswith("deadline_missed: ")
    assert any(line.startswith("do: ") for line in lines)
    assert lines[-1] == "the engine's own answer came too late: reject (defect crack 0.93)"


def test_a_part_that_nobody_looked_at_has_a_story_too(tmp_path):
    told(
        tmp_path,
        ("result", result(1, "unknown", frame=None, detections=[], detections_total=0, frames=0, model=None,
                          sent=False, latency_ms={"total": 150.2}, reasons=[{"code": "no_frame"}])),
        ("unsent", {"camera": "top", "seq": 1, "reason": "no_connection"}),
    )  # fmt: skip
    assert words_of(tmp_path, "What was seen") == ["nobody looked"]
    assert words_of(tmp_path, "Times") == ["150.2 ms from capture or trigger to the decision"]
    assert words_of(tmp_path, "What became") == ["it was not sent, or too late", "it was not delivered (no_connection)"]


def test_times_stand_against_the_deadline(tmp_path):
    assert words_of(three_parts(tmp_path), "Times") == [
        "queue 0.4, preprocess 1.1, infer 31.8, decide 0.3 ms",
        "33.9 ms from capture or trigger to the decision, of the 150 that deadline_ms allows",
    ]


def test_it_says_who_judged(tmp_path):
    assert words_of(three_parts(tmp_path), "What judged") == [
        "model caps 1.2.0 (999999999999)",
        "configuration /etc/edge-agent/line3.toml (cccccccccccc)",
        "profile generic-x86_64, edge-agent 0.1.0",
    ]
