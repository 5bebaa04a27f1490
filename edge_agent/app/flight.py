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
        self._ends: dict[Ring, int] = {}
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

    def follow(self) -> Iterator[Record]:
        """Those that are written from now on, for ever; also into a file that takes this one's place."""
        last = self._look_for_ends(self.places())
        while True:
            time.sleep(LOOK_EVERY_S)
            if self._take_successor():
                newest = self._look_for_ends(self.places())
                last = min(last, newest)
            for record in self._read_all(self._after(last)):
                last = record.number
                yield record

    def _after(self, last: int) -> list[Place]:
        """What was written since: mostly right behind the last of its ring, or at the ring's start; else all is looked through."""
        changed_ns = os.fstat(self._fd).st_mtime_ns
        fresh: list[Place] = []
        for ring in self._rings:
            newest = last
            while places := run_at(self._fd, ring, self._ends[ring], newest) or run_at(
                self._fd, ring, ring.start, newest
            ):
                fresh += places
                newest = places[-1].number
                self._ends[ring] = places[-1].at + places[-1].size
        if not fresh and changed_ns != self._looked_ns:
            places = self.places()
            self._look_for_ends(places)
            fresh = [place for place in places if place.number > last]
        self._looked_ns = changed_ns
        return sorted(fresh, key=lambda place: place.number)

    def _look_for_ends(self, places: list[Place]) -> int:
        """Finds where each ring goes on. The newest number."""
        self._ends = {ring: ring.start for ring in self._rings}
        for place in places:
            for ring in self._rings:
                if ring.start <= place.at < ring.end:
                    self._ends[ring] = place.at + place.size
        return places[-1].number if places else 0

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
