"""The flight recorder: the last verdicts and events in a file on the device, whatever broker and journal keep.

Who notes something never waits: a thread writes what has come every fifth of a second, so that a kill costs no more, and
another has it synced every second, so that a power cut costs about two. Verdicts and events have a ring each: a flood of
one does not push out the other.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic_core import to_json

from edge_agent.clock import SYSTEM, Clock
from edge_agent.runtime.flight_file import FILE, FlightFile
from edge_agent.runtime.flight_records import RingName, micros, pack, tag_of
from edge_agent.runtime.rarely import Rarely

log = structlog.get_logger()
WRITE_EVERY_S = 0.2
SYNC_EVERY_S = 1.0
LOOK_EVERY_S = 1.0  # for a file that was moved or deleted, and for a wall clock that was set
RETRY_S = 5.0
SILENT_S = 10.0  # a disk that is slow answers sooner
MOST_WAITING = 2000  # notes of each ring, while the disk does not answer: some 3 MB, of crowded pictures 24
TEXT_MOST = 4000  # letters of each text in an entry of the log: a traceback may be long
TELL_EVERY_S = 60.0
EVENT_KINDS = ("log",)

About = Mapping[str, Any] | bytes
_Note = tuple[int, int, str, About]  # order, CLOCK_MONOTONIC, kind, what


class Notes(Protocol):
    """Who takes notes: `Recorder`, or what stands in for it."""

    def note(self, kind: str, about: About) -> None:
        """Never waits and never raises. `bytes` are a JSON object."""


@dataclass(slots=True)
class _Waiting:
    notes: deque[_Note] = field(default_factory=deque)
    packed: list[bytes] = field(default_factory=list)  # have their numbers, and are not written yet


class Recorder:
    """`note` may be called from any thread; `start` and `stop` belong to the main thread.

    Attributes:
        written: records in the file since the start.
        lost: notes that are not in it, because the disk failed or did not keep up.
        trouble: why nothing is written now.
    """

    def __init__(
        self,
        folder: Path,
        max_mb: float,
        session: str,
        clock: Clock = SYSTEM,
        *,
        listen: Callable[[Callable[[Mapping[str, Any]], None]], Callable[[], None]] | None = None,
    ) -> None:
        """`listen` has each entry of the log told from now on, until `stop`, and returns what ends that."""
        self.written = self.lost = self.bytes = 0
        self.trouble: str | None = None
        self._path, self._most_bytes, self._tag = folder / FILE, int(max_mb * 1_000_000), tag_of(session)
        self._clock = clock
        self._order = count()
        self._waiting: dict[RingName, _Waiting] = {"verdicts": _Waiting(), "events": _Waiting()}
        self._setting: About | None = None
        self._number = self._zero_us = 0  # the latter: what the wall clock showed when the monotonic one began
        self._file: FlightFile | None = None
        self._retry_at_s = self._look_at_s = self._answered_s = 0.0
        self._told, self._unsynced, self._lost_told = Rarely(TELL_EVERY_S), Rarely(TELL_EVERY_S), 0
        self._counting = threading.Lock()
        self._unlisten = listen(self._hear) if listen else None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="recorder", daemon=True),
            threading.Thread(target=self._run_sync, name="recorder-sync", daemon=True),
        ]

    def start(self) -> None:
        """Starts the threads."""
        self._answered_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Writes what is left; waits up to `timeout_s` for it. False where that was not enough."""
        until_s = time.monotonic() + timeout_s
        if self._unlisten is not None:
            self._unlisten()
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def note(self, kind: str, about: About) -> None:
        """One more record. No lock, and nobody is woken.

        A `setting`, by what parts are judged from now on, is kept among the verdicts for as long as one of them is.
        """
        waiting = self._waiting["events" if kind in EVENT_KINDS else "verdicts"]
        if len(waiting.notes) < MOST_WAITING:
            waiting.notes.append((next(self._order), self._clock.mono_ns(), kind, about))
        else:
            self._lose()

    @property
    def counts(self) -> dict[str, int]:
        """For health."""
        return {"written": self.written, "lost": self.lost}

    def facts(self) -> dict[str, Any]:
        """For health and status."""
        hangs = self._threads[0].is_alive() and time.monotonic() - self._answered_s > SILENT_S
        trouble = self.trouble or (f"the disk has not answered for {SILENT_S:g} s" if hangs else None)
        return {"written": self.written, "lost": self.lost, "bytes": self.bytes, "trouble": trouble}

    def _hear(self, entry: Mapping[str, Any]) -> None:
        self.note("log", entry)

    # ---- the thread that writes

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self._try_round()
        self._retry_at_s = 0.0
        self._try_round()
        self._sync()  # who stopped it may take the power away next
        self._close()

    def _try_round(self) -> None:
        self._answered_s = time.monotonic()
        if self._answered_s >= self._retry_at_s:
            try:
                self._round()
            except BlockingIOError:
                self._fail("another agent writes it")
            except OSError as error:
                self._fail(error.strerror or str(error))
            except Exception:  # a bug must not cost more than the recorder
                log.exception("recorder_failed")
                self._fail("an internal error; the log has it")
        if self.lost > self._lost_told and self._told.now() is not None:
            self._lost_told = self.lost
            log.warning("recorder_notes_lost", count=self.lost, reason=self.trouble or "more came than it can take")

    def _round(self) -> None:
        if not any(waiting.notes or waiting.packed for waiting in self._waiting.values()):
            return
        if self._answered_s >= self._look_at_s:
            self._look_at_s = self._answered_s + LOOK_EVERY_S
            self._look()
        if self._file is None:
            self._file = FlightFile(self._path, self._most_bytes)
            self._number = max(self._number, self._file.newest)
        if not any(waiting.packed for waiting in self._waiting.values()):
            self._pack(self._file)
        for name, waiting in self._waiting.items():
            self._append(self._file, name, waiting)
        if self.trouble is not None:
            self.trouble = None
            log.info("recorder_writes", file=str(self._path), lost=self.lost)

    def _look(self) -> None:
        """Whether what is written now would be found, and what time it is."""
        self._zero_us = micros(self._clock.utc_of(0))
        if self._file is not None and not self._file.is_in_place:
            log.warning("recorder_file_gone", file=str(self._path))
            self._close()

    def _append(self, file: FlightFile, name: RingName, waiting: _Waiting) -> None:
        if file.append(name, waiting.packed) and name == "verdicts" and self._setting is not None:
            self.note("setting", self._setting)  # the lap before had it, and goes now
        self.written += len(waiting.packed)
        self.bytes += sum(map(len, waiting.packed))
        waiting.packed = []

    def _pack(self, file: FlightFile) -> None:
        """Numbers in the order of the notes."""
        taken = [
            (waiting.notes.popleft(), name)
            for name, waiting in self._waiting.items()
            for _ in range(len(waiting.notes))
        ]
        for (_, mono_ns, kind, about), name in sorted(taken, key=lambda pair: pair[0][0]):
            if kind == "setting":
                self._setting = about
            at_us = self._zero_us + mono_ns // 1000
            try:
                body = about if isinstance(about, bytes) else _json(about)
            except (TypeError, ValueError):
                body = b""
            record = pack(self._number + 1, at_us, mono_ns, self._tag, kind, body)
            if not body or len(record) > file.most_bytes[name]:
                self._lose()
                continue
            self._number += 1
            self._waiting[name].packed.append(record)

    def _lose(self) -> None:
        with self._counting:
            self.lost += 1

    def _fail(self, reason: str) -> None:
        """Notes wait meanwhile, as many as there is room for."""
        if self.trouble != reason:
            log.warning("recorder_away", file=str(self._path), reason=reason)
        self.trouble = reason
        self._retry_at_s = time.monotonic() + RETRY_S
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    # ---- the thread that syncs

    def _run_sync(self) -> None:
        while not self._stopping.wait(SYNC_EVERY_S):
            self._sync()

    def _sync(self) -> None:
        file = self._file
        try:
            if file is not None:
                file.sync()
        except OSError as error:  # the entry is a note itself, which is to be synced, and so on
            if self._unsynced.now() is not None:
                log.warning("recorder_not_synced", file=str(self._path), reason=error.strerror)


def _json(about: Mapping[str, Any]) -> bytes:
    """What is long is cut. An entry of the log has a time of its own, which the record has too."""
    facts = {key: _cut(value) for key, value in about.items() if key != "timestamp"}
    try:
        return to_json(facts)
    except ValueError:  # half a character, as in a name that is not UTF-8: `json` writes that down, too
        return json.dumps(facts).encode()


def _cut(value: Any) -> Any:
    return value[:TEXT_MOST] if isinstance(value, str) else value
