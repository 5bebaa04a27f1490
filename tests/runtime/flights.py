"""Flight recorders for tests: notes, and what is in the file."""

import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from edge_agent.app.flight import Flight
from edge_agent.runtime.flight_file import FILE
from edge_agent.runtime.flight_records import pack, tag_of
from edge_agent.runtime.recorder import Recorder
from edge_agent.wire.messages import utc_text
from tests.runtime.stations import wait_for

SESSION = "5f0c9a1b" + 24 * "0"
SHA = "c" * 64


@contextmanager
def recording(folder, *, max_mb=1, session=SESSION, **more):
    """A recorder that is started, and has written all that was noted when it ends."""
    recorder = Recorder(folder, max_mb, session, **more)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(10)


def noted(recorder):
    """Waits until all of it is in the file."""
    wait_for(lambda: not any(waiting.notes or waiting.packed for waiting in recorder._waiting.values()))


def records_in(folder, kind=None):
    """What the file has, the oldest first."""
    flight = Flight(folder / FILE)
    try:
        return [record for record in flight.records() if kind in (None, record.kind)]
    finally:
        flight.close()


def packed(number, kind="log", body=b'{"event": "x"}'):
    return pack(number, 1_000_000 * number, 1_000_000_000 * number, tag_of(SESSION), kind, body)


def utc(ago_s=0.0):
    return utc_text(datetime.now(timezone.utc) - timedelta(seconds=ago_s))


def result(seq=1, verdict="pass", **more):
    """The body of a `result`, as the desk makes it."""
    facts = {
        "schema": "edge-agent/result/1", "device": "cap-01", "session": SESSION, "seq": seq,
        "at": "2026-11-21T09:14:03.446Z", "camera": "top", "verdict_seq": seq, "sent": True, "trigger_id": None,
        "position": None, "part_id": f"top-{seq}", "verdict": verdict, "reasons": [], "late": None,
        "captured_at": utc(0.034), "clock": {"synced": True, "max_error_ms": 0.8},
        "latency_ms": {"queue": 0.4, "preprocess": 1.1, "infer": 31.8, "decide": 0.3, "total": 33.9},
        "frame": {"seq": 9321, "width": 1280, "height": 720, "source": ""},
        "detections": [{"label": "crack", "class_id": 1, "score": 0.93, "box": [100.0, 200.0, 300.0, 700.0]}],
        "detections_total": 1, "frames": 3, "model": {"name": "caps", "version": "1.2.0", "sha256": "9" * 64},
        "config_sha256": SHA, "profile": "generic-x86_64", "agent_version": "0.1.0",
    }  # fmt: skip
    return {**facts, **more}


DEFECT = {
    "kind": "defect",
    "name": "defect",
    "reject": ["crack"],
    "min_score": 0.5,
    "unsure_score": 0.35,
    "min_frames": 1,
}


def setting(*rules, trigger="line", sha=SHA):
    """By what parts are judged."""
    cameras = {"top": {"kind": "replay", "trigger": trigger, "rules": list(rules)}}
    return {
        "config": "/etc/edge-agent/line3.toml",
        "config_sha256": sha,
        "agent_version": "0.1.0",
        "deadline_ms": 150,
        "cameras": cameras,
    }


def told(folder, *notes):
    """A folder with what was noted: pairs of kind and body."""
    with recording(folder) as recorder:
        for kind, body in notes:
            recorder.note(kind, body)
            time.sleep(0)
    return folder
