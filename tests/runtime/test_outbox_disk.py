"""What the outbox keeps on disk: over restarts, kills, and a disk that fails."""

import contextlib
import json
import shutil
import sqlite3
import stat
import time

import pytest

from edge_agent.core.ports import Message
from edge_agent.errors import FatalError
from edge_agent.runtime import link as link_module
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox, keeper
from edge_agent.runtime.outbox import outbox as sender
from edge_agent.runtime.outbox.stock import MEMORY_ROWS, ROOM
from edge_agent.runtime.outbox.store import ASIDE_ROWS, VERSION
from tests.runtime.stations import OUTBOX, Wire, one_after_the_other, wait_for


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Waits are short."""
    monkeypatch.setattr(keeper, "RETRY_S", 0.3)
    monkeypatch.setattr(sender, "STEADY_S", 0.3)
    monkeypatch.setattr(link_module, "FIRST_WAIT_S", 0.05)


def numbered(topic, number, session="s1", padding=0):
    payload = {"session": session, "seq": number, "padding": "x" * padding}
    return Message(topic, json.dumps(payload).encode(), qos=1)


def numbers(wire, topic="result"):
    return [json.loads(message.payload)["seq"] for message in wire.sent if message.topic == topic]


@contextlib.contextmanager
def outbox_in(folder, *wires, **limits):
    """A running outbox with the connections given, of which each breaks before the next; none: no broker."""
    link = Link("records", one_after_the_other(*wires))
    outbox = Outbox(link, folder=folder, **{**OUTBOX, **limits})
    outbox.start()
    link.start()
    try:
        yield outbox
    finally:
        outbox.stop(0)
        link.stop(5)


def is_on_disk(outbox):
    return lambda: outbox._stock.unwritten() == 0


def is_within_limits(outbox):
    """What is too much has gone: to see to that, the keeper may have to read it first."""
    return lambda: outbox._stock._excess() is None


def fill(folder, count, *, kind="result", session="s1", **limits):
    """An outbox that ran without a broker."""
    with outbox_in(folder, **limits) as outbox:
        for number in range(1, count + 1):
            outbox.put(kind, numbered(kind, number, session))
        wait_for(is_on_disk(outbox))
        return dict(outbox.counts)


def rows(folder, table="result"):
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database:
        return [
            json.loads(payload)["seq"]
            for (payload,) in database.execute(f"SELECT payload FROM {table} ORDER BY number")  # noqa: S608 - a test's word
        ]


def change(folder, *statements):
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def test_what_is_left_is_sent_after_the_next_start_word_for_word_and_first(tmp_path):
    fill(tmp_path, 3 * ROOM)
    with outbox_in(tmp_path) as outbox:
        assert outbox.waiting() == 3 * ROOM
    wire = Wire()
    with outbox_in(tmp_path, wire) as outbox:
        outbox.put("result", numbered("result", 1, session="s2"))
        wait_for(lambda: outbox.waiting() == 0)
    sent = [json.loads(message.payload) for message in wire.sent]
    assert [(m["session"], m["seq"]) for m in sent] == [*(("s1", n) for n in range(1, 3 * ROOM + 1)), ("s2", 1)]
    assert rows(tmp_path) == []


def test_what_was_put_before_the_start_comes_after_what_was_left(tmp_path):
    fill(tmp_path, 30)
    wire = Wire()
    link = Link("records", one_after_the_other(wire))
    outbox = Outbox(link, folder=tmp_path, **OUTBOX)
    outbox.put("result", numbered("result", 31))
    outbox.start()
    link.start()
    wait_for(lambda: outbox.waiting() == 0)
    assert outbox.stop(0) == 0
    link.stop(5)
    assert numbers(wire) == list(range(1, 32))


def test_events_of_this_session_go_before_results_of_the_last(tmp_path):
    fill(tmp_path, 50)
    wire = Wire()
    link = Link("records", one_after_the_other(wire))
    outbox = Outbox(link, folder=tmp_path, **OUTBOX)
    outbox.start()
    outbox.put("event", numbered("event", 1))
    link.start()
    wait_for(lambda: outbox.waiting() == 0)
    outbox.stop(0)
    link.stop(5)
    assert [message.topic for message in wire.sent] == ["event"] + ["result"] * 50


def test_only_what_the_broker_confirmed_is_deleted(tmp_path):
    wire = Wire(code=None)
    with outbox_in(tmp_path, wire) as outbox:
        for number in range(10):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: len(wire.sent) == 10)
        for message in wire.sent[:4]:
            wire.confirm(message.token)
        wait_for(lambda: outbox.waiting() == 6)
    assert rows(tmp_path) == [4, 5, 6, 7, 8, 9]


def test_0x10_is_delivered_and_said(tmp_path):
    with outbox_in(tmp_path, Wire(code=0x10)) as outbox:
        outbox.put("result", numbered("result", 1))
        wait_for(lambda: outbox.waiting() == 0)
        assert (outbox.counts["delivered"], outbox.counts["unheard"], outbox.unheard) == (1, 1, {"result"})
    assert rows(tmp_path) == []


@pytest.mark.parametrize("code", [0x87, 0x97])
def test_what_is_refused_stays_on_disk(tmp_path, code):
    with outbox_in(tmp_path, Wire(code=code)) as outbox:
        for number in range(3):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: outbox.counts["refused"] == 3)
        assert outbox.refused == {"result": code}
    assert rows(tmp_path) == [0, 1, 2]


def test_what_is_refused_for_good_is_set_aside(tmp_path):
    wire = Wire(code=None)
    with outbox_in(tmp_path, wire) as outbox:
        for number in range(3):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: len(wire.sent) == 3)
        for message, code in zip(wire.sent, (0, 0x99, 0), strict=True):
            wire.confirm(message.token, code)
        wait_for(lambda: outbox.waiting() == 0)
        (loss,) = outbox.losses()
    assert (outbox.counts["set_aside"], loss.session, loss.first_seq, loss.last_seq) == (1, "s1", 1, 1)
    assert (rows(tmp_path), rows_aside(tmp_path)) == ([], [1])


def rows_aside(folder):
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database:
        return [
            number for (number,) in database.execute("SELECT json_extract(payload, '$.seq') FROM aside ORDER BY id")
        ]


def test_a_message_that_breaks_each_connection_is_set_aside_and_the_others_get_through(tmp_path):
    class Fragile(Wire):
        """Breaks on message 2 of three."""

        def send(self, message):
            if json.loads(message.payload)["seq"] == 2:
                self.cut("protocol error")
            else:
                super().send(message)

    wires = [Fragile() for _ in range(8)]
    with outbox_in(tmp_path, *wires) as outbox:
        for number in (1, 2, 3):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: outbox.waiting() == 0)
        assert (outbox.counts["delivered"], outbox.counts["set_aside"]) == (2, 1)
    assert {number for wire in wires for number in numbers(wire)} == {1, 3}
    assert rows_aside(tmp_path) == [2]


def test_rows_that_cannot_be_read_are_set_aside(tmp_path):
    fill(tmp_path, 5)
    change(
        tmp_path,
        "UPDATE result SET payload = x'7b00' WHERE number = 2",
        "UPDATE result SET topic = CAST(x'ff' AS TEXT) WHERE number = 3",
        "UPDATE result SET payload = 17 WHERE number = 4",
    )
    wire = Wire()
    with outbox_in(tmp_path, wire) as outbox:
        wait_for(lambda: outbox.waiting() == 0)
        assert outbox.counts["set_aside"] == 3
        assert sum(loss.count for loss in outbox.losses()) == 3
    assert numbers(wire) == [1, 5]


def test_what_is_set_aside_is_bounded(tmp_path):
    with outbox_in(tmp_path, Wire(code=0x90)) as outbox:
        for number in range(ASIDE_ROWS + 50):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: outbox.counts["set_aside"] == ASIDE_ROWS + 50)
    assert rows_aside(tmp_path) == list(range(50, ASIDE_ROWS + 50))


def test_when_rows_run_out_the_oldest_results_on_disk_go_then_events(tmp_path):
    fill(tmp_path, 10, kind="event")
    with outbox_in(tmp_path, max_rows=1000) as outbox:
        for number in range(1, 1501):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: outbox.waiting() == 1000)
        wait_for(is_on_disk(outbox))
        assert outbox.counts["dropped_results"] == 510
        (loss,) = outbox.losses()
        assert (loss.first_seq, loss.last_seq, loss.count, loss.reason) == (1, 510, 510, "max_rows")
        outbox.set_limits(**{**OUTBOX, "max_rows": 5})
        wait_for(lambda: outbox.waiting() == 5)
    assert (rows(tmp_path, "event"), rows(tmp_path)) == ([6, 7, 8, 9, 10], [])
    assert outbox.counts["dropped_events"] == 5


def test_when_bytes_run_out_the_oldest_results_go(tmp_path):
    with outbox_in(tmp_path, max_mb=0.5) as outbox:
        for number in range(1000):
            outbox.put("result", numbered("result", number, padding=930))
        wait_for(is_on_disk(outbox))
        wait_for(is_within_limits(outbox))
        kept = outbox.waiting()
        assert 450 < kept < 520
        assert kept + outbox.counts["dropped_results"] == 1000
    assert rows(tmp_path) == list(range(1000 - kept, 1000))


def test_a_disk_that_is_nearly_full_is_not_filled_further(tmp_path):
    with outbox_in(tmp_path, min_free_mb=1e9, max_rows=100_000) as outbox:
        wait_for(lambda: outbox._stock.disk_bytes is not None)
        for number in range(6000):
            outbox.put("result", numbered("result", number, padding=930))
            if number % 500 == 499:
                wait_for(lambda: outbox.waiting() < 1300)
                wait_for(is_on_disk(outbox))
        wait_for(is_within_limits(outbox))
        assert {loss.reason for loss in outbox.losses()} == {"min_free_mb"}
        kept = outbox.waiting()
    assert 900 < kept < 1300
    assert rows(tmp_path) == list(range(6000 - kept, 6000))
    assert (tmp_path / "outbox.db").stat().st_size < 4_000_000


def test_the_counts_are_right_after_a_kill_though_nothing_was_closed(tmp_path):
    first, copied = tmp_path / "first", tmp_path / "copied"
    with outbox_in(first, Wire(code=None)) as outbox:
        for number in range(700):
            outbox.put("result", numbered("result", number))
        wait_for(is_on_disk(outbox))
        copied.mkdir()
        for file in first.iterdir():  # as a kill leaves it
            (copied / file.name).write_bytes(file.read_bytes())
    with outbox_in(copied) as outbox:
        assert outbox.waiting() == 700
    wire = Wire()
    with outbox_in(copied, wire) as outbox:
        wait_for(lambda: outbox.waiting() == 0)
    assert numbers(wire) == list(range(700))


def test_it_shows_how_much_of_each_kind_waits_and_the_oldest_also_after_a_restart(tmp_path):
    fill(tmp_path, 3 * ROOM)
    with outbox_in(tmp_path) as outbox:
        outbox.put("event", numbered("event", 1))
        wait_for(lambda: outbox.depths()["result"].oldest)
        depths = outbox.depths()
        assert (depths["result"].rows, depths["event"].rows) == (3 * ROOM, 1)
        assert json.loads(depths["result"].oldest)["seq"] == 1
        assert depths["event"].size == len("event") + len(depths["event"].oldest)


def test_it_shows_the_room_on_its_disk(tmp_path):
    with outbox_in(tmp_path / "own") as outbox:
        wait_for(lambda: outbox.disk_free_bytes)
        shutil.rmtree(tmp_path / "own")
        (tmp_path / "own").write_text("in the way")
        outbox.put("event", numbered("event", 1))
        wait_for(lambda: outbox.trouble)
        assert outbox.disk_free_bytes is None


def test_the_order_holds_over_restarts_and_connections_that_break(tmp_path):
    sent = []
    for session in range(4):
        wire = Wire(code=None)
        with outbox_in(tmp_path, wire) as outbox:
            for number in range(100):
                outbox.put("result", numbered("result", 100 * session + number))
            wait_for(lambda wire=wire: wire.sent)
            wire.cut()
            wait_for(is_on_disk(outbox))
    last = Wire()
    with outbox_in(tmp_path, last) as outbox:
        wait_for(lambda: outbox.waiting() == 0)
        sent = numbers(last)
    assert sent == list(range(400))


def test_a_second_agent_with_the_same_file_is_refused_with_a_sentence(tmp_path):
    with outbox_in(tmp_path), pytest.raises(FatalError, match=r"another edge-agent keeps its records there"):
        Outbox(Link("records", one_after_the_other()), folder=tmp_path, **OUTBOX).start()


def test_nobody_else_may_read_the_files(tmp_path):
    folder = tmp_path / "state" / "cap-01"
    with outbox_in(folder) as outbox:
        outbox.put("result", numbered("result", 1))
        wait_for(is_on_disk(outbox))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_file_says_its_version_and_a_later_one_is_kept_unharmed(tmp_path):
    fill(tmp_path, 3)
    change(tmp_path, f"PRAGMA user_version = {VERSION + 1}")
    with outbox_in(tmp_path, Wire()) as outbox:
        (broken,) = outbox.quarantined()
        outbox.put("result", numbered("result", 9))
        wait_for(lambda: outbox.waiting() == 0)
    assert "later release" in broken.reason
    change(tmp_path, f"PRAGMA user_version = {VERSION}")
    (tmp_path / broken.file).rename(tmp_path / "outbox.db")
    assert rows(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("harm", ["no database", "empty", "foreign", "half", "zeros"])
def test_a_file_that_cannot_be_used_is_put_away_and_a_fresh_one_made(tmp_path, harm):
    path = tmp_path / "outbox.db"
    fill(tmp_path, 2000)
    data = path.read_bytes()
    if harm == "foreign":
        path.unlink()
        change(tmp_path, "CREATE TABLE parts (id)")
    else:
        zeros = data[:8192] + bytes(len(data) - 8192)
        path.write_bytes(
            {"no database": b"x" * 5000, "empty": b"", "half": data[: len(data) // 3], "zeros": zeros}[harm]
        )
    wire = Wire()
    with outbox_in(tmp_path, wire) as outbox:
        outbox.put("result", numbered("result", 5000))
        wait_for(lambda: numbers(wire)[-1:] == [5000])
        wait_for(lambda: outbox.waiting() == 0)
        assert outbox.trouble is None
        assert bool(outbox.quarantined()) == (harm != "empty")
    assert len(list(tmp_path.glob("outbox.db.broken-*"))) == (harm != "empty")
    assert rows(tmp_path) == []


def test_what_is_in_memory_outlives_a_file_that_breaks_while_it_is_used(tmp_path):
    with outbox_in(tmp_path) as outbox:
        for number in range(50):
            outbox.put("result", numbered("result", number))
        wait_for(is_on_disk(outbox))
        (tmp_path / "outbox.db").unlink()
        wait_for(lambda: outbox._keeper.quarantined)
        wait_for(is_on_disk(outbox))
        assert outbox.waiting() == 50
    assert rows(tmp_path) == list(range(50))


def test_only_the_last_broken_files_are_kept(tmp_path):
    for number in range(5):
        (tmp_path / "outbox.db").write_bytes(b"x" * (4096 + number))
        with outbox_in(tmp_path):
            pass
    kept = sorted(tmp_path.glob("outbox.db.broken-*"))
    assert [file.stat().st_size for file in kept] == [4099, 4100]


def test_the_broken_file_that_was_just_made_is_kept_though_the_clock_has_gone_back(tmp_path):
    for year in (2998, 2999):
        (tmp_path / f"outbox.db.broken-{year}0101T000000.000000Z").touch()
    (tmp_path / "outbox.db").write_bytes(b"x" * 4096)
    with outbox_in(tmp_path) as outbox:
        (broken,) = outbox.quarantined()
    assert {file.name for file in tmp_path.glob("outbox.db.broken-*")} == {
        broken.file,
        "outbox.db.broken-29990101T000000.000000Z",
    }


@pytest.mark.parametrize("totals", ["x'00', x'00', x'00'", "'many', 0, 0"])
def test_totals_that_are_no_numbers_count_as_a_damaged_file(tmp_path, totals):
    fill(tmp_path, 3)
    change(tmp_path, f"UPDATE totals SET (up_to, rows, bytes) = ({totals}) WHERE kind = 'result'")  # noqa: S608 - a test's word
    with outbox_in(tmp_path) as outbox:
        (broken,) = outbox.quarantined()
        assert (broken.reason, outbox.trouble) == ("its totals are damaged", None)


def test_a_folder_that_is_deleted_while_it_is_used_comes_back(tmp_path):
    folder = tmp_path / "state"
    with outbox_in(folder) as outbox:
        for number in range(5):
            outbox.put("result", numbered("result", number))
        wait_for(is_on_disk(outbox))
        shutil.rmtree(folder)
        outbox._keeper._sync_failed = FileNotFoundError(2, "No such file or directory")  # the sync may notice it first
        wait_for(lambda: outbox.trouble)
        wait_for(lambda: outbox.trouble is None)
        wait_for(is_on_disk(outbox))
    assert rows(folder) == list(range(5))


def test_a_sync_that_hangs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "SILENT_S", 1)
    with outbox_in(tmp_path) as outbox:
        with outbox._keeper._store._syncing:  # as it is while the call does not come back
            wait_for(lambda: outbox.trouble == "the disk has not answered for 1 s")
            outbox.put("result", numbered("result", 1))
            wait_for(is_on_disk(outbox))
        wait_for(lambda: outbox.trouble is None)


def test_without_a_folder_that_can_be_written_it_goes_on_in_memory_and_comes_back(tmp_path):
    (tmp_path / "state").write_text("a file, where a folder should be")
    wire = Wire(code=None)
    with outbox_in(tmp_path / "state" / "cap-01", wire) as outbox:
        assert outbox.trouble
        outbox.put("result", numbered("result", 1))
        wait_for(lambda: wire.sent)
        assert outbox.waiting() == 1
        (tmp_path / "state").unlink()
        wait_for(lambda: outbox.trouble is None)
        wait_for(is_on_disk(outbox))
    assert rows(tmp_path / "state" / "cap-01") == [1]


def test_older_rows_that_turn_up_with_the_disk_are_not_lost(tmp_path):
    folder, away = tmp_path / "state", tmp_path / "away"
    fill(folder, 30)
    folder.rename(away)
    folder.write_text("a file, where a folder should be")
    wire = Wire(code=None)
    with outbox_in(folder, wire) as outbox:
        for number in range(31, 61):
            outbox.put("result", numbered("result", number))
        wait_for(lambda: len(wire.sent) == 20)
        folder.unlink()
        away.rename(folder)
        wait_for(lambda: outbox.trouble is None)
        assert outbox.waiting() == 60
        wire.code = 0
        for message in list(wire.sent):
            wire.confirm(message.token)
        wait_for(lambda: outbox.waiting() == 0)
    assert numbers(wire) == [*range(31, 51), *range(1, 31), *range(51, 61)]


def test_a_disk_that_stands_still_holds_nobody_up_and_costs_memory_within_limits(tmp_path):
    with outbox_in(tmp_path, max_rows=100_000) as outbox:
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            took_s = []
            for number in range(MEMORY_ROWS + 500):
                began_s = time.perf_counter()
                outbox.put("result", numbered("result", number))
                took_s.append(time.perf_counter() - began_s)
            assert outbox.waiting() == MEMORY_ROWS
            assert outbox.counts["dropped_results"] == 500
            assert {loss.reason for loss in outbox.losses()} == {"memory"}
            wait_for(lambda: outbox.trouble == "database is locked")
            other.execute("ROLLBACK")
        wait_for(lambda: outbox.trouble is None)
        wait_for(is_on_disk(outbox))
    assert sorted(took_s)[len(took_s) // 2] < 0.001
    assert rows(tmp_path) == list(range(500, MEMORY_ROWS + 500))


def test_a_broker_that_confirms_nothing_while_the_disk_stands_still_costs_memory_within_limits(tmp_path):
    wire = Wire(code=None)
    with outbox_in(tmp_path, wire, max_rows=100_000) as outbox:
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.put("result", numbered("result", 0))
            wait_for(lambda: wire.sent)
            for number in range(1, MEMORY_ROWS + 2000):
                outbox.put("result", numbered("result", number))
            assert len(outbox._stock._lanes["result"].unwritten) == MEMORY_ROWS
            other.execute("ROLLBACK")
        wait_for(is_on_disk(outbox))


def test_the_log_of_the_file_does_not_grow_for_ever(tmp_path):
    with outbox_in(tmp_path, Wire(), max_rows=100_000) as outbox:
        for number in range(6000):
            outbox.put("result", numbered("result", number, padding=930))
        wait_for(lambda: outbox.waiting() == 0)
        wait_for(lambda: (tmp_path / "outbox.db-wal").stat().st_size < 4_000_000)


def test_a_stop_says_what_is_lost_and_what_is_on_disk_is_not(tmp_path):
    link = Link("records", one_after_the_other())
    outbox = Outbox(link, folder=tmp_path, **OUTBOX)
    outbox.start()
    for number in range(7):
        outbox.put("result", numbered("result", number))
    assert outbox.stop(10) == 0
    assert rows(tmp_path) == list(range(7))


def test_a_start_after_a_kill_has_little_to_count(tmp_path):
    with outbox_in(tmp_path, max_rows=100_000) as outbox:
        for number in range(5000):
            outbox.put("result", numbered("result", number))
        wait_for(is_on_disk(outbox))
        wait_for(lambda: outbox._keeper._store.uncounted == 0)
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
            assert database.execute("SELECT rows FROM totals WHERE kind = 'result'").fetchone() == (5000,)


def test_somebody_who_reads_the_file_for_long_does_not_hold_writing_up(tmp_path):
    fill(tmp_path, 10)
    with outbox_in(tmp_path, max_rows=100_000) as outbox:
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM result").fetchone()
            for number in range(6000):
                outbox.put("result", numbered("result", number, padding=930))
            wait_for(is_on_disk(outbox))
            time.sleep(1)  # a checkpoint that does not get through
            outbox.put("result", numbered("result", 6000))
            wait_for(is_on_disk(outbox))
            assert outbox.trouble is None
        wait_for(lambda: (tmp_path / "outbox.db-wal").stat().st_size < 4_000_000)
