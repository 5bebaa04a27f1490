"""The part ledger: one part, one verdict. A part is opened by its trigger and closed once, by whoever is first."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Word = Literal["pass", "reject", "unknown"]
MAX_REASONS = 4
_RANK: dict[Word, int] = {"reject": 2, "unknown": 1, "pass": 0}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not `pass`: what a rule found, or the code of why it could not."""

    rule: str | None = None
    label: str | None = None
    score: float | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a part."""

    verdict: Word
    reasons: tuple[Reason, ...] = ()

    @staticmethod
    def unknown(code: str) -> "Decision":
        """Nothing could be decided, and `code` says why."""
        return Decision("unknown", (Reason(code=code),))


def combine(decisions: list[Decision]) -> Decision:
    """Reject outweighs unknown outweighs pass; the reasons of the winning word, best scores first, at most four."""
    if not decisions:
        return Decision("pass")
    word = max((decision.verdict for decision in decisions), key=_RANK.__getitem__)
    reasons = [reason for decision in decisions if decision.verdict == word for reason in decision.reasons]
    reasons.sort(key=lambda reason: -(reason.score if reason.score is not None else 1.0))
    return Decision(word, tuple(reasons[:MAX_REASONS]))


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to be judged. Times are CLOCK_MONOTONIC; `number` counts from 1 per camera.

    `since_ns` is where its times count from: its frame's capture, or the trigger from outside.
    """

    camera: str
    number: int
    since_ns: int
    deadline_ns: int
    valid_until_ns: int
    trigger_id: str | None = None
    position: float | None = None
    is_born_closed: bool = False  # opened after the end: no one else reports it

    @property
    def id(self) -> str:
        """Unique within a session: `top-1834`."""
        return f"{self.camera}-{self.number}"


class Ledger:
    """Who is judged, and who closed it. Every part is closed exactly once: `opened = closed + open`, at any moment."""

    def __init__(self, deadline_ms: float, valid_ms: float) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Part] = {}
        self._numbers: dict[str, int] = {}
        self._shut = False
        self.opened = 0
        self.closed = 0
        self.set_limits(deadline_ms, valid_ms)

    def set_limits(self, deadline_ms: float, valid_ms: float) -> None:
        """For the parts opened from now on."""
        self._limits_ns = (int(deadline_ms * 1e6), int(valid_ms * 1e6))

    def open(self, camera: str, since_ns: int, trigger_id: str | None = None, position: float | None = None) -> Part:
        """A new part; its deadline and validity count from `since_ns`. After `shut` it is born closed."""
        deadline_ns, valid_ns = self._limits_ns
        with self._lock:
            number = self._numbers[camera] = self._numbers.get(camera, 0) + 1
            times = since_ns, since_ns + deadline_ns, since_ns + valid_ns
            part = Part(camera, number, *times, trigger_id, position, is_born_closed=self._shut)
            if not self._shut:
                self._open[part.id] = part
                self.opened += 1
        return part

    def close(self, part: Part) -> bool:
        """True for the one caller that closes it; False when it is closed already."""
        with self._lock:
            if self._open.pop(part.id, None) is None:
                return False
            self.closed += 1
            return True

    def expire(self, now_ns: int) -> list[Part]:
        """Closes the parts whose deadline has passed; they are the caller's to report."""
        return self._close_where(lambda part: part.deadline_ns <= now_ns)

    def close_all(self) -> list[Part]:
        """Closes what is open; the parts are the caller's to report."""
        return self._close_where(lambda _: True)

    def shut(self) -> list[Part]:
        """The end: opens no more parts, and closes all; they are the caller's to report."""
        with self._lock:
            self._shut = True
        return self.close_all()

    def next_deadline_ns(self) -> int | None:
        """The earliest deadline of an open part."""
        with self._lock:
            return min((part.deadline_ns for part in self._open.values()), default=None)

    def _close_where(self, due: Callable[[Part], bool]) -> list[Part]:
        with self._lock:
            parts = [part for part in self._open.values() if due(part)]
            for part in parts:
                del self._open[part.id]
            self.closed += len(parts)
        return sorted(parts, key=lambda part: part.deadline_ns)
