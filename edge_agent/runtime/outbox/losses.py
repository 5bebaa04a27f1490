"""Records that will not be delivered, gathered into ranges: one event says what was lost, and why."""

import threading
from dataclasses import dataclass

from pydantic_core import from_json

MOST = 64  # ranges between two reports; what comes after goes without its session and numbers


@dataclass(slots=True)
class Loss:
    """Messages `first_seq` to `last_seq` of a topic and session, of which `count` are lost; None where it cannot be told."""

    topic: str
    session: str | None
    reason: str
    first_seq: int | None
    last_seq: int | None
    count: int = 0

    def data(self) -> dict[str, str | int | None]:
        """The facts, for an event."""
        return {
            "topic": self.topic,
            "session": self.session,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "count": self.count,
            "reason": self.reason,
        }


class Losses:
    """One range per topic, session and reason until it is taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[tuple[str, str | None, str], Loss] = {}

    def add(self, topic: str, payload: bytes, reason: str) -> None:
        """One more."""
        session, seq = _who(payload)
        with self._lock:
            if (topic, session, reason) not in self._ranges and len(self._ranges) >= MOST:
                session = seq = None
            loss = self._ranges.setdefault((topic, session, reason), Loss(topic, session, reason, seq, seq))
            loss.count += 1
            if seq is not None and loss.first_seq is not None and loss.last_seq is not None:
                loss.first_seq, loss.last_seq = min(loss.first_seq, seq), max(loss.last_seq, seq)

    def take(self) -> list[Loss]:
        """The ranges since the last call."""
        with self._lock:
            losses, self._ranges = list(self._ranges.values()), {}
        return losses


def _who(payload: bytes) -> tuple[str | None, int | None]:
    """Session and number of a message; None where it has none."""
    try:
        message = from_json(payload)
    except ValueError:
        return None, None
    if not isinstance(message, dict):
        return None, None
    session, seq = message.get("session"), message.get("seq")
    return (session, seq) if isinstance(session, str) and isinstance(seq, int) else (None, None)
