"""A row of the outbox, and the rows of one kind in their order."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Literal

Kind = Literal["event", "result"]
KINDS: tuple[Kind, ...] = ("event", "result")
"""In the order in which they are sent."""
DROPPED: tuple[Kind, ...] = ("result", "event")
"""In the order in which they go when there is too much."""


@dataclass(slots=True, eq=False)
class Row:
    """A message and its place in the order in which all came."""

    kind: Kind
    number: int
    topic: str
    payload: bytes
    is_stored: bool = False
    place: Literal["new", "ready", "flight", "gone"] = "new"
    strikes: int = 0  # connections that broke when it was sent

    @property
    def size(self) -> int:
        """What counts against the limits, in bytes."""
        return len(self.topic.encode()) + len(self.payload)


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What a kind has on disk: rows, their bytes, and the highest number it ever had."""

    rows: int
    bytes: int
    newest: int


@dataclass(frozen=True, slots=True)
class Depth:
    """What of a kind waits: rows, what they measure, and the oldest payload; None where there is none, or it was not read yet."""

    rows: int
    size: int  # bytes
    oldest: bytes | None


@dataclass(slots=True)
class Lane:
    """One kind."""

    ready: deque[Row] = field(default_factory=deque)
    flight: set[Row] = field(default_factory=set)
    unwritten: OrderedDict[Row, None] = field(default_factory=OrderedDict)  # waiting and not on disk, in order
    doomed: dict[int, int] = field(default_factory=dict)  # on disk, to be deleted: number and size
    unread: int = 0
    new: int = 0
    cursor: int = 0  # rows on disk up to this number have been read
    rows: int = 0
    bytes: int = 0

    def in_memory(self) -> Iterator[Row]:
        """All that wait and are in memory."""
        yield from self.flight
        yield from self.ready
        yield from (row for row in self.unwritten if row.place == "new")

    def depth(self) -> Depth:
        """How much waits."""
        front = [*self.flight, *islice(self.ready, 1)]
        oldest = min(front, key=lambda row: row.number, default=None)
        return Depth(self.rows, self.bytes, oldest.payload if oldest else None)

    def insert(self, row: Row) -> None:
        """Makes it ready, at its place, which is nearly always the front or the end."""
        row.place = "ready"
        if not self.ready or self.ready[-1].number < row.number:
            self.ready.append(row)
        else:
            self.ready.insert(sum(1 for _ in takewhile(lambda other: other.number < row.number, self.ready)), row)

    def fill(self, room: int) -> None:
        """What is new becomes ready, up to so many rows, if nothing older waits on disk."""
        if self.unread or not self.new:
            return
        newest = next(reversed(self.unwritten))
        for row in (newest,) if self.new == 1 and newest.place == "new" else self.unwritten:
            if len(self.ready) >= room:
                return
            if row.place == "new":
                row.place = "ready"
                self.ready.append(row)
                self.new -= 1

    def give_back(self) -> None:
        """Older ones were found on disk: what is ready, and not on disk, waits behind them."""
        for row in [row for row in self.ready if not row.is_stored]:
            row.place = "new"
            self.ready.remove(row)
            self.new += 1

    def count(self) -> None:
        """Counts what is in memory again."""
        waiting = list(self.in_memory())
        self.rows, self.bytes = len(waiting), sum(row.size for row in waiting)
