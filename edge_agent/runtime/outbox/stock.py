"""What waits for the broker: which of it is in memory, which on disk, and what goes when there is too much.

In the order of its numbers each kind stands like this; any part may be empty:

    in flight | ready, in memory | unread, on disk alone | new, in memory alone, on its way to the disk

Ready ones are usually on disk too. A row is deleted there after it was delivered or dropped.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from edge_agent.core.ports import Message
from edge_agent.runtime.outbox.losses import Losses
from edge_agent.runtime.outbox.rows import DROPPED, KINDS, Depth, Kind, Lane, OnDisk, Row

ROOM = 200  # rows of a kind that are ready: more than are sent between two looks at the disk
MEMORY_ROWS = 10_000  # of what is not on disk: a disk may be gone for long,
MEMORY_BYTES = 8_000_000  # and memory is for the engine


class Stock:
    """Any thread may call it; nothing here waits. Its reader is the outbox, and the disk's side is the keeper's."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.counts = {"dropped_results": 0, "dropped_events": 0, "set_aside": 0}
        self.max_rows, self.max_bytes = MEMORY_ROWS, MEMORY_BYTES
        self.disk_bytes: int | None = None  # no more than this, because the disk is nearly full
        self._lock = threading.Lock()
        self._lanes: dict[Kind, Lane] = {kind: Lane() for kind in KINDS}
        self._number = 0
        self._unwritten_rows = self._unwritten_bytes = 0
        self._aside: list[tuple[Row, str]] = []

    # ---- the outbox

    def put(self, kind: Kind, message: Message) -> None:
        """One more that waits. What there is no room for goes, as far as that is in memory."""
        with self._lock:
            self._number += 1
            row, lane = Row(kind, self._number, message.topic, message.payload), self._lanes[kind]
            lane.unwritten[row] = None
            lane.new += 1
            lane.rows += 1
            lane.bytes += row.size
            self._unwritten_rows += 1
            self._unwritten_bytes += row.size
            if len(lane.ready) < ROOM:
                lane.fill(ROOM)
            self._spare_memory()
            self._trim()

    def waiting(self) -> int:
        """All that is not delivered."""
        with self._lock:
            return sum(lane.rows for lane in self._lanes.values())

    def depths(self) -> dict[Kind, Depth]:
        """Each kind by itself."""
        with self._lock:
            return {kind: lane.depth() for kind, lane in self._lanes.items()}

    def unwritten(self) -> int:
        """Those of them that are not on disk."""
        return self._unwritten_rows

    def next(self, kind: Kind) -> Row | None:
        """The oldest, to be sent; None where there is none, or the disk has to be read first."""
        with self._lock:
            lane = self._lanes[kind]
            if not lane.ready:
                lane.fill(ROOM)
            if not lane.ready:
                return None
            row = lane.ready.popleft()
            row.place = "flight"
            lane.flight.add(row)
            return row

    def delivered(self, row: Row) -> None:
        """The broker has it."""
        with self._lock:
            self._forget(row)

    def put_back(self, row: Row) -> None:
        """It was not delivered: to its place again, which is at the front."""
        with self._lock:
            lane = self._lanes[row.kind]
            lane.flight.discard(row)
            lane.insert(row)

    def set_aside(self, row: Row, reason: str) -> None:
        """It never will be delivered, and must not hold the others up."""
        with self._lock:
            self._forget(row)
            self._aside.append((row, reason))
        self.count_aside(row.topic, row.payload, reason)

    def count_aside(self, topic: str, payload: bytes, reason: str) -> None:
        """One was set aside."""
        self.counts["set_aside"] += 1
        self.losses.add(topic, payload, f"set aside: {reason}")

    # ---- the keeper

    def to_write(self) -> list[Row]:
        """What is not on disk yet, in order."""
        with self._lock:
            return [row for lane in self._lanes.values() for row in lane.unwritten]

    def written(self, rows: Sequence[Row]) -> None:
        """These are on disk now."""
        with self._lock:
            for row in rows:
                self._note_written(row, self._lanes[row.kind])

    def _note_written(self, row: Row, lane: Lane) -> None:
        row.is_stored = True
        if row.place == "gone":
            lane.doomed[row.number] = row.size
            return
        self._no_longer_unwritten(row, lane)
        if row.place == "new":  # memory lets go of it
            lane.new -= 1
            lane.unread += 1
        elif not lane.unread:
            lane.cursor = row.number

    def doomed(self) -> dict[Kind, dict[int, int]]:
        """What is to be deleted on disk: numbers and sizes."""
        with self._lock:
            return {kind: dict(lane.doomed) for kind, lane in self._lanes.items() if lane.doomed}

    def deleted(self, numbers: Mapping[Kind, Mapping[int, int]]) -> None:
        """These are deleted on disk."""
        with self._lock:
            for kind, gone in numbers.items():
                for number in gone:
                    self._lanes[kind].doomed.pop(number, None)

    def take_aside(self) -> list[tuple[Row, str]]:
        """What was set aside since the last call, and why."""
        with self._lock:
            aside, self._aside = self._aside, []
        return aside

    def to_read(self, kind: Kind) -> int | None:
        """Where to read on, if it is time to; None where it is not."""
        with self._lock:
            lane = self._lanes[kind]
            return lane.cursor if lane.unread and len(lane.ready) < ROOM // 2 else None

    def read(self, kind: Kind, rows: Sequence[Row], last: int | None) -> None:
        """These were read, up to number `last`; None: nothing was left, whatever was counted."""
        with self._lock:
            lane = self._lanes[kind]
            known = {row.number for row in (*lane.ready, *lane.flight) if row.is_stored} | set(lane.doomed)
            for row in rows:
                if row.number not in known:
                    row.is_stored = True
                    lane.insert(row)
                    lane.unread = max(0, lane.unread - 1)
            if last is None:
                lane.unread = 0
                lane.count()
            else:
                lane.cursor = last

    def unreadable(self, kind: Kind, size: int, reason: str) -> None:
        """A row on disk that cannot be read, and was passed over: it is set aside there."""
        with self._lock:
            lane = self._lanes[kind]
            lane.unread = max(0, lane.unread - 1)
            lane.rows -= 1
            lane.bytes -= size
        self.count_aside(kind, b"", reason)

    def trim(self) -> Kind | None:
        """Lets the oldest go while there is too much. A kind: that has to be read from disk before more of it can go."""
        with self._lock:
            return self._trim()

    def attach(self, found: Mapping[Kind, OnDisk]) -> None:
        """A disk is there, and holds these. What it holds of earlier sessions comes before all that is in memory."""
        with self._lock:
            new = [row for lane in self._lanes.values() for row in lane.unwritten]
            first = min((row.number for row in new), default=self._number + 1)
            offset = max(0, max(on_disk.newest for on_disk in found.values()) - first + 1)
            self._number += offset
            for row in new:
                row.number += offset
            for kind, lane in self._lanes.items():
                known = [row for row in (*lane.ready, *lane.flight) if row.is_stored]
                lane.unread = max(0, found[kind].rows - len(known) - len(lane.doomed))
                lane.cursor = 0
                lane.count()
                lane.rows += lane.unread
                lane.bytes += max(0, found[kind].bytes - sum(row.size for row in known) - sum(lane.doomed.values()))
                if lane.unread:
                    lane.give_back()

    def detach(self) -> int:
        """The disk has lost all: what is in memory must be written again. How many rows are gone for good."""
        with self._lock:
            lost = sum(lane.unread for lane in self._lanes.values())
            self._unwritten_rows = self._unwritten_bytes = 0
            for lane in self._lanes.values():
                lane.unread = lane.cursor = 0
                lane.doomed.clear()
                lane.unwritten = OrderedDict.fromkeys(sorted(lane.in_memory(), key=lambda row: row.number))
                lane.count()
                for row in lane.unwritten:
                    row.is_stored = False
                self._unwritten_rows += lane.rows
                self._unwritten_bytes += lane.bytes
            return lost

    # ---- with the lock held

    def _forget(self, row: Row) -> None:
        """Delivered, dropped or set aside."""
        lane = self._lanes[row.kind]
        lane.flight.discard(row)
        lane.rows -= 1
        lane.bytes -= row.size
        if row.place == "new":
            lane.new -= 1
        row.place = "gone"
        if row.is_stored:
            lane.doomed[row.number] = row.size
        else:
            self._no_longer_unwritten(row, lane)

    def _no_longer_unwritten(self, row: Row, lane: Lane) -> None:
        del lane.unwritten[row]
        self._unwritten_rows -= 1
        self._unwritten_bytes -= row.size

    def _excess(self) -> str | None:
        """Which limit is passed."""
        if sum(lane.rows for lane in self._lanes.values()) > self.max_rows:
            return "max_rows"
        size = sum(lane.bytes for lane in self._lanes.values())
        if size > self.max_bytes:
            return "max_mb"
        return "min_free_mb" if self.disk_bytes is not None and size > self.disk_bytes else None

    def _trim(self) -> Kind | None:
        for kind in DROPPED:
            lane = self._lanes[kind]
            while (reason := self._excess()) is not None:
                if not lane.ready:
                    lane.fill(ROOM)
                if not lane.ready:
                    break
                self._drop(lane.ready.popleft(), reason)
            if reason is None or lane.unread:
                return kind if reason else None
        return None

    def _spare_memory(self) -> None:
        """The disk does not take them: the oldest of what is in memory alone goes."""
        while self._unwritten_rows > MEMORY_ROWS or self._unwritten_bytes > MEMORY_BYTES:
            left = (row for kind in DROPPED for row in self._lanes[kind].unwritten if row.place in ("new", "ready"))
            row = next(left, None)
            if row is None:
                return
            if row.place == "ready":
                self._lanes[row.kind].ready.remove(row)
            self._drop(row, "memory")

    def _drop(self, row: Row, reason: str) -> None:
        self._forget(row)
        self.counts["dropped_results" if row.kind == "result" else "dropped_events"] += 1
        self.losses.add(row.topic, row.payload, reason)
