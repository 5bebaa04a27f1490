"""Which messages that came in were refused: gathered, so that one event tells of many."""

import threading
from dataclasses import dataclass

EXAMPLE_CHARACTERS = 100
TOPIC_CHARACTERS = 200
MOST_GROUPS = 32  # anybody who may publish can make up topics
OTHERS = "(others)"


@dataclass(slots=True)
class Refusal:
    """Messages on a topic that were refused for the same reason, with what stood in the first of them."""

    outcome: str
    topic: str
    example: str
    why: str = ""
    count: int = 0

    def data(self) -> dict[str, str | int]:
        """The facts, for an event."""
        return {
            "outcome": self.outcome,
            "topic": self.topic,
            "count": self.count,
            "example": self.example,
            "why": self.why,
        }


class Refusals:
    """One group per reason and topic until it is taken. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str], Refusal] = {}

    def add(self, outcome: str, topic: str, payload: bytes, why: str = "") -> None:
        """One more that was refused; `why` in words, where there is more to say than the outcome."""
        topic = topic[:TOPIC_CHARACTERS]
        with self._lock:
            if (outcome, topic) not in self._groups and len(self._groups) >= MOST_GROUPS:
                topic = OTHERS
            group = self._groups.get((outcome, topic))
            if group is None:
                group = self._groups[outcome, topic] = Refusal(
                    outcome, topic, printable(payload, EXAMPLE_CHARACTERS), why
                )
            group.count += 1

    def take(self) -> list[Refusal]:
        """The groups since the last call."""
        with self._lock:
            groups, self._groups = list(self._groups.values()), {}
        return groups


def printable(payload: bytes, most: int) -> str:
    """How it begins, for a person, whatever it is: at most so many characters, all of them ASCII that can be printed."""
    text = payload[:most].decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:most]
