"""Too many `unknown` or `reject` one after the other: the line, the camera or the model is wrong, and not the parts."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.core.parts import Word


@dataclass(frozen=True, slots=True)
class Streak:
    """`count` verdicts of one camera, from `first_seq` on, said the same; the limit was reached `times` since the start."""

    camera: str
    verdict: Word
    count: int
    first_seq: int
    times: int
    is_over_limit: bool  # False: it has ended

    def data(self) -> dict[str, str | int]:
        """The facts, for an event."""
        return {"camera": self.camera, "count": self.count, "first_seq": self.first_seq, "times": self.times}


@dataclass(slots=True)
class _Row:
    camera: str
    verdict: Word = "pass"
    count: int = 0
    first_seq: int = 0
    times: int = 0
    is_over_limit: bool = False
    ended: Streak | None = None  # the last one that had reached its limit

    def streak(self, *, is_over_limit: bool) -> Streak:
        return Streak(self.camera, self.verdict, self.count, self.first_seq, self.times, is_over_limit)


class Streaks:
    """Any thread, but the verdicts of one camera in their order. Nothing here waits."""

    def __init__(self, cameras: Iterable[str], *, unknown_in_row: int, reject_in_row: int) -> None:
        self._lock = threading.Lock()
        self._rows = {camera: _Row(camera) for camera in cameras}
        self.set_limits(unknown_in_row=unknown_in_row, reject_in_row=reject_in_row)

    def set_limits(self, *, unknown_in_row: int, reject_in_row: int) -> None:
        """So many are too many; 0: never. May change while running, also for what is in a row now."""
        with self._lock:
            self._limits: dict[Word, int] = {"unknown": unknown_in_row, "reject": reject_in_row, "pass": 0}
            for row in self._rows.values():
                self._judge(row)

    def add(self, camera: str, verdict: Word, seq: int) -> None:
        """The next verdict of a camera, sent or not."""
        with self._lock:
            row = self._rows[camera]
            if verdict == row.verdict:
                row.count += 1
            else:
                self._end(row)
                row.verdict, row.count, row.first_seq = verdict, 1, seq
            self._judge(row)

    @property
    def over(self) -> dict[str, Streak]:
        """By camera, the streaks that have reached their limit and go on: why the state is degraded."""
        with self._lock:
            rows = [row for row in self._rows.values() if row.is_over_limit]
            return {row.camera: row.streak(is_over_limit=True) for row in rows}

    def last(self) -> list[Streak]:
        """Of each camera the last streak that reached its limit, whether it goes on or not."""
        with self._lock:
            now = [row.streak(is_over_limit=True) if row.is_over_limit else row.ended for row in self._rows.values()]
            return [streak for streak in now if streak is not None]

    def _judge(self, row: _Row) -> None:
        if not 0 < self._limits[row.verdict] <= row.count:
            self._end(row)
        elif not row.is_over_limit:
            row.is_over_limit = True
            row.times += 1

    def _end(self, row: _Row) -> None:
        if row.is_over_limit:
            row.is_over_limit = False
            row.ended = row.streak(is_over_limit=False)
