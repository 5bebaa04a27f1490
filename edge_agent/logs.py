"""Logs: snake_case facts with keys, on standard error or in the journal.

Everything ends in one of two sinks: the project's own events (`structlog.get_logger()`), what libraries log through
`logging` and `warnings` (as `library_log`), and exceptions that nobody caught. No log call raises into the agent: a
sink that is away costs the entry, never the line.
"""

import errno
import fcntl
import json
import logging
import math
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict

from edge_agent.catalogue import message_ids
from edge_agent.wire.messages import utc_text

Format = Literal["auto", "console", "json", "journal"]
Listener = Callable[[Mapping[str, Any]], None]

JOURNAL = Path("/run/systemd/journal/socket")
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
SEND_TIMEOUT_US = 100_000  # a log entry may hold up a thread of the line for no longer

_SECRET = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|api_?key|private_?key)"  # noqa: S105 - a pattern
_SECRET_KEY = re.compile(rf"{_SECRET}(?!.*_(?:file|path)$)", re.IGNORECASE)
_SECRET_IN_TEXT = re.compile(
    rf"((?<![/\w.-])[\w-]*{_SECRET}s?['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;)]+)", re.IGNORECASE
)
_CREDENTIALS_IN_URL = re.compile(r"(\w://)[^\s/]*@")
_REDACTED = "***"
_MESSAGE_VALUE_CHARS = 120
_listeners: list[Listener] = []


def configure(level: str, format: Format = "auto", *, journal: Path = JOURNAL) -> None:  # noqa: A002 - the TOML's word
    """Sets up all logging of the process, `warnings` and uncaught exceptions included.

    Args:
        level: `debug`, `info`, `warning` or `error`; `set_level` changes it later.
        format: `auto` is `journal` where standard error is the journal's stream, `console` on a terminal, else `json`.
        journal: the journal's socket.
    """
    chosen = _format_for_stderr() if format == "auto" else format
    sink = _console() if chosen == "console" else StderrSink(_as_json)
    if chosen == "journal":
        sink = JournalSink(journal, fallback=sink)
    structlog.configure(
        processors=[_drop_unwanted, _stamp, structlog.processors.format_exc_info, _cleaned, _tell],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryHandler()], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_dead_thread
    set_level(level)


def set_level(level: str) -> None:
    """From now on, only events of this level and above are logged, by loggers that exist already too."""
    logging.getLogger().setLevel(level.upper())


def listen(listener: Listener) -> Callable[[], None]:
    """From now on the listener gets each entry of level info and above, whatever the level is, as it is logged: cleaned.

    It must be quick, and may be called by any thread. The function that comes back ends it.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


class StderrSink:
    """One line per event on standard error."""

    def __init__(self, render: Callable[[EventDict], str]) -> None:
        self._render = render

    def write(self, /, **entry: Any) -> None:
        """Writes the entry; where nobody reads standard error any more, it is lost."""
        line = self._render(entry) + "\n"
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # the reader is gone, or it was closed, or never there
            return

    debug = info = warning = error = critical = write


class JournalSink(StderrSink):
    """The journal's native protocol: one datagram per entry, fields as they are (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    An entry that the journal cannot be given goes to `fallback`. A journal that is there but takes nothing is waited
    for once; entries are then lost until it does, and the next one says how many.
    """

    def __init__(self, path: Path, fallback: StderrSink) -> None:
        self._path = str(path)
        self._fallback = fallback
        self._lost = 0
        message_ids()  # reads its file now: no entry waits for a disk
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, SEND_TIMEOUT_US))

    def write(self, /, **entry: Any) -> None:
        """Sends the entry."""
        lost = self._lost
        if lost:
            entry["lost_entries"] = lost
        try:
            self._send(journal_datagram(entry))
        except BlockingIOError:
            self._lost += 1  # standard error is the journal's too: writing there would block
        except OSError:
            self._fallback.write(**entry)
        else:
            self._lost -= lost

    def _send(self, datagram: bytes) -> None:
        flags = socket.MSG_DONTWAIT if self._lost else 0
        try:
            self._socket.sendto(datagram, flags, self._path)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_in_memfd(datagram, flags)

    def _send_in_memfd(self, datagram: bytes, flags: int) -> None:
        """An empty datagram with the entry in a sealed memory file, for what does not fit into one."""
        memory = os.memfd_create("edge-agent-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(memory, "wb") as file:
            file.write(datagram)
            file.flush()
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
            # Not socket.send_fds: it takes an address and does not use it.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))]
            self._socket.sendmsg([], rights, flags, self._path)

    debug = info = warning = error = critical = write


def journal_datagram(entry: Mapping[str, Any]) -> bytes:
    """The entry in the journal's native format: `MESSAGE` for people, a field `EDGE_AGENT_<KEY>` for each key.

    An event of the catalogue also has its `MESSAGE_ID`, by which `journalctl -x` finds what it means.
    """
    fields = {
        "MESSAGE": _message(entry),
        "PRIORITY": str(PRIORITIES[entry["level"]]),
        "SYSLOG_IDENTIFIER": "edge-agent",
    }
    if message_id := message_ids().get(str(entry["event"])):
        fields["MESSAGE_ID"] = message_id
    for key, value in entry.items():
        if key not in {"level", "timestamp"}:  # the journal has its own
            fields[_field_name(key)] = _text(value)
    return b"".join(_field(name, value) for name, value in fields.items())


def _field_name(key: str) -> str:
    """systemd.journal-fields(7): capitals, digits and underscores, at most 64."""
    return "EDGE_AGENT_" + re.sub(r"[^A-Z0-9_]", "_", key.upper())[: 64 - len("EDGE_AGENT_")]


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _message(entry: Mapping[str, Any]) -> str:
    """`camera_lost camera=top reason="no frame in 2 s"`; of an exception only the last line."""
    words = [str(entry["event"])]
    for key, value in entry.items():
        if key not in {"event", "level", "timestamp"}:
            text = _text(value)
            text = text.strip().rpartition("\n")[2] if key == "exception" else text
            text = text if len(text) <= _MESSAGE_VALUE_CHARS else text[: _MESSAGE_VALUE_CHARS - 1] + "…"
            words.append(f"{key}={_quoted(text) if isinstance(value, str) else text}")
    return " ".join(words)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return text if text and not re.search(r"[\s\"=]", text) else json.dumps(text, ensure_ascii=False)


def _format_for_stderr() -> Literal["console", "json", "journal"]:
    if _is_journal_stream():
        return "journal"
    return "console" if _is_terminal() else "json"


def _is_journal_stream() -> bool:
    """systemd.exec(5): JOURNAL_STREAM is the device and inode of the stream that systemd opened for the service."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # standard error is closed, or not a file, or not there
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _console() -> StderrSink:
    colours = _is_terminal() and not os.environ.get("NO_COLOR")
    # Not rich's tracebacks: they show the local variables, and so what is secret.
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return StderrSink(lambda entry: str(renderer(None, entry["level"], entry)))


def _as_json(entry: EventDict) -> str:
    first = {key: entry[key] for key in ("timestamp", "level", "event")}
    return json.dumps(first | dict(entry))


def _drop_unwanted(_logger: Any, name: str, event: EventDict) -> EventDict:
    """What neither the sink nor a listener wants. The level is the root logger's, for all: it can change while the agent runs."""
    level = getattr(logging, name.upper())
    if not logging.getLogger().isEnabledFor(level) and not (_listeners and level >= logging.INFO):
        raise structlog.DropEvent
    return event


def _tell(_logger: Any, name: str, event: EventDict) -> EventDict:
    """The listeners first, then the sink, if the level is high enough for it."""
    level = getattr(logging, name.upper())
    if level >= logging.INFO:
        for listener in tuple(_listeners):
            listener(event)
    if not logging.getLogger().isEnabledFor(level):
        raise structlog.DropEvent
    return event


def _stamp(_logger: Any, name: str, event: EventDict) -> EventDict:
    event["timestamp"] = utc_text(datetime.now(timezone.utc))
    event["level"] = name
    return event


def _cleaned(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Plain JSON values, without secrets."""
    return {key: clean(value, key) for key, value in event.items()}


def clean(value: Any, key: str = "") -> Any:
    """The value in JSON's own types, without what looks like a secret: by its key, inside a URL, or as `token=...`.

    NaN and infinities become None; what JSON does not know becomes text.
    """
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEY.search(key):
        return _REDACTED
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): clean(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, key) for item in value]
    return _without_secrets(str(value))


def _without_secrets(text: str) -> str:
    text = _CREDENTIALS_IN_URL.sub(rf"\1{_REDACTED}@", text)
    return _SECRET_IN_TEXT.sub(rf"\1{_REDACTED}", text)


class _LibraryHandler(logging.Handler):
    """What libraries log with `logging`, as one event with their words in `text`."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            structlog.get_logger().log(
                level, "library_log", logger=record.name, text=record.getMessage().strip(), exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001 - as every logging.Handler: a library's bad format string is not our end
            self.handleError(record)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):  # Ctrl-C is no fault
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("uncaught_exception", exc_info=(kind, error, trace))


def _log_dead_thread(args: threading.ExceptHookArgs) -> None:
    if issubclass(args.exc_type, SystemExit):  # as threading itself does
        return
    name = args.thread.name if args.thread is not None else None
    error = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger().critical("thread_died", thread=name, exc_info=error)
