"""Verdicts that nobody got, gathered into ranges: one event says what an outage cost."""

import threading
from dataclasses import dataclass

REASONS = ("no_connection", "internal_error", "stale", "refused", "unconfirmed")


@dataclass(slots=True)
class Span:
    """Verdicts `first_seq` to `last_seq` of a camera, of which `count` were not delivered."""

    camera: str
    reason: str
    first_seq: int
    last_seq: int
    count: int = 1

    def data(self) -> dict[str, str | int]:
        """The facts, for an event."""
        return {
            "camera": self.camera,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "count": self.count,
            "reason": self.reason,
        }


class Unsent:
    """One span per camera and reason until it is taken; `totals` counts for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[tuple[str, str], Span] = {}
        self.totals: dict[str, int] = {}

    def add(self, camera: str, reason: str, seq: int) -> None:
        """One more that was not delivered."""
        with self._lock:
            self.totals[reason] = self.totals.get(reason, 0) + 1
            span = self._spans.get((camera, reason))
            if span is None:
                self._spans[camera, reason] = Span(camera, reason, seq, seq)
            else:
                span.first_seq, span.last_seq = min(span.first_seq, seq), max(span.last_seq, seq)
                span.count += 1

    def take(self) -> list[Span]:
        """The spans since the last call."""
        with self._lock:
            spans, self._spans = list(self._spans.values()), {}
        return spans
