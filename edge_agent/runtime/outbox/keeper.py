"""Keeps on disk what waits, as soon as it comes. Two threads: one commits, one syncs; nobody ever waits for them.

Where the disk fails, what waits stays in memory, and the keeper tries again until it is back.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.errors import FatalError
from edge_agent.runtime.outbox.rows import KINDS, Kind, Row
from edge_agent.runtime.outbox.sessions import Marker
from edge_agent.runtime.outbox.stock import ROOM, Stock
from edge_agent.runtime.outbox.store import ASIDE_ROWS, Lock, LockedError, Store, UnusableError, is_broken, quarantine

log = structlog.get_logger()
FILE = "outbox.db"
SYNC_EVERY_S = 0.75  # so that with the time that a sync takes it is a second at most
MARK_S = 0.1  # a sync waits so long for the session's mark, which otherwise goes with the next
TIDY_EVERY_S = 1.0  # deletes are gathered: what a kill brings back is sent twice, which is allowed
TIDY_ROWS = 500
UNCOUNTED_ROWS = 1000  # to be counted at the next start, which waits for it
RETRY_S = 2.0
SILENT_S = 10.0  # a disk that is slow or locked answers sooner
UNREADABLE = "a row cannot be read"
GROWTH_FLOOR_BYTES = 1_000_000  # so much the file may have on a disk that is nearly full
FILL = 0.85  # share of a file that is payload, measured for results


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A file that could not be used."""

    file: str
    reason: str
    rows: int  # that were in it alone


class Keeper:
    """`open`, `start` and `stop` belong to the main thread."""

    def __init__(self, stock: Stock, folder: Path | None) -> None:
        self.wake = threading.Event()
        self.trouble: str | None = None  # why what comes now is not on disk; None also where it is not meant to be
        self.quarantined: list[Quarantine] = []
        self.marker = Marker()
        self.min_free_bytes = 0
        self.disk_free_bytes: int | None = None  # when it was looked at last
        self._stock, self._folder = stock, folder
        self._lock: Lock | None = None
        self._store: Store | None = None
        self._identity: bytes | None = None
        self._retry_at_s = self._tidy_at_s = 0.0
        self._aside: list[tuple[Row, str]] = []
        self._sync_failed: Exception | None = None
        self._stopping = threading.Event()
        self._answered_s = {"disk": 0.0, "sync": 0.0}
        self._threads = [
            threading.Thread(target=self._run, name="outbox-disk", daemon=True),
            threading.Thread(target=self._run_sync, name="outbox-sync", daemon=True),
        ]

    def open(self) -> None:
        """Takes the folder and reads what is left from before. A disk that fails is no error.

        Raises:
            FatalError: another agent uses the folder.
        """
        if self._folder is None:
            return
        try:
            self._attempt(self._open_store)
        except LockedError:
            raise FatalError(
                f"{self._folder}: another edge-agent keeps its records there; give this one another device.id, or"
                " another records.folder"
            ) from None
        if self._store is not None:
            log.info("outbox_opened", file=str(self._store.path), waiting=self._stock.waiting())

    def start(self) -> None:
        """Starts writing."""
        if self._folder is not None:
            self._answered_s = dict.fromkeys(self._answered_s, time.monotonic())
            for thread in self._threads:
                thread.start()

    def silence(self) -> str | None:
        """Where a thread hangs in a call of the disk: that it does."""
        hangs = self._threads[0].is_alive() and time.monotonic() - min(self._answered_s.values()) > SILENT_S
        return f"the disk has not answered for {SILENT_S:g} s" if hangs else None

    def stop(self, timeout_s: float) -> None:
        """Writes what is left, syncs and closes; waits so long for it."""
        until_s = time.monotonic() + timeout_s
        self._stopping.set()
        self.wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until_s - time.monotonic()))
        if not self._threads[0].is_alive():
            self._close()

    # ---- the thread that commits

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._answered_s["disk"] = time.monotonic()
            self.wake.wait(TIDY_EVERY_S)
            self.wake.clear()
            self._try_round()
        self._tidy_at_s = self._retry_at_s = 0.0
        self._try_round()
        self._close()

    def _try_round(self) -> None:
        try:
            self._attempt(self._round)
        except LockedError as error:
            self._fail(str(error))

    def _round(self) -> None:
        now_s = time.monotonic()
        if self._sync_failed is not None:
            error, self._sync_failed = self._sync_failed, None
            raise error
        if now_s >= self._retry_at_s:
            if self._store is None:
                self._open_store()
            self._write(now_s)
        while (kind := self._stock.trim()) is not None and self._read(kind):
            pass
        for kind in KINDS:
            self._read(kind)

    def _write(self, now_s: float) -> None:
        store = self._store
        if store is None:
            return
        is_clean = self._stopping.is_set()
        needs_mark = is_clean or self.marker.wanted.is_set()  # looked at first: what was put before goes before it
        if rows := self._stock.to_write():
            store.write(rows)
            self._stock.written(rows)
        if needs_mark:
            self._mark(store, is_clean=is_clean)
        doomed = self._stock.doomed()
        if now_s >= self._tidy_at_s or sum(map(len, doomed.values())) >= TIDY_ROWS or self.trouble is not None:
            self._tidy(store, doomed, now_s)
        if self.trouble is not None:
            self.trouble = None
            log.info("outbox_on_disk", waiting=self._stock.waiting())

    def _mark(self, store: Store, *, is_clean: bool) -> None:
        mark = self.marker.next(is_clean=is_clean)
        if mark is not None:
            store.mark(mark)
        self.marker.written(mark)

    def _tidy(self, store: Store, doomed: dict[Kind, dict[int, int]], now_s: float) -> None:
        self._tidy_at_s = now_s + TIDY_EVERY_S
        self._aside = [*self._aside, *self._stock.take_aside()][-ASIDE_ROWS:]
        most = 0 if self._stopping.is_set() else UNCOUNTED_ROWS
        if doomed or self._aside or self.trouble is not None or store.uncounted > most:
            store.tidy(doomed, self._aside)
            self._stock.deleted(doomed)
            self._aside = []
        if not store.is_in_place:
            raise UnusableError("it was moved or deleted")
        disk = os.statvfs(store.path.parent)
        self.disk_free_bytes = disk.f_bavail * disk.f_frsize
        if self.disk_free_bytes >= self.min_free_bytes:
            self._stock.disk_bytes = None
        elif self._stock.disk_bytes is None:  # once: rows that come before others go make the file grow a little
            self._stock.disk_bytes = max(GROWTH_FLOOR_BYTES, int(store.file_bytes * FILL))

    def _read(self, kind: Kind) -> bool:
        """Gets more ready, if it is time to. Whether there were more."""
        after, store = self._stock.to_read(kind), self._store
        if after is None or store is None:
            return False
        rows, unreadable, last = store.read(kind, after, ROOM)
        self._stock.read(kind, rows, last)
        for number, size in unreadable:
            self._stock.unreadable(kind, size, UNREADABLE)
            store.move_aside(kind, number, size, UNREADABLE)
        return last is not None

    # ---- the thread that syncs

    def _run_sync(self) -> None:
        while not self._stopping.wait(SYNC_EVERY_S):
            self._answered_s["sync"] = time.monotonic()
            store = self._store
            try:
                if store is not None:
                    self.marker.ask(self.wake, MARK_S)
                    store.sync()
            except Exception as error:  # noqa: BLE001 - the other thread judges it
                self._sync_failed = error
                self.wake.set()

    # ---- a disk that fails

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            self._judge(step)
        except LockedError:
            raise
        except Exception:  # a bug must not cost more than the disk
            log.exception("outbox_failed")
            self._fail("an internal error; the log has it")

    def _judge(self, step: Callable[[], None]) -> None:
        try:
            step()
        except UnusableError as error:
            self._replace(str(error))
        except sqlite3.Error as error:
            if is_broken(error):
                self._replace(str(error))
            else:
                self._fail(f"{error}", keep_open="full" in str(error) or "locked" in str(error))
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _open_store(self) -> None:
        if self._folder is None:
            return
        self._lock = self._lock or Lock(self._folder)
        self._store = store = Store(self._folder / FILE)
        if self._identity not in (None, store.identity):
            self._note_loss(Quarantine("", "the file was replaced", self._stock.detach()))
        self._identity = store.identity
        self._stock.disk_bytes = None
        self._stock.attach(store.found())
        self.marker.look_back(store.unclean)

    def _replace(self, reason: str) -> None:
        """The file cannot be used: it is kept under another name, and a fresh one made."""
        self._close()
        path = (self._folder or Path()) / FILE
        try:
            kept = quarantine(path) if path.exists() else path
            self._note_loss(Quarantine(kept.name, reason, self._stock.detach()))
            self._identity = None
            self._open_store()
        except (OSError, sqlite3.Error, UnusableError, LockedError) as error:
            self._fail(str(error))

    def _note_loss(self, quarantine_: Quarantine) -> None:
        self.quarantined.append(quarantine_)
        log.error("outbox_broken", file=quarantine_.file, reason=quarantine_.reason, rows=quarantine_.rows)

    def _fail(self, reason: str, *, keep_open: bool = False) -> None:
        """Goes on in memory for a while."""
        if self.trouble != reason:
            log.error("outbox_in_memory", folder=str(self._folder), reason=reason)
        self.trouble = reason
        self._retry_at_s = time.monotonic() + RETRY_S
        if not keep_open:
            self._close()

    def _close(self) -> None:
        """Frees the folder too, so that one that was deleted or mounted anew is found when it is opened again."""
        store, self._store = self._store, None
        if store is not None:
            store.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
