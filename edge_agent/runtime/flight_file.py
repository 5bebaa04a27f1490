"""The flight recorder's file, as its one writer sees it: taken whole from the disk at the start, then written in place."""

import errno
import fcntl
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.runtime.flight_records import (
    MAGIC,
    MOST_BYTES,
    NotAFlightFileError,
    Place,
    Ring,
    RingName,
    first_page,
    rings_of,
    scan,
)
from edge_agent.runtime.folders import make_folder

log = structlog.get_logger()
FILE = "flight.log"
MODE = 0o640  # less what the umask takes: the group of a service are its technicians
VERDICTS_SHARE = 0.75  # of the file: a part takes about 1.7 kB, an event 0.3


@dataclass(slots=True)
class _Lane:
    ring: Ring
    at: int  # where the next record goes
    laps: int = 0


class FlightFile:
    """One thread writes; `sync` may be another's. Raises `OSError` where the disk fails.

    Attributes:
        newest: the number of the newest record that was found.
        most_bytes: of a record that a ring takes.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Opens the file, or makes it; one that cannot be used is set aside. Raises `BlockingIOError` where another agent writes it."""
        sizes = _sizes(most_bytes)
        make_folder(path.parent)
        self._path, self._syncing, self._is_dirty = path, threading.Lock(), False
        self._fd, rings = _open(path, sizes)
        if {name: ring.end - ring.start for name, ring in rings.items()} != sizes:
            self._fd, rings = _resized(path, self._fd, rings, sizes)
        self.newest = 0
        self._lanes = {name: self._lane(ring) for name, ring in rings.items()}
        self.most_bytes = {name: min(MOST_BYTES, (ring.end - ring.start) // 4) for name, ring in rings.items()}

    @property
    def is_in_place(self) -> bool:
        """False where it was moved or deleted: what is written then is lost with it."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def append(self, name: RingName, records: Sequence[bytes]) -> bool:
        """Writes the records over the oldest. Whether it began again at the ring's start. What fails may be given again."""
        lane = self._lanes[name]
        laps, batch, start = lane.laps, bytearray(), lane.at
        for record in records:
            if start + len(batch) + len(record) > lane.ring.end:
                batch += bytes(lane.ring.end - start - len(batch))  # no record of the lap before stays behind there
                self._write(batch, start)
                batch, start = bytearray(), lane.ring.start
                lane.at, lane.laps = start, lane.laps + 1
            batch += record
        self._write(batch, start)
        lane.at = start + len(batch)
        return lane.laps > laps

    def sync(self) -> None:
        """Makes what was written outlive a power cut."""
        with self._syncing:
            if self._is_dirty and self._fd >= 0:
                self._is_dirty = False
                os.fdatasync(self._fd)

    def close(self) -> None:
        """Lets go of the file."""
        with self._syncing:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _lane(self, ring: Ring) -> _Lane:
        newest = max(scan(self._fd, ring), key=lambda place: place.number, default=None)
        if newest is None:
            return _Lane(ring, ring.start)
        self.newest = max(self.newest, newest.number)
        return _Lane(ring, newest.at + newest.size)

    def _write(self, data: bytes | bytearray, at: int) -> None:
        _write_all(self._fd, data, at)
        self._is_dirty = True


def _sizes(most_bytes: int) -> dict[RingName, int]:
    room = most_bytes // 4096 * 4096 - len(first_page({}))
    verdicts = int(room * VERDICTS_SHARE) // 4096 * 4096
    return {"verdicts": verdicts, "events": room - verdicts}


def _open(path: Path, sizes: Mapping[RingName, int]) -> tuple[int, dict[RingName, Ring]]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _made(path, sizes)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        _set_aside(path, "it is no file")
        return _made(path, sizes)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd, rings_of(fd)
    except NotAFlightFileError as error:
        os.close(fd)
        _set_aside(path, str(error))
        return _made(path, sizes)
    except BaseException:
        os.close(fd)
        raise


def _set_aside(path: Path, reason: str) -> None:
    """Whatever it is, it is somebody's: the last one is kept."""
    kept = path.with_name(f"{path.name}.bad")
    with suppress(IsADirectoryError, FileNotFoundError):
        kept.unlink()
    path.rename(kept)
    log.warning("recorder_set_aside", file=str(kept), reason=reason)


def _made(path: Path, sizes: Mapping[RingName, int], keep: Sequence[bytes] = ()) -> tuple[int, dict[RingName, Ring]]:
    """A fresh file; it has its name only when all of it is on the disk."""
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        page = first_page(sizes)
        os.posix_fallocate(fd, 0, len(page) + sum(sizes.values()))
        _write_all(fd, page, 0)
        rings = rings_of(fd)
        for data, ring in zip(keep, rings.values(), strict=False):
            _write_all(fd, data, ring.start)
        os.fsync(fd)
        fresh.replace(path)
    except BaseException:
        os.close(fd)
        with suppress(OSError):
            fresh.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return fd, rings


def _resized(
    path: Path, fd: int, rings: dict[RingName, Ring], sizes: Mapping[RingName, int]
) -> tuple[int, dict[RingName, Ring]]:
    """A file of the size that is asked for now, with the newest records of the one before. It stays where there is no room."""
    try:
        made = _made(path, sizes, [_newest(fd, ring, sizes[name]) for name, ring in rings.items()])
    except OSError as error:
        log.warning("recorder_not_resized", file=str(path), reason=error.strerror)
        return fd, rings
    os.close(fd)
    return made


def _newest(fd: int, ring: Ring, room: int) -> bytes:
    """The newest records of a ring that fit, the oldest of them first."""
    places: list[Place] = []
    for place in sorted(scan(fd, ring), key=lambda place: -place.number):
        room -= place.size
        if room < 0:
            break
        places.append(place)
    return b"".join(
        data for place in reversed(places) if (data := os.pread(fd, place.size, place.at)).startswith(MAGIC)
    )


def _write_all(fd: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
