"""The form of the flight recorder's file: a page that says what it is, and two rings of records.

Each record describes itself and has a checksum: one that was torn, or half overwritten, is lost alone. Nothing else
points at them, so there is no place in the file that a power cut must not hit.
"""

import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

RingName = Literal["verdicts", "events"]
FIRST_LINE = b"edge-agent flight recorder 1\n"
PAGE_BYTES = 4096  # before the rings
MAGIC = b"\xf5FR\xf5"  # no text in UTF-8 has the byte F5, so this is never inside a record
MOST_BYTES = 65_536  # of a record; a result with all its detections takes 12,000
WINDOW_BYTES = 4 * MOST_BYTES
_HEAD = struct.Struct("<4sIIQqq4s")  # magic, checksum of the rest, bytes of the text, number, two times, session
_CHECKED = struct.Struct("<IQqq4s")  # what the checksum is over, before the text
_CHECKED_FROM = 8
_EPOCH = datetime.fromtimestamp(0, timezone.utc)


class NotAFlightFileError(Exception):
    """The file is not one of ours, or not all of it is there; the message says which."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Where it lies in the file, in bytes."""

    name: RingName
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """A record that was whole when it was looked at. Numbers rise by one over both rings, in the order of the notes."""

    number: int
    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One note. `session` are the first eight letters of that of the agent; `mono_ns` counts only within one."""

    number: int
    session: str
    at: datetime
    mono_ns: int
    kind: str
    body: dict[str, Any]


def micros(when: datetime) -> int:
    """UTC in microseconds."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def tag_of(session: str) -> bytes:
    """How records name a session: its first eight letters, which are hexadecimal digits."""
    return bytes.fromhex(session.ljust(8, "0")[:8])


def pack(number: int, at_us: int, mono_ns: int, tag: bytes, kind: str, body: bytes) -> bytes:
    """A record; `body` is a JSON object, `mono_ns` CLOCK_MONOTONIC."""
    text = kind.encode() + b" " + body
    checked = _CHECKED.pack(len(text), number, at_us, mono_ns, tag)
    return MAGIC + zlib.crc32(text, zlib.crc32(checked)).to_bytes(4, "little") + checked + text


def size_at(data: bytes, at: int) -> int:
    """Bytes of the record that begins there; 0 where none does, or it is not whole."""
    if at + _HEAD.size > len(data):
        return 0
    magic, checksum, length, *_ = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + length
    if (
        magic != MAGIC
        or length > MOST_BYTES
        or end > len(data)
        or zlib.crc32(memoryview(data)[at + _CHECKED_FROM : end]) != checksum
    ):
        return 0
    size: int = end - at
    return size


def unpack(data: bytes) -> Record | None:
    """The record that `data` is; None where it is none any more."""
    if size_at(data, 0) != len(data) or not data:
        return None
    *_, number, at_us, mono_ns, session = _HEAD.unpack_from(data)
    kind, _, body = data[_HEAD.size :].partition(b" ")
    try:
        facts = json.loads(body)
    except ValueError:
        return None
    return Record(number, session.hex(), _EPOCH + timedelta(microseconds=at_us), mono_ns, kind.decode(), facts)


def number_at(data: bytes, at: int) -> int:
    """That of a record that is whole."""
    number: int = _HEAD.unpack_from(data, at)[3]
    return number


def is_of_kind(fd: int, place: Place, kind: str) -> bool:
    """Whether that is what it is."""
    text = kind.encode() + b" "
    return os.pread(fd, len(text), place.at + _HEAD.size) == text


def first_page(sizes: Mapping[RingName, int]) -> bytes:
    """What a file with rings of these sizes begins with."""
    return (FIRST_LINE + json.dumps(dict(sizes)).encode() + b"\n").ljust(PAGE_BYTES, b"\0")


def rings_of(fd: int) -> dict[RingName, Ring]:
    """The rings of a file.

    Raises:
        NotAFlightFileError: it is none of ours.
        OSError: it cannot be read.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise NotAFlightFileError("it is no file")
    page, size = os.pread(fd, PAGE_BYTES, 0), status.st_size
    if not page.startswith(FIRST_LINE):
        raise NotAFlightFileError("it is no flight recorder's file")
    try:
        sizes = json.loads(page.split(b"\n")[1])
        verdicts, events = int(sizes["verdicts"]), int(sizes["events"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        raise NotAFlightFileError("its first page is damaged") from None
    if min(verdicts, events) <= 0 or size != PAGE_BYTES + verdicts + events:
        raise NotAFlightFileError("it has not the size that it should have")
    middle = PAGE_BYTES + verdicts
    return {"verdicts": Ring("verdicts", PAGE_BYTES, middle), "events": Ring("events", middle, size)}


def scan(fd: int, ring: Ring) -> Iterator[Place]:
    """Every whole record of a ring, as they lie there. May be done while others write."""
    at = ring.start
    while at < ring.end:
        data = os.pread(fd, min(WINDOW_BYTES, ring.end - at), at)
        is_last = not data or at + len(data) >= ring.end
        begin = 0
        while (begin := data.find(MAGIC, begin)) >= 0 and (is_last or begin + MOST_BYTES <= len(data)):
            size = size_at(data, begin)
            if size:
                yield Place(number_at(data, begin), at + begin, size)
            begin += size or 1
        if is_last:
            return
        at += begin if begin >= 0 else len(data) - len(MAGIC) + 1


def run_at(fd: int, ring: Ring, at: int, after: int) -> list[Place]:
    """The records that lie one behind the other from there on, with numbers that rise from above `after`."""
    data = os.pread(fd, min(WINDOW_BYTES, ring.end - at), at)
    places: list[Place] = []
    begin = 0
    while (size := size_at(data, begin)) and (number := number_at(data, begin)) > after:
        places.append(Place(number, at + begin, size))
        begin, after = begin + size, number
    return places
