"""The outbox on disk: one SQLite file in write-ahead mode.

A commit reaches the kernel, so it outlives the process; `sync` makes it outlive a power cut. Both never wait for each
other: commits go through one connection, syncs and checkpoints through another.
"""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from pydantic_core import from_json

from edge_agent.runtime.folders import make_folder
from edge_agent.runtime.outbox import sessions
from edge_agent.runtime.outbox.rows import KINDS, Kind, OnDisk, Row
from edge_agent.runtime.outbox.sessions import SessionMark

VERSION = 2  # `PRAGMA user_version`: a later release that changes the tables raises it and brings older files along
BUSY_S = 2.0  # a technician's query may hold the file for a moment
PATIENCE_S = 0.1  # of a checkpoint, which keeps writers out while it waits for readers; the next is soon
PAGE_BYTES = (
    1024  # a commit writes whole pages: measured, 3.8 kB for a result of 1.3 kB, where SQLite's 4096 take 9.4 kB
)
CHECKPOINT_BYTES = 4_000_000  # of the write-ahead log: as much as SQLite's own default
ASIDE_ROWS = 200
KEPT_BROKEN = 2  # files that could not be used, for support

TABLES = f"""
{sessions.TABLE};
CREATE TABLE about (identity TEXT NOT NULL);
CREATE TABLE event (number INTEGER PRIMARY KEY, topic BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE result (number INTEGER PRIMARY KEY, topic BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE totals (kind TEXT PRIMARY KEY, up_to INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE aside (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, reason TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER, topic BLOB, payload BLOB
);
"""


class UnusableError(Exception):
    """The file is not ours, from a later release, or broken."""


class LockedError(Exception):
    """Another process uses the folder."""


class Lock:
    """One process per folder; the kernel frees it however the process ends."""

    def __init__(self, folder: Path) -> None:
        """Takes it. Raises `LockedError`, and `OSError` where the folder cannot be used."""
        make_folder(folder)
        self._fd = os.open(folder / "outbox.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise LockedError("another edge-agent keeps its records there") from None
        except OSError:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Frees it."""
        os.close(self._fd)


class Store:
    """All but `sync` belong to one thread at a time. Raises `sqlite3.DatabaseError` and `OSError` where the disk fails.

    Attributes:
        unclean: a session that had not ended well when the file was opened.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises `UnusableError` too."""
        self.path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its others the same mode
        self._inode = path.stat().st_ino
        self._rows: dict[Kind, int] = {}
        self._bytes: dict[Kind, int] = {}
        self._newest: dict[Kind, int] = {}
        self._is_dirty = True  # what a kill left may not be synced
        self._syncing = threading.Lock()
        self._is_closed = False
        self._db = _connect(path)
        try:
            self._prepare()
            self._syncer = _connect(path, PATIENCE_S)
        except BaseException:
            self._db.close()
            raise

    def found(self) -> dict[Kind, OnDisk]:
        """What it holds."""
        return {kind: OnDisk(self._rows[kind], self._bytes[kind], self._newest[kind]) for kind in KINDS}

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still where it was made."""
        with suppress(OSError):
            return self.path.stat().st_ino == self._inode
        return False

    @property
    def uncounted(self) -> int:
        """Rows that came since the totals were written, or more: what the next start has to count."""
        return max(self._newest.values()) - self._counted_to

    @property
    def file_bytes(self) -> int:
        """Size of the database without its log."""
        pages, page_bytes = (self._number(f"PRAGMA {name}") for name in ("page_count", "page_size"))
        return pages * page_bytes

    def write(self, rows: Sequence[Row]) -> None:
        """Keeps them, in one commit."""
        with self._transaction():
            for row in rows:
                statement = f"INSERT OR REPLACE INTO {row.kind} VALUES (?, ?, ?)"  # noqa: S608 - two fixed words
                self._db.execute(statement, (row.number, row.topic.encode(), row.payload))
        for row in rows:
            self._rows[row.kind] += 1
            self._bytes[row.kind] += row.size
            self._newest[row.kind] = row.number

    def tidy(self, gone: Mapping[Kind, Mapping[int, int]], aside: Sequence[tuple[Row, str]]) -> None:
        """Deletes what is gone (numbers and sizes), keeps what was set aside, and writes down how many are left."""
        rows, size = dict(self._rows), dict(self._bytes)
        for kind, numbers in gone.items():
            rows[kind] -= len(numbers)
            size[kind] -= sum(numbers.values())
        with self._transaction():
            for kind, numbers in gone.items():
                delete = f"DELETE FROM {kind} WHERE number = ?"  # noqa: S608 - two fixed words
                self._db.executemany(delete, [(number,) for number in numbers])
            for row, reason in aside:
                self._put_aside(reason, row.kind, row.number, row.topic.encode(), row.payload)
            self._write_totals(rows, size)
        self._rows, self._bytes = rows, size
        self._counted_to = max(self._newest.values())

    def read(self, kind: Kind, after: int, most: int) -> tuple[list[Row], list[tuple[int, int]], int | None]:
        """The next rows after a number; those that cannot be read, with their sizes; the last number, None: no rows."""
        rows: list[Row] = []
        unreadable = []
        last = None
        query = f"SELECT number, topic, payload FROM {kind} WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608 - likewise
        for number, topic, payload in self._db.execute(query, (after, most)):
            last = number
            row = _row(kind, number, topic, payload)
            if row is None:
                unreadable.append((number, _length(topic) + _length(payload)))
            else:
                rows.append(row)
        return rows, unreadable, last

    def move_aside(self, kind: Kind, number: int, size: int, reason: str) -> None:
        """A row that cannot be read."""
        rows, total = {**self._rows, kind: self._rows[kind] - 1}, {**self._bytes, kind: self._bytes[kind] - size}
        with self._transaction():
            query = f"SELECT topic, payload FROM {kind} WHERE number = ?"  # noqa: S608 - two fixed words
            topic, payload = self._db.execute(query, (number,)).fetchone()
            self._put_aside(reason, kind, number, topic, payload)
            self._db.execute(f"DELETE FROM {kind} WHERE number = ?", (number,))  # noqa: S608 - likewise
            self._write_totals(rows, total)
        self._rows, self._bytes = rows, total

    def mark(self, mark: SessionMark) -> None:
        """Keeps how far the session is."""
        with self._transaction():
            sessions.write(self._db, mark)

    def sync(self) -> None:
        """What was committed before outlives a power cut from now on. Any thread; may take long."""
        with self._syncing:
            if self._is_closed or not self._is_dirty:
                return
            self._is_dirty = False
            log = self.path.with_name(self.path.name + "-wal")
            fd = os.open(log, os.O_RDWR | os.O_CLOEXEC)  # SQLite holds no POSIX lock on the log that closing could free
            try:
                os.fdatasync(fd)
                size = os.fstat(fd).st_size
            finally:
                os.close(fd)
            if size > CHECKPOINT_BYTES:
                # The first does the work while rows are written; the second, short, keeps them out and empties the log.
                self._syncer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._syncer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Syncs what it can and lets go of the file. Closing twice does nothing."""
        with self._syncing:
            self._is_closed = True
            with suppress(sqlite3.Error):
                self._syncer.close()
            with suppress(sqlite3.Error):
                self._db.close()

    # ----

    def _prepare(self) -> None:
        self._db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != b"wal":
            raise sqlite3.OperationalError("its file system cannot do write-ahead logs")
        for setting in ("synchronous = NORMAL", "wal_autocheckpoint = 0"):
            self._db.execute(f"PRAGMA {setting}")
        version = self._number("PRAGMA user_version")
        if version > VERSION:
            raise UnusableError(f"it is from a later release (version {version}, this one knows {VERSION})")
        if version == 0:
            if self._number("SELECT count(*) FROM sqlite_master"):
                raise UnusableError("it is no outbox of edge-agent")
            self._make_tables()
        elif version < VERSION:
            self._bring_along()
        try:
            self._count()
        except (AttributeError, TypeError, ValueError) as error:
            raise UnusableError("its totals are damaged") from error
        self.unclean = sessions.read_unclean(self._db)

    def _make_tables(self) -> None:
        with self._transaction():
            for statement in TABLES.split(";\n"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO about VALUES (?)", (secrets.token_hex(8),))
            self._db.executemany("INSERT INTO totals VALUES (?, 0, 0, 0)", [(kind,) for kind in KINDS])
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _bring_along(self) -> None:
        """Version 1 knew no sessions."""
        with self._transaction():
            self._db.execute(sessions.TABLE)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _count(self) -> None:
        """From the totals, and the few rows that came after they were written: reading all would take seconds."""
        identity = self._db.execute("SELECT identity FROM about").fetchone()
        totals = {
            kind.decode(): rest for kind, *rest in self._db.execute("SELECT kind, up_to, rows, bytes FROM totals")
        }
        if identity is None or set(totals) != set(KINDS):
            raise UnusableError("its totals are missing")
        self.identity: bytes = identity[0]
        for kind in KINDS:
            up_to, rows, size = totals[kind]
            query = f"SELECT count(*), total(length(topic) + length(payload)), max(number) FROM {kind} WHERE number > ?"  # noqa: S608 - likewise
            more, more_bytes, newest = self._db.execute(query, (up_to,)).fetchone()
            self._rows[kind], self._bytes[kind] = rows + more, size + int(more_bytes)
            self._newest[kind] = max(up_to, newest or 0)
        self._counted_to = max(up_to for up_to, *_ in totals.values())

    def _write_totals(self, rows: Mapping[Kind, int], size: Mapping[Kind, int]) -> None:
        values = [(self._newest[kind], rows[kind], size[kind], kind) for kind in KINDS]
        self._db.executemany("UPDATE totals SET up_to = ?, rows = ?, bytes = ? WHERE kind = ?", values)

    def _put_aside(self, reason: str, kind: Kind, number: int, topic: object, payload: object) -> None:
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        values = (at, reason, kind, number, topic, payload)
        self._db.execute(
            "INSERT INTO aside (at, reason, kind, number, topic, payload) VALUES (?, ?, ?, ?, ?, ?)", values
        )
        self._db.execute(f"DELETE FROM aside WHERE id <= (SELECT max(id) FROM aside) - {ASIDE_ROWS}")  # noqa: S608 - a number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._is_dirty = True

    def _number(self, query: str) -> int:
        number: int = self._db.execute(query).fetchone()[0]
        return number


def quarantine(path: Path) -> Path:
    """Renames a file that cannot be used, with its log, so that a fresh one can be made. Its new path.

    Two such files are kept. Raises `OSError`.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.broken-{stamp}")
    path.rename(kept)
    with suppress(FileNotFoundError):
        path.with_name(path.name + "-wal").rename(f"{kept}-wal")
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    others = (file for file in path.parent.glob(f"{path.name}.broken-*") if not file.name.endswith("-wal"))
    older = sorted(file for file in others if file != kept)  # but for this one: the clock may have gone back
    for old in older[: 1 - KEPT_BROKEN]:
        old.unlink(missing_ok=True)
        old.with_name(old.name + "-wal").unlink(missing_ok=True)
    return kept


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file is damaged. A disk that is full, busy or failing is an `OperationalError`, which may pass."""
    return type(error) is sqlite3.DatabaseError or "no such" in str(error)


def _connect(path: Path, timeout_s: float = BUSY_S) -> sqlite3.Connection:
    """A connection whose transactions are ours, for threads that take turns; text comes as bytes."""
    database = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    database.text_factory = bytes  # text that is no UTF-8 would be an error of the whole query
    return database


def _row(kind: Kind, number: int, topic: object, payload: object) -> Row | None:
    if not isinstance(topic, bytes) or not isinstance(payload, bytes):
        return None
    try:
        if not topic or not isinstance(from_json(payload), dict):
            return None
        return Row(kind, number, topic.decode(), payload)
    except ValueError:
        return None


def _length(value: object) -> int:
    return len(value) if isinstance(value, bytes) else 0
