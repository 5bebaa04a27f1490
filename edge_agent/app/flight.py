"""What the flight recorder kept, for commands: read while the agent writes, and after it has died."""

import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from edge_agent.app.instances import JOIN, Instance
from edge_agent.errors import UsageError
from edge_agent.runtime.flight_file import FILE
from edge_agent.runtime.flight_records import (
    NotAFlightFileError,
    Place,
    Record,
    Ring,
    is_of_kind,
    rings_of,
    run_at,
    scan,
    unpack,
)

LOOK_EVERY_S = 0.3


class Flight:
    """The file, open for reading."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` with what to do where it cannot be read."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UsageError(
                f"{path}: nothing was recorded here: the agent has not run yet, or [recorder] max_mb is 0"
            ) from None
        except PermissionError:
            raise UsageError(f"{path} may not be read: {JOIN}") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        self._ends: dict[Ring, tuple[int, int]] = {}  # where the newest that was seen ends, and its number
        self._looked_ns = 0
        try:
            self._rings: tuple[Ring, ...] = tuple(rings_of(self._fd).values())
        except (NotAFlightFileError, OSError) as error:
            os.close(self._fd)
            raise UsageError(f"{path} cannot be read: {error}; the agent sets it aside when it starts") from None

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._fd)

    def places(self) -> list[Place]:
        """Where each record lies that is there now, the oldest first."""
        found = {place.number: place for ring in self._rings for place in scan(self._fd, ring)}
        return [found[number] for number in sorted(found)]

    def read(self, place: Place) -> Record | None:
        """The record; None where a newer one lies there by now."""
        record = unpack(os.pread(self._fd, place.size, place.at))
        return record if record is not None and record.number == place.number else None

    def records(self) -> Iterator[Record]:
        """All, the oldest first."""
        return self._read_all(self.places())

    def newest_first(self) -> Iterator[Record]:
        """All, the newest first."""
        return self._read_all(self.places()[::-1])

    def beside(self, record: Record) -> tuple[Iterator[Record], Iterator[Record]]:
        """Those before it, the newest first, and those after it, the oldest first."""
        places = self.places()
        at = bisect_left(places, record.number, key=lambda place: place.number)
        return self._read_all(places[:at][::-1]), self._read_all(places[at + 1 :])

    def of_kind(self, kind: str) -> Iterator[Record]:
        """Those of one kind, the oldest first, without a look into the others."""
        return self._read_all([place for place in self.places() if is_of_kind(self._fd, place, kind)])

    def newest(self) -> int:
        """The number of the newest record; 0 where there is none."""
        return max((place.number for ring in self._rings for place in scan(self._fd, ring)), default=0)

    def follow(self, after: int) -> Iterator[Record]:
        """Those with higher numbers, as they are written, for ever; also into a file that takes this one's place."""
        coming: dict[int, Place] = {}
        has_gap = False
        while True:
            coming |= {place.number: place for place in self._fresh(after)}
            ready: list[Place] = []
            while (place := coming.pop(after + 1 + len(ready), None)) is not None:
                ready.append(place)
            if not ready and coming and has_gap:  # it stayed: what is missing lies elsewhere, or is written over by now
                ready, coming = self._all_fresh(after), {}
            has_gap = bool(coming)
            for place in ready:
                after = place.number
                if (record := self.read(place)) is not None:
                    yield record
            time.sleep(LOOK_EVERY_S)
            if self._take_successor():
                coming, self._ends, after = {}, {}, min(after, self.newest())

    def _fresh(self, after: int) -> list[Place]:
        """What was written since: mostly right behind the last of its ring, or at the ring's start; else all is looked through."""
        changed_ns = os.fstat(self._fd).st_mtime_ns
        fresh: list[Place] = []
        for ring in self._rings:
            at, newest = self._ends.get(ring, (ring.start, after))
            while places := run_at(self._fd, ring, at, newest) or run_at(self._fd, ring, ring.start, newest):
                fresh += places
                at, newest = places[-1].at + places[-1].size, places[-1].number
                self._ends[ring] = at, newest
        if not fresh and changed_ns != self._looked_ns:
            fresh = self._all_fresh(after)
        self._looked_ns = changed_ns
        return fresh

    def _all_fresh(self, after: int) -> list[Place]:
        fresh = [place for place in self.places() if place.number > after]
        self._ends |= {self._ring_of(place): (place.at + place.size, place.number) for place in fresh}
        return fresh

    def _ring_of(self, place: Place) -> Ring:
        return next(ring for ring in self._rings if ring.start <= place.at < ring.end)

    def _take_successor(self) -> bool:
        """Whether the file has been replaced: from now on this is the new one."""
        try:
            if os.path.samestat(self.path.stat(), os.fstat(self._fd)):
                return False
            successor = Flight(self.path)
        except (OSError, UsageError):  # it may come
            return False
        os.close(self._fd)
        self._fd, self._rings = successor._fd, successor._rings
        return True

    def _read_all(self, places: list[Place]) -> Iterator[Record]:
        return (record for place in places if (record := self.read(place)) is not None)


def flight_of(instance: Instance) -> Flight:
    """What the recorder of an agent of this device kept.

    Raises:
        UsageError: it cannot be read; the message says why, and what to do.
    """
    if instance.own_folder is None:
        raise UsageError(f"{instance.config}: [device] id cannot be read, so nobody knows where its records are")
    return Flight(instance.own_folder / FILE)
