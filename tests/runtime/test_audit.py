"""`Audit`: a line for every message that came in, on a real disk."""

import hashlib
import json
import signal
import stat
import subprocess
import sys
import time
from datetime import datetime, timezone

import pytest
from structlog.testing import capture_logs

from edge_agent.clock import SimulatedClock
from edge_agent.core.ports import Heard
from edge_agent.runtime import audit as audit_module
from edge_agent.runtime.audit import Audit
from tests.fixtures import REPO
from tests.runtime.stations import wait_for

NOW_NS = 10**15
CLOCK = SimulatedClock(NOW_NS, datetime(2026, 11, 21, 9, 14, 3, 446_000, tzinfo=timezone.utc))


@pytest.fixture
def audit(tmp_path):
    """One that is stopped at the end of the test. It writes what it has at `stop`, and every second before."""
    audit = Audit(tmp_path / "state", CLOCK)
    yield audit
    audit.stop(5)


def heard(payload: bytes = b"{}", topic: str = "ack") -> Heard:
    return Heard(topic, payload, False, 5, NOW_NS)


def lines_of(folder, name: str = "audit.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_a_line_says_when_where_what_and_what_it_was_about(audit, tmp_path):
    audit.start()
    names = {"camera": "top", "session": "5f0c", "seq": 7, "action": "reject"}
    audit.note(heard(b'{"camera":"top"}'), "accepted", names)
    audit.stop(5)
    assert lines_of(tmp_path / "state") == [
        {"at": "2026-11-21T09:14:03.446Z", "topic": "ack", "outcome": "accepted", "bytes": 16, **names}
    ]


def test_of_a_refused_message_the_beginning_and_the_digest_are_kept(audit, tmp_path):
    audit.start()
    payload = b"\0\xff\n" + 5000 * b"x"
    audit.note(heard(payload), "malformed", {})
    audit.stop(5)
    (line,) = lines_of(tmp_path / "state")
    assert line["head"].startswith("\\x00\\xff\\x0axxx")
    assert len(line["head"]) <= 100
    assert (line["bytes"], line["sha256"]) == (5003, hashlib.sha256(payload).hexdigest())


def test_lines_are_on_disk_after_a_second(audit, tmp_path):
    audit.start()
    audit.note(heard(), "accepted", {})
    wait_for((tmp_path / "state/audit.jsonl").exists)


def test_nobody_else_may_read_it(audit, tmp_path):
    (tmp_path / "state").mkdir()
    file = tmp_path / "state/audit.jsonl"
    file.touch(0o644)
    audit.start()
    audit.note(heard(), "accepted", {})
    audit.stop(5)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_flood_is_one_line_for_each_topic(audit, tmp_path):
    audit.start()
    for _ in range(5000):
        audit.note(heard(b"xx", "trigger/top"), "flood", {})
    for number in range(100):
        audit.note(heard(b"", f"made/up/{number}"), "flood", {})
    audit.stop(5)
    lines = lines_of(tmp_path / "state")
    assert sum(line["count"] for line in lines) == 5100
    assert len(lines) <= 2 * 33  # it may have come to be written in two parts
    assert lines[0]["topic"] == "trigger/top"
    assert (audit.lost, lines[0]["outcome"], lines[0]["bytes"]) == (0, "flood", 2 * lines[0]["count"])


def test_the_files_stay_within_their_limit_and_hold_whole_lines(tmp_path):
    trail = audit_module._Trail(tmp_path / "audit.jsonl", 10_000)
    for number in range(1000):
        trail.append([b'{"number":%d}\n' % number])
    trail.close()
    newer, older = lines_of(tmp_path), lines_of(tmp_path, "audit.jsonl.1")
    numbers = [line["number"] for line in older + newer]
    assert numbers == list(range(numbers[0], 1000))
    assert max((tmp_path / name).stat().st_size for name in ("audit.jsonl", "audit.jsonl.1")) <= 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.1"]


def test_half_a_line_that_a_power_cut_left_is_cut_off(audit, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/audit.jsonl").write_bytes(b'{"at":1}\n{"at":2')
    audit.start()
    audit.note(heard(), "accepted", {})
    audit.stop(5)
    assert [line["at"] for line in lines_of(tmp_path / "state")] == [1, "2026-11-21T09:14:03.446Z"]


def test_a_folder_that_cannot_be_written_costs_lines_and_the_file_tells_of_it_later(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_module, "WRITE_EVERY_S", 0.02)
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    audit = Audit(folder, CLOCK)
    with capture_logs() as logs:
        audit.start()
        for _ in range(3):
            audit.note(heard(), "accepted", {})
        wait_for(lambda: audit.lost == 3)
        time.sleep(0.1)
        assert (audit.lost, audit.trouble) == (3, "File exists")
    assert [entry["event"] for entry in logs] == ["audit_lines_lost"]
    folder.unlink()
    audit.note(heard(), "accepted", {})
    wait_for(lambda: audit.trouble is None)
    audit.stop(5)
    assert [(line["outcome"], line.get("count")) for line in lines_of(folder)] == [
        ("lines_lost", 3),
        ("accepted", None),
    ]


def test_a_full_disk_leaves_no_half_line():
    """`ulimit -f` gives the error and the half-written batch of a full disk."""
    program = """
import resource, signal, sys, tempfile
from pathlib import Path
from edge_agent.runtime.audit import _Trail
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with tempfile.TemporaryDirectory() as folder:
    trail = _Trail(Path(folder) / "audit.jsonl", 10**6)
    trail.append([b"x" * 98 + b"\\n"] * 7)
    try:
        trail.append([b"y" * 98 + b"\\n"] * 7)
    except OSError as err:
        print(err.strerror)
    trail.append([b"z" * 98 + b"\\n"])
    print(sorted(set((Path(folder) / "audit.jsonl").read_text().split("\\n"))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPO, check=True)
    assert done.stdout.splitlines() == ["File too large", str(["", "x" * 98, "z" * 98])]


def test_more_lines_than_may_wait_are_counted_and_the_file_tells_of_it(tmp_path):
    audit = Audit(tmp_path, CLOCK)
    for _ in range(audit_module.MOST_LINES + 5):
        audit.note(heard(), "accepted", {})
    with capture_logs():
        audit.start()
        audit.stop(5)
    assert audit.lost == 5
    told, *rest = lines_of(tmp_path)
    assert (told["outcome"], told["count"], len(rest)) == ("lines_lost", 5, audit_module.MOST_LINES)


def test_a_kill_at_any_moment_leaves_whole_lines(tmp_path):
    program = (
        "import sys, pathlib; from edge_agent.runtime.audit import _Trail\n"
        "trail = _Trail(pathlib.Path(sys.argv[1]) / 'audit.jsonl', 3000)\n"
        "n = 0\n"
        "while True:\n"
        "    trail.append([b'{\"n\":%d}\\n' % (n + k) for k in range(20)]); n += 20\n"
        "    print(flush=True) if n == 20 else None\n"
    )
    for pause_s in (0.001, 0.01, 0.03):
        process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, cwd=REPO)
        process.stdout.readline()
        time.sleep(pause_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for file in tmp_path.iterdir():
            assert all(json.loads(line)["n"] >= 0 for line in file.read_text().splitlines())
