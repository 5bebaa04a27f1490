"""The mark of a session in the outbox's file: which numbers its verdicts had used up, and whether it ended well.

One row. What is found there at the next start, and was not ended well, tells of a kill or a power cut.
"""

import sqlite3
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

import structlog
from pydantic import BaseModel, ConfigDict

from edge_agent.wire.messages import utc_text

log = structlog.get_logger()
TABLE = "CREATE TABLE session (only INTEGER PRIMARY KEY CHECK (only = 1), mark BLOB NOT NULL)"
RECENT_ROWS = 500  # results may know more than the mark: these are of 5 s, and more, of any line


class SessionMark(BaseModel):
    """`last_seq`: by camera, the last number that a verdict had used up when this was written."""

    model_config = ConfigDict(frozen=True)

    session: str
    started_at: str
    written_at: str
    last_seq: dict[str, int]
    is_clean: bool = False


class _Result(BaseModel):
    session: str
    camera: str
    verdict_seq: int


class Marker:
    """How far the present session is, and what the file says of it.

    Attributes:
        wanted: a mark is to be written, after the rows that wait.
        unclean: an earlier session that did not end well, until somebody takes it.
    """

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self.unclean: SessionMark | None = None
        self._written = threading.Event()
        self._session: SessionMark | None = None
        self._read_last_seq: Callable[[], Mapping[str, int]] = dict
        self._in_file: SessionMark | None = None
        self._known: set[str] = set()

    def note(self, session: str, read_last_seq: Callable[[], Mapping[str, int]]) -> None:
        """The present session begins."""
        now = _utc_now()
        self._known.add(session)
        self._read_last_seq = read_last_seq
        self._session = SessionMark(session=session, started_at=now, written_at=now, last_seq={})
        self.wanted.set()

    def look_back(self, found: SessionMark | None) -> None:
        """The file was opened, and says this of another session, or of this one."""
        self._in_file = None
        if found is not None and found.session not in self._known:
            self._known.add(found.session)
            self.unclean = found

    def next(self, *, is_clean: bool) -> SessionMark | None:
        """What is to be written now; None where the file says so already."""
        self.wanted.clear()
        if self._session is None:
            return None
        state = {"last_seq": dict(self._read_last_seq()), "is_clean": is_clean}
        mark = self._session.model_copy(update=state)
        if self._in_file is not None and mark == self._in_file.model_copy(update={"written_at": mark.written_at}):
            return None
        return mark.model_copy(update={"written_at": _utc_now()})

    def written(self, mark: SessionMark | None) -> None:
        """This is in the file now; None: it needed none."""
        self._in_file = mark or self._in_file
        self._written.set()

    def ask(self, wake: threading.Event, timeout_s: float) -> None:
        """Has a mark written, and waits so long for it."""
        if self._session is not None:
            self._written.clear()
            self.wanted.set()
            wake.set()
            self._written.wait(timeout_s)


def write(database: sqlite3.Connection, mark: SessionMark) -> None:
    """In place of what was there."""
    database.execute("INSERT OR REPLACE INTO session VALUES (1, ?)", (mark.model_dump_json().encode(),))


def read_unclean(database: sqlite3.Connection) -> SessionMark | None:
    """What an earlier session left, with the highest numbers that are known; None: none, it ended well, or is unreadable."""
    row = database.execute("SELECT mark FROM session").fetchone()
    if row is None:
        return None
    try:
        mark = SessionMark.model_validate_json(row[0])
    except ValueError as error:
        log.warning("session_mark_unreadable", reason=str(error))
        return None
    return None if mark.is_clean else mark.model_copy(update={"last_seq": _highest(database, mark)})


def _highest(database: sqlite3.Connection, mark: SessionMark) -> dict[str, int]:
    """The mark's numbers, or those of results that came after it and still wait."""
    highest = dict(mark.last_seq)
    for (payload,) in database.execute("SELECT payload FROM result ORDER BY number DESC LIMIT ?", (RECENT_ROWS,)):
        try:
            result = _Result.model_validate_json(payload)
        except ValueError:  # it will be set aside when its turn comes
            continue
        if result.session == mark.session:
            highest[result.camera] = max(highest.get(result.camera, 0), result.verdict_seq)
    return highest


def _utc_now() -> str:
    return utc_text(datetime.now(timezone.utc))
