"""Logs as their readers get them: the lines on standard error, the datagrams at a journal's socket."""

import fcntl
import json
import math
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.catalogue import message_ids
from edge_agent.logs import JournalSink, StderrSink, clean, journal_datagram
from tests.fixtures import REPO

ENTRY = {"timestamp": "2026-11-21T09:14:03.446Z", "level": "warning", "event": "camera_lost", "camera": "top"}


def run(code: str, form: str = "json", environ: dict[str, str] | None = None, **kwargs) -> subprocess.CompletedProcess:
    """Runs the code in a process of its own, with logs set up at level info."""
    setup = (
        "import logging, os, sys, threading, warnings\nimport structlog\nfrom edge_agent import logs\n"
        f"logs.configure('info', {form!r})\nlog = structlog.get_logger()\n"
    )
    kwargs.setdefault("stderr", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)],
        check=False,
        cwd=REPO,
        env={**os.environ, **(environ or {})},
        timeout=30,
        **kwargs,
    )


def lines_of(code: str, **kwargs) -> list[dict]:
    return [json.loads(line) for line in run(code, **kwargs).stderr.splitlines()]


# ---------------------------------------------------------------------------------------------------- JSON lines


def test_an_event_is_one_json_line_with_its_keys():
    (entry,) = lines_of("log.info('camera_back', camera='top', outage_s=1.5, sizes=[1, 2])")
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("timestamp"))
    assert entry == {"level": "info", "event": "camera_back", "camera": "top", "outage_s": 1.5, "sizes": [1, 2]}


def test_standard_error_that_is_a_pipe_gets_json():
    (entry,) = lines_of("log.info('ready')", form="auto", environ={"JOURNAL_STREAM": "1:2"})
    assert entry["event"] == "ready"


def test_an_unknown_number_is_null_so_that_every_line_is_json():
    (entry,) = lines_of("log.info('health', temperature_c=float('nan'), drift=float('inf'))")
    assert (entry["temperature_c"], entry["drift"]) == (None, None)


def test_an_exception_is_part_of_its_line():
    (entry,) = lines_of("""
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("frame_failed", frame=7)
        """)
    assert (entry["level"], entry["frame"]) == ("error", 7)
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ZeroDivisionError: division by zero")


def test_nothing_goes_to_standard_output():
    assert run("log.info('ready')", stdout=subprocess.PIPE).stdout == b""


def test_a_reader_that_is_gone_raises_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("log.info('ready'); log.info('again'); os._exit(7)", stderr=writer)
    finally:
        os.close(writer)
    assert done.returncode == 7


def test_closed_standard_error_raises_nothing():
    code = "sys.stderr.close(); log.info('x'); logs.configure('info'); log.info('y'); os._exit(7)"
    assert run(code).returncode == 7


# ---------------------------------------------------------------------------------------------------- levels


def test_what_is_below_the_level_is_not_logged():
    assert [entry["event"] for entry in lines_of("log.debug('frame'); log.info('ready')")] == ["ready"]


def test_the_level_changes_live_for_loggers_that_exist():
    entries = lines_of("""
        bound = log.bind(link="line")
        bound.debug("one")
        logs.set_level("debug")
        bound.debug("two")
        logs.set_level("error")
        bound.warning("three")
        """)
    assert [(entry["event"], entry["link"]) for entry in entries] == [("two", "line")]


# ---------------------------------------------------------------------------------------------------- listeners


def heard_by(code: str) -> list[dict]:
    """What a listener gets while the level is `error`."""
    code = f"""
        import json
        logs.set_level("error")
        end = logs.listen(lambda entry: print(json.dumps(entry)))
        {code}
        """
    return [json.loads(line) for line in run(code, stdout=subprocess.PIPE).stdout.splitlines()]


def test_a_listener_hears_what_is_info_or_worse_whatever_the_level_is():
    entries = heard_by('log.debug("one"); log.info("two", camera="top"); log.error("three")')
    assert [(entry["event"], entry["level"]) for entry in entries] == [("two", "info"), ("three", "error")]
    assert entries[0]["camera"] == "top"


def test_a_listener_hears_no_secrets_and_plain_values_only():
    (entry,) = heard_by(
        'log.info("x", password="correct horse", path=__import__("pathlib").Path("/a"), n=float("nan"))'
    )
    assert (entry["password"], entry["path"], entry["n"]) == ("***", "/a", None)


def test_a_listener_that_was_ended_hears_nothing():
    assert heard_by('end(); log.error("one")') == []


def test_what_a_listener_hears_below_the_level_is_not_written():
    code = "logs.set_level('error'); logs.listen(lambda entry: None); log.info('one'); log.error('two')"
    assert [entry["event"] for entry in lines_of(code)] == ["two"]


# ---------------------------------------------------------------------------------------------------- other people's logs


def test_the_standard_librarys_logging_comes_the_same_way():
    (entry,) = lines_of("logging.getLogger('paho').warning('connection to %s refused', 'broker')")
    assert entry["event"] == "library_log"
    assert (entry["level"], entry["logger"], entry["text"]) == ("warning", "paho", "connection to broker refused")


def test_a_library_logs_at_the_same_level():
    entries = lines_of("""
        logging.getLogger("paho").debug("one")
        logs.set_level("debug")
        logging.getLogger("paho").debug("two")
        logging.getLogger("paho").log(25, "between")
        """)
    assert [(entry["text"], entry["level"]) for entry in entries] == [("two", "debug"), ("between", "info")]


def test_warnings_come_the_same_way():
    (entry,) = lines_of("warnings.warn('old api')")
    assert (entry["logger"], entry["level"]) == ("py.warnings", "warning")
    assert "UserWarning: old api" in entry["text"]


def test_a_thread_that_dies_is_an_event():
    (entry,) = lines_of("""
        def work():
            raise ValueError("no such part")
        thread = threading.Thread(target=work, name="pipeline")
        thread.start()
        thread.join()
        """)
    assert (entry["event"], entry["level"], entry["thread"]) == ("thread_died", "critical", "pipeline")
    assert entry["exception"].endswith("ValueError: no such part")


def test_a_thread_that_ends_itself_is_none():
    assert lines_of("thread = threading.Thread(target=lambda: exit(3)); thread.start(); thread.join()") == []


def test_an_uncaught_exception_is_an_event_and_the_process_fails():
    done = run("raise ValueError('no such part')")
    entry = json.loads(done.stderr)
    assert (entry["event"], entry["level"], done.returncode) == ("uncaught_exception", "critical", 1)
    assert entry["exception"].endswith("ValueError: no such part")


# ---------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("key", ["password", "mqtt_password", "token", "client_secret", "api_key", "PASSPHRASE"])
def test_a_value_whose_key_looks_secret_is_not_shown(key):
    assert clean({"mqtt": [{key: "hunter2"}]}) == {"mqtt": [{key: "***"}]}


def test_the_name_of_a_secrets_file_is_shown():
    assert clean("mqtt.secret", "password_file") == "mqtt.secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:hunter2@cam-1/stream lost", "rtsp://***@cam-1/stream lost"),
        ("rtsp://admin:hunt@r2@cam-1/a@b", "rtsp://***@cam-1/a@b"),
        ("rtsp://cam-1:554/stream@2", "rtsp://cam-1:554/stream@2"),
        ("http://cam/video?user=me&token=hunter2&size=2", "http://cam/video?user=me&token=***&size=2"),
        ("got {'password': 'hunter2', 'port': 1}", "got {'password': ***, 'port': 1}"),
        ("password_file: no such file", "password_file: no such file"),
    ],
)
def test_a_secret_inside_a_text_is_not_shown(text, shown):
    assert clean(text) == shown


def test_a_secret_in_a_traceback_is_not_shown():
    stderr = run("""
        password = "hunter" + str(2)
        try:
            raise ConnectionError(f"rtsp://admin:{password}@cam-1/ refused")
        except ConnectionError:
            log.exception("camera_lost")
        """, form="console").stderr  # fmt: skip
    assert b"rtsp://***@cam-1/ refused" in stderr
    assert b"hunter2" not in stderr


# ---------------------------------------------------------------------------------------------------- a terminal


def on_a_terminal(code: str, environ: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    try:
        run(code, form="auto", environ=environ, stderr=theirs)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_gets_readable_colours():
    shown = on_a_terminal("log.warning('camera_lost', camera='top')", {"NO_COLOR": ""})
    assert "\x1b[" in shown
    assert "camera_lost" in shown


def test_no_color_is_obeyed():
    shown = on_a_terminal("log.warning('camera_lost', camera='top')", {"NO_COLOR": "1"})
    assert "\x1b[" not in shown
    assert re.search(r"Z \[warning *\] camera_lost +camera=top", shown)


# ---------------------------------------------------------------------------------------------------- the journal


class Journal:
    """A journal that reads what it is sent as journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        datagram, rights, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if rights:
            assert datagram == b""
            datagram = self.sealed(struct.unpack("i", rights[0][2])[0])
        return self.fields(datagram)

    @staticmethod
    def sealed(memory: int) -> bytes:
        with os.fdopen(memory, "rb") as file:
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) == seals
            file.seek(0)
            return file.read()

    @staticmethod
    def fields(data: bytes) -> dict[str, str]:
        found = {}
        while data:
            line, _, rest = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (size,) = struct.unpack_from("<Q", rest)
                value, rest = rest[8 : 8 + size], rest[8 + size :]
                assert rest[:1] == b"\n"
                rest = rest[1:]
            assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
            found[name.decode()] = value.decode()
            data = rest
        return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    with journal.socket:
        yield journal


@pytest.fixture
def sink(journal: Journal) -> Iterator[JournalSink]:
    sink = JournalSink(journal.path, fallback=StderrSink(json.dumps))
    with sink._socket:
        yield sink


def test_an_entry_has_a_message_for_people_and_fields_for_machines(journal, sink):
    sink.warning(**ENTRY, reason="no frame in 2 s", count=3)
    assert journal.entry() == {
        "MESSAGE": 'camera_lost camera=top reason="no frame in 2 s" count=3',
        "MESSAGE_ID": message_ids()["camera_lost"],
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "edge-agent",
        "EDGE_AGENT_EVENT": "camera_lost",
        "EDGE_AGENT_CAMERA": "top",
        "EDGE_AGENT_REASON": "no frame in 2 s",
        "EDGE_AGENT_COUNT": "3",
    }


def test_an_event_that_is_in_no_catalogue_has_no_message_id():
    assert "MESSAGE_ID" not in Journal.fields(journal_datagram({**ENTRY, "event": "of_a_plugin"}))


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_levels_are_syslog_priorities(level, priority):
    assert Journal.fields(journal_datagram({**ENTRY, "level": level}))["PRIORITY"] == priority


def test_a_value_may_hold_newlines_and_any_language(journal, sink):
    sink.warning(**ENTRY, text="línea 1\nPRIORITY=0\n\nend")
    entry = journal.entry()
    assert entry["EDGE_AGENT_TEXT"] == "línea 1\nPRIORITY=0\n\nend"
    assert entry["PRIORITY"] == "4"


def test_of_an_exception_the_message_has_the_last_line_and_the_field_all(journal, sink):
    trace = "Traceback (most recent call last):\n  here\nValueError: no such part"
    sink.error(**ENTRY, exception=trace)
    entry = journal.entry()
    assert entry["MESSAGE"] == 'camera_lost camera=top exception="ValueError: no such part"'
    assert entry["EDGE_AGENT_EXCEPTION"] == trace


def test_a_key_of_any_kind_becomes_a_valid_field():
    fields = Journal.fields(journal_datagram({**ENTRY, "größe.px": 1, "k" * 99: 2, "list": ["a", None]}))
    assert fields["EDGE_AGENT_GR_SSE_PX"] == "1"
    assert fields["EDGE_AGENT_" + "K" * 53] == "2"
    assert fields["EDGE_AGENT_LIST"] == '["a", null]'


def test_a_long_value_is_whole_in_its_field_and_short_in_the_message(journal, sink):
    sink.warning(**ENTRY, reason="x" * 5000)
    entry = journal.entry()
    assert len(entry["MESSAGE"]) < 200
    assert entry["EDGE_AGENT_REASON"] == "x" * 5000


def test_an_entry_too_large_for_a_datagram_comes_in_a_sealed_memory_file(journal, sink):
    sink.warning(**ENTRY, reason="x" * 3_000_000)
    assert journal.entry()["EDGE_AGENT_REASON"] == "x" * 3_000_000


def test_a_journal_that_is_away_leaves_standard_error(journal, sink, capsys):
    journal.path.unlink()
    sink.warning(**ENTRY)
    assert json.loads(capsys.readouterr().err) == ENTRY


def test_a_journal_that_comes_back_is_written_to_again(tmp_path, journal, sink, capsys):
    journal.path.rename(tmp_path / "away")
    sink.warning(**ENTRY)
    (tmp_path / "away").rename(journal.path)
    sink.warning(**ENTRY, again=True)
    assert journal.entry()["EDGE_AGENT_AGAIN"] == "true"


def test_a_journal_that_takes_nothing_costs_entries_which_are_counted(journal, sink):
    sent = 0
    while not sink._lost:
        sink.warning(**ENTRY)
        sent += 1
    sink.warning(**ENTRY)
    for _ in range(sent - 1):
        assert "EDGE_AGENT_LOST_ENTRIES" not in journal.entry()
    sink.warning(**ENTRY)
    assert journal.entry()["EDGE_AGENT_LOST_ENTRIES"] == "2"
    sink.warning(**ENTRY)
    assert "EDGE_AGENT_LOST_ENTRIES" not in journal.entry()


def test_under_systemd_the_journal_gets_the_fields(journal, tmp_path):
    with (tmp_path / "stream").open("wb") as stream:
        status = os.fstat(stream.fileno())
        code = f"""
            from pathlib import Path
            logs.configure("info", journal=Path({str(journal.path)!r}))
            log.info("camera_back", camera="top", password="hunter2")
            """
        run(code, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, stderr=stream)
    entry = journal.entry()
    assert (entry["EDGE_AGENT_CAMERA"], entry["EDGE_AGENT_PASSWORD"]) == ("top", "***")
    assert (tmp_path / "stream").read_bytes() == b""


def test_values_become_what_json_can_say():
    given = {"path": Path("/x"), 3: (1, True, None), "nan": math.nan}
    assert clean(given) == {"path": "/x", "3": [1, True, None], "nan": None}
