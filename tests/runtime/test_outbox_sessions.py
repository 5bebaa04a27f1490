"""What the next start knows of a session that did not end well."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from edge_agent.core.ports import Message
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox, keeper, store
from edge_agent.runtime.outbox.sessions import SessionMark
from edge_agent.runtime.outbox.store import VERSION
from tests.fixtures import REPO
from tests.runtime.stations import OUTBOX, Wire, one_after_the_other, wait_for

LOST_S = 1.0  # what a power cut may cost


def result(session, seq, camera="top"):
    payload = {"session": session, "seq": seq, "camera": camera, "verdict_seq": seq}
    return Message(f"result/{camera}", json.dumps(payload).encode(), qos=1)


@contextlib.contextmanager
def outbox_in(folder, *wires):
    """A running outbox that is stopped well."""
    link = Link("records", one_after_the_other(*wires))
    outbox = Outbox(link, folder=folder, **OUTBOX)
    outbox.start()
    link.start()
    try:
        yield outbox
    finally:
        outbox.stop(0)
        link.stop(5)


def mark(folder):
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database:
        try:
            row = database.execute("SELECT mark FROM session").fetchone()
        except sqlite3.OperationalError:  # it is being made
            return None
    return row and SessionMark.model_validate_json(row[0])


def change(folder, *statements):
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def killed(folder, session="s1", last_seq=None, results=()):
    """A session ran in `folder` and left its files as a kill does."""
    alive = folder.with_name(f"{folder.name}-alive")
    if folder.exists():
        shutil.copytree(folder, alive)
    last_seq = last_seq or {"top": 7}
    with outbox_in(alive) as outbox:
        outbox.note_session(session, lambda: last_seq)
        for message in results:
            outbox.put("result", message)
        wait_for(lambda: outbox._stock.unwritten() == 0 and (kept := mark(alive)) and kept.session == session)
        shutil.copytree(alive, folder, dirs_exist_ok=True)
    shutil.rmtree(alive)


def unclean(folder):
    with outbox_in(folder) as outbox:
        return outbox.take_unclean()


def test_a_kill_is_known_at_the_next_start_with_the_last_numbers_and_times(tmp_path):
    killed(tmp_path / "o", last_seq={"top": 7, "side": 3})
    found = unclean(tmp_path / "o")
    assert (found.session, found.last_seq) == ("s1", {"top": 7, "side": 3})
    assert found.started_at <= found.written_at
    assert found.written_at.endswith("Z")


def test_a_clean_stop_is_known_with_the_final_numbers_and_there_is_nothing_to_tell(tmp_path):
    last_seq = {"top": 1}
    with outbox_in(tmp_path) as outbox:
        outbox.note_session("s1", lambda: last_seq)
        last_seq["top"] = 99
    assert mark(tmp_path).model_dump(include={"last_seq", "is_clean"}) == {"last_seq": {"top": 99}, "is_clean": True}
    assert unclean(tmp_path) is None


def test_a_fresh_file_and_memory_alone_know_nothing(tmp_path):
    with outbox_in(tmp_path) as outbox:
        assert outbox.take_unclean() is None
    with outbox_in(None) as outbox:
        outbox.note_session("s1", dict)
        assert outbox.take_unclean() is None


def test_it_is_told_once(tmp_path):
    killed(tmp_path / "o")
    with outbox_in(tmp_path / "o") as outbox:
        assert outbox.take_unclean()
        assert outbox.take_unclean() is None
        outbox.note_session("s2", dict)
    assert unclean(tmp_path / "o") is None


def test_a_session_that_was_killed_before_it_told_leaves_it_to_the_next(tmp_path):
    killed(tmp_path / "o")
    with outbox_in(tmp_path / "o") as outbox:
        assert outbox.take_unclean().session == "s1"
    assert unclean(tmp_path / "o").session == "s1"


def test_each_kill_is_told_by_the_start_after_it(tmp_path):
    for number in range(1, 4):
        killed(tmp_path / "o", session=f"s{number}", last_seq={"top": number})
    assert unclean(tmp_path / "o").last_seq == {"top": 3}


def test_results_that_wait_know_more_than_the_mark(tmp_path):
    results = [result("s0", 90), result("s1", 8), result("s1", 11), result("s1", 10), result("s1", 4, camera="side")]
    killed(tmp_path / "o", last_seq={"top": 7, "back": 2}, results=results)
    change(tmp_path / "o", "UPDATE result SET payload = x'7b' WHERE payload LIKE '%\"seq\": 8,%'")
    assert unclean(tmp_path / "o").last_seq == {"top": 11, "back": 2, "side": 4}


def test_what_was_told_of_an_earlier_session_is_on_disk_before_its_mark_goes(tmp_path):
    killed(tmp_path / "o")
    with outbox_in(tmp_path / "o") as outbox:
        with contextlib.closing(sqlite3.connect(tmp_path / "o" / "outbox.db", isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER ordered BEFORE INSERT ON session WHEN NOT EXISTS (SELECT * FROM event)"
                " BEGIN SELECT RAISE(ABORT, 'the mark came first'); END"
            )
            other.execute("BEGIN IMMEDIATE")
            outbox.put("result", result("s2", 1))
            time.sleep(0.1)  # the thread of the disk hangs on this one, and finds the others together
            outbox.put("event", Message("event", b"{}", qos=1))
            outbox.note_session("s2", dict)
            other.execute("ROLLBACK")
        wait_for(lambda: outbox.trouble or mark(tmp_path / "o").session == "s2")
        assert outbox.trouble is None


def test_a_file_of_version_1_is_brought_along_with_all_that_waits(tmp_path):
    with outbox_in(tmp_path) as outbox:
        for seq in (1, 2, 3):
            outbox.put("result", result("s1", seq))
    change(tmp_path, "DROP TABLE session", "PRAGMA user_version = 1")
    wire = Wire()
    with outbox_in(tmp_path, wire) as outbox:
        assert (outbox.take_unclean(), outbox.quarantined()) == (None, [])
        outbox.note_session("s2", lambda: {"top": 5})
        wait_for(lambda: outbox.waiting() == 0)
        wait_for(lambda: mark(tmp_path))
    assert [json.loads(message.payload)["seq"] for message in wire.sent] == [1, 2, 3]
    assert (mark(tmp_path).last_seq, VERSION) == ({"top": 5}, 2)


@pytest.mark.parametrize("value", ["x'00'", "17", '\'{"session": "s1"}\'', "'text'"])
def test_a_mark_that_cannot_be_read_costs_nothing_else(tmp_path, value):
    killed(tmp_path / "o", results=[result("s1", 1)])
    change(tmp_path / "o", f"UPDATE session SET mark = {value}")  # noqa: S608 - a test's word
    with outbox_in(tmp_path / "o") as outbox:
        assert (outbox.take_unclean(), outbox.quarantined(), outbox.waiting()) == (None, [], 1)
        outbox.note_session("s2", dict)
    assert mark(tmp_path / "o").session == "s2"


def test_what_a_broken_file_held_is_unknown(tmp_path):
    killed(tmp_path / "o")
    (tmp_path / "o" / "outbox.db").write_bytes(b"x" * 5000)
    assert unclean(tmp_path / "o") is None


def test_a_disk_that_comes_after_the_start_tells_then(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "RETRY_S", 0.1)
    killed(tmp_path / "o")
    place, away = tmp_path / "o", tmp_path / "away"
    place.rename(away)
    place.write_text("a file, where a folder should be")
    with outbox_in(place) as outbox:
        assert outbox.trouble
        assert outbox.take_unclean() is None
        outbox.note_session("s2", dict)
        place.unlink()
        away.rename(place)
        wait_for(lambda: outbox.trouble is None)
        assert outbox.take_unclean().session == "s1"


def test_a_file_that_is_made_anew_while_it_runs_gets_the_mark_again(tmp_path):
    with outbox_in(tmp_path) as outbox:
        outbox.note_session("s1", lambda: {"top": 7})
        wait_for(lambda: mark(tmp_path))
        (tmp_path / "outbox.db").unlink()
        wait_for(lambda: outbox._keeper.quarantined)
        wait_for(lambda: outbox.trouble is None and mark(tmp_path))
        assert outbox.take_unclean() is None
        assert mark(tmp_path).last_seq == {"top": 7}


def test_nothing_is_written_while_nothing_changes(tmp_path):
    with outbox_in(tmp_path) as outbox:
        outbox.note_session("s1", lambda: {"top": 7})
        wait_for(lambda: mark(tmp_path))
        size = (tmp_path / "outbox.db-wal").stat().st_size
        time.sleep(1)
        assert (tmp_path / "outbox.db-wal").stat().st_size == size


def test_a_technician_who_locks_the_file_for_a_moment_holds_nobody_up(tmp_path):
    last_seq = {"top": 0}
    with outbox_in(tmp_path) as outbox:
        outbox.note_session("s1", lambda: last_seq)
        wait_for(lambda: mark(tmp_path))
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            last_seq["top"] = 5
            time.sleep(1)
            other.execute("ROLLBACK")
        wait_for(lambda: mark(tmp_path).last_seq == {"top": 5})
        assert outbox.trouble is None


def test_a_power_cut_costs_a_second_of_the_numbers_at_most(tmp_path, monkeypatch):
    """After each sync, what had been synced is what the log holds as it began."""
    last_seq, seen, sync = {"top": 0}, [], os.fdatasync

    def fdatasync(number):
        copied = tmp_path / f"cut-{len(seen)}"
        copied.mkdir()
        for file in (*tmp_path.glob("o/outbox.db"), *tmp_path.glob("o/outbox.db-wal")):
            shutil.copy(file, copied)
        sync(number)
        seen.append((time.monotonic(), copied))

    with outbox_in(tmp_path / "o") as outbox:
        used = [(time.monotonic(), 0)]
        outbox.note_session("s1", lambda: last_seq)
        monkeypatch.setattr(store.os, "fdatasync", fdatasync)
        while len(seen) < 5:
            last_seq["top"] += 1
            used.append((time.monotonic(), last_seq["top"]))
            time.sleep(0.01)
    for (_, copied), (next_s, _) in pairwise(seen[:5]):  # it is all that a cut leaves, until the next sync has ended
        certain = max(seq for used_s, seq in used if used_s < next_s - LOST_S)
        assert mark(copied).last_seq["top"] >= certain


KILLED = """
import json, sys, time
from pathlib import Path
from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox

def no_broker():
    raise PublisherLostError("none")

outbox = Outbox(Link("records", no_broker), max_rows=100_000, max_mb=100, drain_per_s=1, folder=Path(sys.argv[1]))
outbox.start()
last_seq = {"top": 0}
outbox.note_session("s1", lambda: last_seq)
for seq in range(1, 10_000):
    last_seq["top"] = seq
    if sys.argv[2] == "results":
        result = {"session": "s1", "seq": seq, "camera": "top", "verdict_seq": seq}
        outbox.put("result", Message("result/top", json.dumps(result).encode(), qos=1))
    print(seq, time.monotonic(), flush=True)
    time.sleep(0.005)
"""


@pytest.mark.parametrize(("what", "lost_s"), [("results", 0.5), ("no results", LOST_S)])
def test_after_kill_9_of_a_process_the_numbers_are_known_up_to_the_last_moment(tmp_path, what, lost_s):
    words = [sys.executable, "-c", KILLED, tmp_path / "o", what]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=REPO, text=True) as process:
        said = [process.stdout.readline() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    used = [(int(seq), float(at_s)) for seq, at_s in re.findall(r"(?m)^(\d+) ([\d.]+)$", "".join(said))]
    certain = max(seq for seq, at_s in used if at_s < used[-1][1] - lost_s)
    found = unclean(tmp_path / "o")
    assert certain <= found.last_seq["top"] <= used[-1][0] + 1
