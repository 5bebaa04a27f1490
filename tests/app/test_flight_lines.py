"""Records as lines, and which of them are wanted."""

from datetime import datetime, timedelta, timezone

import pytest

from edge_agent.app.flight_lines import About, Wanted, document_of, line_of, verdict_words
from edge_agent.runtime.flight_records import Record
from tests.runtime.flights import result

AT = datetime(2026, 11, 21, 9, 14, 3, 446_000, tzinfo=timezone.utc)
TOP_7 = About("5f0c9a1b", "top", 7, "top-7")


def record(kind, session="5f0c9a1b", at=AT, **body):
    return Record(1, session, at, 10**9, kind, body)


def log(**body):
    return record("log", **{"event": "camera_lost", "level": "error", **body})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (log(message="camera top is lost", camera="top"), ("error", "camera_lost", "camera top is lost")),
        (log(camera="top", n=3, level="info"), ("info", "camera_lost", "camera=top n=3")),
        (log(level="critical", exception="Traceback\n  x\nOSError: y"), ("error", "camera_lost", "exception=OSError: y")),
        (record("receipt", camera="top", seq=7, code=0, ms=1.2), ("info", "delivered", "1.2 ms")),
        (record("receipt", camera="top", seq=7, code=0x10, ms=1.2), ("warning", "nobody_listens", "nobody subscribes")),
        (record("receipt", camera="top", seq=7, code=0x87, ms=1.2), ("warning", "refused", "0x87")),
        (record("unsent", camera="top", seq=7, reason="stale"), ("warning", "unsent", "not delivered (stale)")),
        (record("ack", camera="top", seq=7, action="reject", why="verdict", ms=9), ("info", "ack", "did reject (verdict)")),
        (record("ack", camera="top", seq=7, action="none", why="stale", ms=9), ("info", "ack", "did nothing (stale)")),
        (record("ack_missing", camera="top", seq=7, within_ms=1000), ("warning", "ack_missing", "within 1000 ms")),
        (record("picture", camera="top", seq=7, file="top-7.jpg"), ("info", "picture", "top-7.jpg")),
        (record("setting", config="/a.toml", config_sha256=64 * "c", agent_version="1"), ("info", "setting", "cccccccc")),
        (record("of_a_later_release", colour="blue"), ("info", "of_a_later_release", "colour=blue")),
    ],
)  # fmt: skip
def test_each_kind_has_its_words(given, line):
    said = line_of(given)
    assert (said.level, said.name) == line[:2]
    assert line[2] in said.text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "top-1 pass; 33.9 ms"),
        ({"sent": False}, "top-1 pass; 33.9 ms; not sent"),
        ({"verdict": "reject", "reasons": [{"rule": "defect", "label": "crack", "score": 0.93}]},
         "top-1 reject: defect crack 0.93; 33.9 ms"),
        ({"verdict": "unknown", "reasons": [{"code": "deadline_missed"}], "late": {"verdict": "pass", "reasons": []}},
         "top-1 unknown: deadline_missed; 33.9 ms; too late: pass"),
    ],
)  # fmt: skip
def test_a_verdict_in_half_a_line(more, words):
    assert verdict_words(result(1, **more)) == words


@pytest.mark.parametrize(
    ("given", "is_in"),
    [
        (record("result", camera="top", verdict_seq=7, seq=3), True),
        (record("result", camera="top", verdict_seq=8, seq=7), False),
        (record("receipt", camera="top", seq=7), True),
        (record("receipt", camera="side", seq=7), False),
        (record("receipt", session="00000000", camera="top", seq=7), False),
        (log(camera="top", first_seq=5, last_seq=9), True),
        (log(camera="top", first_seq=8, last_seq=9), False),
        (log(camera="top"), False),
        (log(part="top-7"), True),
    ],
)
def test_a_part_is_in_records_of_it_alone_and_of_its_range(given, is_in):
    assert TOP_7.is_in(given) is is_in


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        (Wanted(), True),
        (Wanted(camera="top"), True),
        (Wanted(camera="side"), False),
        (Wanted(event="camera_lost"), True),
        (Wanted(event="camera_*"), True),
        (Wanted(event="camera"), False),
        (Wanted(severity="error"), True),
        (Wanted(since=AT), True),
        (Wanted(since=AT + timedelta(seconds=1)), False),
        (Wanted(part=TOP_7), False),
    ],
)
def test_what_is_wanted(wanted, has):
    given = log(camera="top")
    assert wanted.has(given, line_of(given)) is has


def test_what_is_less_severe_is_not_wanted():
    given = log(level="warning")
    assert not Wanted(severity="error").has(given, line_of(given))


def test_the_document_of_a_record_has_utc_and_all_of_it():
    assert document_of(record("unsent", camera="top", seq=7, reason="stale")) == {
        "number": 1,
        "at": "2026-11-21T09:14:03.446Z",
        "session": "5f0c9a1b",
        "kind": "unsent",
        "severity": "warning",
        "name": "unsent",
        "body": {"camera": "top", "seq": 7, "reason": "stale"},
    }
