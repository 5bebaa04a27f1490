"""The audit trail: a line for every message that came in, in a file that does not grow for ever.

It is written by a thread of its own, once a second: who hears a message never waits for a disk. What a kill or a power cut
takes is the last second's, or what the kernel had not written yet: nothing is synced, to spare SD cards.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.ports import Heard
from edge_agent.runtime.folders import make_folder
from edge_agent.runtime.rarely import Rarely
from edge_agent.runtime.refusals import MOST_GROUPS, OTHERS, TOPIC_CHARACTERS, printable
from edge_agent.wire.messages import utc_text

log = structlog.get_logger()
FILE = "audit.jsonl"
MAX_MB = 8.0  # of each of two files: a day and a half at a trigger every two seconds, two hours at ten a second
WRITE_EVERY_S = 1.0
MOST_LINES = 4000  # that wait for the disk; about 2 MB
HEAD_BYTES = 100
TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Entry:
    received_ns: int
    topic: str
    outcome: str
    size: int
    names: Mapping[str, str | int]
    head: str | None = None
    sha256: str | None = None

    def line(self, clock: Clock) -> bytes:
        facts: dict[str, Any] = {"at": utc_text(clock.utc_of(self.received_ns)), "topic": self.topic}
        facts |= {"outcome": self.outcome, "bytes": self.size, **self.names}
        if self.head is not None:
            facts |= {"head": self.head, "sha256": self.sha256}
        return _line(facts)


@dataclass(slots=True)
class _Waiting:
    entries: deque[_Entry] = field(default_factory=deque)
    floods: dict[str, list[int]] = field(default_factory=dict)  # by topic: messages, bytes
    lost: int = 0


class Audit:
    """`note` may be called from any thread and never blocks; `start` and `stop` belong to the main thread.

    Attributes:
        lost: lines that could not be written, because the disk failed or did not keep up.
        trouble: why the last lines could not be written.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM, *, max_mb: float = MAX_MB) -> None:
        self.lost = 0
        self.trouble: str | None = None
        self._clock = clock
        self._trail = _Trail(folder / FILE, int(max_mb * 1_000_000))
        self._lock = threading.Lock()
        self._waiting = _Waiting()
        self._told = Rarely(TELL_EVERY_S)
        self._untold = 0  # lines lost that the file does not tell of yet
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Starts the thread that writes."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Writes what is left; waits up to `timeout_s` for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def note(self, heard: Heard, outcome: str, names: Mapping[str, str | int]) -> None:
        """One message, what became of it, and what it was about. Of one that was refused its beginning is kept."""
        topic = heard.topic[:TOPIC_CHARACTERS]
        if outcome == "flood":
            self._note_flood(topic, len(heard.payload))
            return
        head = digest = None
        if outcome != "accepted":
            head, digest = printable(heard.payload, HEAD_BYTES), hashlib.sha256(heard.payload).hexdigest()
        entry = _Entry(heard.received_ns, topic, outcome, len(heard.payload), names, head, digest)
        with self._lock:
            if len(self._waiting.entries) < MOST_LINES:
                self._waiting.entries.append(entry)
            else:
                self._waiting.lost += 1

    def _note_flood(self, topic: str, size: int) -> None:
        with self._lock:
            floods = self._waiting.floods
            if topic not in floods and len(floods) >= MOST_GROUPS:
                topic = OTHERS
            sums = floods.setdefault(topic, [0, 0])
            sums[0] += 1
            sums[1] += size

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self._write()
        self._write()
        self._trail.close()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, _Waiting()
        if waiting.lost:
            self._lose(waiting.lost, "the disk does not keep up")
        if not waiting.entries and not waiting.floods:
            return
        try:
            self._trail.append(self._lines(waiting))
        except Exception as err:  # noqa: BLE001 - whatever a disk or a bug does: it costs these lines, and no more
            self._lose(len(waiting.entries) + len(waiting.floods), getattr(err, "strerror", None) or repr(err))
        else:
            self.trouble, self._untold = None, 0

    def _lines(self, waiting: _Waiting) -> list[bytes]:
        now = utc_text(self._clock.utc_of(self._clock.mono_ns()))
        lines = [_line({"at": now, "outcome": "lines_lost", "count": self._untold})] if self._untold else []
        lines += [entry.line(self._clock) for entry in waiting.entries]
        for topic, (count, size) in waiting.floods.items():
            lines.append(_line({"at": now, "topic": topic, "outcome": "flood", "count": count, "bytes": size}))
        return lines

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        self._untold += count
        self.trouble = reason
        if self._told.now() is not None:
            log.warning("audit_lines_lost", count=self.lost, reason=reason)


class _Trail:
    """A file of whole lines, and the one before it. Of a batch that fails nothing is left behind."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._fd = -1

    def append(self, lines: list[bytes]) -> None:
        """Writes all or none. Raises `OSError`; the next call opens the file anew."""
        data = b"".join(lines)
        if self._fd < 0:
            self._open()
        size = os.fstat(self._fd).st_size
        if size and size + len(data) > self._max_bytes:
            self.close()
            self._path.replace(f"{self._path}.1")
            self._open()
            size = 0
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, size)
            self.close()
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        """Cuts off half a line, which a power cut may have left."""
        make_folder(self._path.parent)
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(self._fd, 0o600)
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, 65536, max(0, size - 65536))
        if not tail.endswith(b"\n"):
            os.ftruncate(self._fd, size - len(tail) + tail.rfind(b"\n") + 1)


def _line(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode() + b"\n"
