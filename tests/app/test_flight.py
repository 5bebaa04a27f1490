"""`Flight`: the recorder's file, read beside its writer."""

import os
import threading
from contextlib import closing

import pytest

from edge_agent.app import flight as flight_module
from edge_agent.app.flight import Flight, flight_of
from edge_agent.app.instances import Instance
from edge_agent.errors import UsageError
from edge_agent.runtime import recorder as recorder_module
from edge_agent.runtime.flight_file import FILE
from edge_agent.runtime.flight_records import MOST_BYTES, WINDOW_BYTES, first_page
from tests.runtime.flights import noted, packed, recording


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(recorder_module, "WRITE_EVERY_S", 0.005)
    monkeypatch.setattr(flight_module, "LOOK_EVERY_S", 0.005)


def numbers_in(folder):
    with closing(Flight(folder / FILE)) as flight:
        return [record.number for record in flight.records()]


def file_of(folder, data, size=2 * WINDOW_BYTES):
    """A file whose ring of verdicts begins with these bytes."""
    content = first_page({"verdicts": size, "events": 4096}) + data.ljust(size, b"\0") + bytes(4096)
    (folder / FILE).write_bytes(content)
    return folder


@pytest.mark.parametrize("before", [0, 1, WINDOW_BYTES - MOST_BYTES - 1, WINDOW_BYTES - 30, WINDOW_BYTES - 2])
def test_a_record_is_found_wherever_it_lies(tmp_path, before):
    file_of(tmp_path, bytes(before) + packed(7))
    assert numbers_in(tmp_path) == [7]


def test_the_last_bytes_of_a_ring_are_looked_at_too(tmp_path):
    record = packed(7)
    file_of(tmp_path, bytes(2 * WINDOW_BYTES - len(record)) + record)
    assert numbers_in(tmp_path) == [7]


def test_a_length_that_is_wrong_hides_no_other_record(tmp_path):
    first = bytearray(packed(1))
    first[8:12] = b"\xff\xff\0\0"
    file_of(tmp_path, bytes(first) + packed(2))
    assert numbers_in(tmp_path) == [2]


def test_a_record_of_which_only_half_was_overwritten_is_gone(tmp_path):
    old = packed(1, body=b'{"event": "' + b"x" * 500 + b'"}')
    file_of(tmp_path, packed(2) + old[len(packed(2)) :] + packed(3))
    assert numbers_in(tmp_path) == [2, 3]


def test_what_is_no_json_is_passed_over(tmp_path):
    file_of(tmp_path, packed(1, body=b"{") + packed(2))
    assert numbers_in(tmp_path) == [2]


def test_those_that_come_are_followed_over_the_end_of_the_ring(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"number": "before"})
        noted(recorder)
        with closing(Flight(tmp_path / FILE)) as flight:
            following = flight.follow(flight.newest())
            found = []
            for batch in range(24):
                note_some(recorder, batch)
                found += [next(following).body["number"] for _ in range(50)]
    assert found == list(range(1200))


def test_what_was_written_over_before_it_was_read_is_left_out(tmp_path):
    with recording(tmp_path) as recorder:
        note_some(recorder, 0)
        noted(recorder)
        with closing(Flight(tmp_path / FILE)) as flight:
            following = flight.follow(50)
            note_some(recorder, 1)
            found = [next(following).body["number"]]
            for batch in range(2, 40):
                note_some(recorder, batch)
                noted(recorder)
            while not found or found[-1] < 1999:
                found.append(next(following).body["number"])
    assert found == sorted(set(found))
    assert found[0] == 50
    assert len(found) < 1950


def note_some(recorder, batch):
    for number in range(50 * batch, 50 * batch + 50):
        recorder.note("result" if number % 2 else "log", {"number": number, "filler": "x" * 1000})


def test_the_file_that_takes_its_place_is_followed_too(tmp_path):
    with recording(tmp_path) as recorder:
        recorder.note("log", {"number": 0})
        noted(recorder)
    with closing(Flight(tmp_path / FILE)) as flight:
        following = flight.follow(flight.newest())
        threading.Timer(0.05, lambda: larger(tmp_path)).start()
        assert next(following).body == {"number": 1}


def larger(folder):
    with recording(folder, max_mb=2) as recorder:
        recorder.note("log", {"number": 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "the agent has not run yet, or .recorder. max_mb is 0"),
        (lambda path: path.write_text("a diary"), "it is no flight recorder's file; the agent sets it aside"),
        (lambda path: path.mkdir(), "it is no file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path, make, message):
    make(tmp_path / FILE)
    with pytest.raises(UsageError, match=message):
        Flight(tmp_path / FILE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_who_may_not_read_it_is_told_how_to(tmp_path):
    file_of(tmp_path, b"")
    (tmp_path / FILE).chmod(0)
    with pytest.raises(UsageError, match=r"may not be read: .*usermod"):
        Flight(tmp_path / FILE)


def test_without_a_device_nobody_knows_where_it_is(tmp_path):
    with pytest.raises(UsageError, match=r"device.* id cannot be read"):
        flight_of(Instance("line3", tmp_path / "line3.toml", None, None, is_service=False))
