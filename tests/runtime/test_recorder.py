"""`Recorder`: notes that outlive the agent, on a real disk."""

import errno
import os
import random
import stat
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.app.flight import Flight
from edge_agent.runtime import recorder as recorder_module
from edge_agent.runtime.flight_file import FILE
from edge_agent.runtime.flight_records import scan
from edge_agent.runtime.recorder import MOST_WAITING, Recorder
from tests.runtime.flights import SESSION, noted, recording, records_in, setting
from tests.runtime.stations import wait_for

BROKEN_PAGES = [
    b"edge-agent flight recorder 1\n" + sizes + b"\n"
    for sizes in (b"{}", b'{"verdicts": 1e999, "events": 4096}', b"[" * 4000)
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(recorder_module, "WRITE_EVERY_S", 0.005)
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.02)
    monkeypatch.setattr(recorder_module, "LOOK_EVERY_S", 0.0)


def bodies(folder, kind=None):
    return [record.body for record in records_in(folder, kind)]


def test_a_note_is_in_the_file_with_its_kind_session_and_time(tmp_path):
    before_s = time.time()
    with recording(tmp_path) as recorder:
        recorder.note("receipt", {"camera": "top", "seq": 7})
    (record,) = records_in(tmp_path)
    assert (record.kind, record.session, record.body) == ("receipt", SESSION[:8], {"camera": "top", "seq": 7})
    assert before_s - 0.001 <= record.at.timestamp() <= time.time()


def test_a_note_that_is_json_already_is_kept_as_it_is(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("result", '{"label": "Kappe ü"}'.encode())
    assert bodies(tmp_path) == [{"label": "Kappe ü"}]


def test_notes_of_both_rings_are_read_in_the_order_in_which_they_were_made(tmp_path):
    with recording(tmp_path) as recorder:
        for number in range(200):
            recorder.note("log" if number % 3 else "result", {"number": number})
    assert [body["number"] for body in bodies(tmp_path)] == list(range(200))


def test_the_next_start_goes_on_behind_the_last_note(tmp_path):
    for session in range(3):
        with recording(tmp_path) as recorder:
            recorder.note("log", {"session": session})
    assert [body["session"] for body in bodies(tmp_path)] == [0, 1, 2]
    assert [record.number for record in records_in(tmp_path)] == [1, 2, 3]


def test_the_newest_push_out_the_oldest_and_the_file_stays_as_large_as_it_is(tmp_path):
    with recording(tmp_path) as recorder:
        for number in range(1500):
            recorder.note("result", {"number": number, "filler": "x" * 1000})
            if number % 100 == 0:
                noted(recorder)
    numbers = [body["number"] for body in bodies(tmp_path)]
    assert numbers == list(range(1500 - len(numbers), 1500))
    assert 600 < len(numbers) < 760
    assert (tmp_path / FILE).stat().st_size == 1_000_000 // 4096 * 4096


def test_a_flood_of_events_pushes_out_no_verdict(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("result", {"number": 1})
        for number in range(1500):
            recorder.note("log", {"event": "flood", "number": number, "filler": "x" * 1000})
            if number % 100 == 0:
                noted(recorder)
    assert bodies(tmp_path, "result") == [{"number": 1}]


def test_the_setting_outlives_the_lap_that_it_was_noted_in(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("setting", setting())
        for number in range(2500):
            recorder.note("result", {"number": number, "filler": "x" * 1000})
            if number % 100 == 0:
                noted(recorder)
    assert setting() in bodies(tmp_path, "setting")


def test_only_the_agents_user_and_group_may_read_it(tmp_path):
    with recording(tmp_path / "own") as recorder:
        recorder.note("log", {})
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "own" / FILE).stat().st_mode) == 0o640


def test_the_whole_file_is_taken_from_the_disk_at_the_start(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {})
    assert (tmp_path / FILE).stat().st_blocks * 512 >= (tmp_path / FILE).stat().st_size


@pytest.mark.parametrize("content", [b"", b"a diary", b"\0" * 100_000, *BROKEN_PAGES])
def test_a_file_that_is_none_of_ours_is_set_aside(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with capture_logs() as entries, recording(tmp_path) as recorder:
        recorder.note("log", {"event": "x"})
    assert bodies(tmp_path) == [{"event": "x"}]
    assert (tmp_path / f"{FILE}.bad").read_bytes() == content
    assert [entry["event"] for entry in entries] == ["recorder_set_aside"]


def test_a_file_that_was_cut_short_is_set_aside(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "before"})
    os.truncate(tmp_path / FILE, 500_000)
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "after"})
    assert bodies(tmp_path) == [{"event": "after"}]
    assert (tmp_path / f"{FILE}.bad").stat().st_size == 500_000


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/null"), os.mkfifo])
def test_what_is_no_file_is_set_aside(tmp_path, make):
    make(tmp_path / FILE)
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "x"})
    assert bodies(tmp_path) == [{"event": "x"}]


@pytest.mark.parametrize("max_mb", [3, 1])
def test_another_size_keeps_the_newest_notes_that_fit(tmp_path, max_mb):
    with recording(tmp_path, max_mb=2) as recorder:
        for number in range(1400):
            recorder.note("result", {"number": number, "filler": "x" * 1000})
            if number % 100 == 0:
                noted(recorder)
        recorder.note("log", {"event": "x"})
    kept = len(records_in(tmp_path, "result"))
    with recording(tmp_path, max_mb=max_mb) as recorder:
        recorder.note("log", {"event": "y"})
    numbers = [body["number"] for body in bodies(tmp_path, "result")]
    assert numbers == list(range(1400 - len(numbers), 1400))
    assert len(numbers) == kept if max_mb == 3 else 600 < len(numbers) < 760
    assert bodies(tmp_path, "log") == [{"event": "x"}, {"event": "y"}]
    assert (tmp_path / FILE).stat().st_size == max_mb * 1_000_000 // 4096 * 4096


@pytest.mark.parametrize("seed", range(10))
def test_a_torn_record_is_lost_alone(tmp_path, seed):
    with recording(tmp_path) as recorder:
        for number in range(1, 101):
            recorder.note("result", {"number": number, "filler": "x" * 300})
    chance = random.Random(seed)
    fd = os.open(tmp_path / FILE, os.O_RDWR)
    flight = Flight(tmp_path / FILE)
    places = list(scan(fd, flight._rings[0]))
    flight.close()
    torn = chance.choice(places)
    os.pwrite(fd, chance.randbytes(chance.randint(1, torn.size)), torn.at)
    os.close(fd)
    assert [record.number for record in records_in(tmp_path)] == [n for n in range(1, 101) if n != torn.number]


def test_after_the_newest_was_torn_the_next_start_writes_over_it(tmp_path):
    with recording(tmp_path) as recorder:
        for number in range(5):
            recorder.note("result", {"number": number})
    fd = os.open(tmp_path / FILE, os.O_RDWR)
    flight = Flight(tmp_path / FILE)
    newest = flight.places()[-1]
    flight.close()
    os.pwrite(fd, b"torn", newest.at + newest.size - 4)
    os.close(fd)
    with recording(tmp_path) as recorder:
        recorder.note("result", {"number": "next"})
    assert [body["number"] for body in bodies(tmp_path)] == [0, 1, 2, 3, "next"]


def test_a_file_that_another_agent_writes_is_left_alone_until_it_is_free(tmp_path):
    with recording(tmp_path) as first:
        first.note("log", {"event": "first"})
        noted(first)
        with capture_logs() as entries, recording(tmp_path) as second:
            second.note("log", {"event": "second"})
            wait_for(lambda: second.facts()["trouble"] == "another agent writes it")
            first.stop(5)
            noted(second)
    assert [body["event"] for body in bodies(tmp_path)] == ["first", "second"]
    assert [entry["event"] for entry in entries] == ["recorder_away", "recorder_writes"]


def test_a_file_that_is_deleted_meanwhile_is_made_anew(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "before"})
        noted(recorder)
        (tmp_path / FILE).unlink()
        recorder.note("log", {"event": "after"})
    assert bodies(tmp_path) == [{"event": "after"}]


def test_what_the_disk_does_not_take_waits_and_what_is_too_much_is_counted_and_told(tmp_path):
    (tmp_path / "own").write_text("no folder")
    with capture_logs() as entries, recording(tmp_path / "own") as recorder:
        for number in range(MOST_WAITING + 5):
            recorder.note("result", {"number": number})
        wait_for(lambda: recorder.facts()["trouble"])
        wait_for(lambda: any(entry["event"] == "recorder_notes_lost" for entry in entries))
        (tmp_path / "own").unlink()
        noted(recorder)
        assert recorder.facts() == {"written": MOST_WAITING, "lost": 5, "bytes": recorder.bytes, "trouble": None}
        assert recorder.counts == {"written": MOST_WAITING, "lost": 5}
    assert len(bodies(tmp_path / "own")) == MOST_WAITING


def test_what_cannot_be_written_down_costs_that_note_alone(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": object()})
        recorder.note("log", {"event": ["x" * 3000] * 30})
        recorder.note("log", {"event": "fine"})
    assert (bodies(tmp_path), recorder.lost) == ([{"event": "fine"}], 2)


def test_a_name_that_is_no_utf_8_is_kept(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "x", "file": os.fsdecode(b"Stra\xdfe")})
    assert bodies(tmp_path) == [{"event": "x", "file": "Stra\udcdfe"}]


def test_a_long_text_is_cut(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"event": "x", "exception": "y" * 100_000})
    assert bodies(tmp_path) == [{"event": "x", "exception": "y" * 4000}]


def test_it_listens_to_the_log_until_it_is_stopped(tmp_path):
    heard = []

    def listen(listener):
        heard.append(listener)
        return heard.clear

    with recording(tmp_path, listen=listen):
        heard[0]({"event": "camera_lost", "level": "error", "timestamp": "2026-11-21T09:14:03.446Z"})
    assert heard == []
    assert bodies(tmp_path) == [{"event": "camera_lost", "level": "error"}]


def test_many_threads_may_note_at_once(tmp_path):
    def note(name):
        for number in range(100):
            recorder.note("result", {"name": name, "number": number})

    with recording(tmp_path) as recorder:
        threads = [threading.Thread(target=note, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = bodies(tmp_path)
    assert [[body["number"] for body in found if body["name"] == name] for name in range(4)] == [list(range(100))] * 4


def test_one_that_was_never_started_may_be_stopped(tmp_path):
    recorder = Recorder(tmp_path, 1, SESSION)
    recorder.note("log", {})
    recorder.stop(1)
    assert not (tmp_path / FILE).exists()


def test_after_a_stop_the_power_may_be_cut(tmp_path, monkeypatch):
    written, synced, sync = threading.Event(), [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(written.is_set()), sync(fd)))
    with recording(tmp_path) as recorder:
        recorder.note("log", {})
        noted(recorder)
        written.set()
    assert synced == [True]


def test_a_disk_that_is_never_synced_is_told_once(tmp_path, monkeypatch):
    def fail(_fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(recorder_module, "SYNC_EVERY_S", 0.005)
    with capture_logs() as entries, recording(tmp_path) as recorder:
        for number in range(5):
            recorder.note("log", {"number": number})
            wait_for(lambda: recorder._file and not recorder._file._is_dirty and recorder.written > number)  # noqa: B023
    assert [entry["event"] for entry in entries] == ["recorder_not_synced"]
