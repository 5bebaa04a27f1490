"""An input line: a pipe out of which come edges, as the kernel would show them."""

import errno
import fcntl
import os
import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum
from select import select

from gpiod import line

RECORD = struct.Struct("<cqQ")
"""What comes: b"r" or b"f" for an edge, b"x" for the end of the chip; its time; how many of its kind before it nobody keeps."""

_ENTRIES = 16  # the kernel keeps so many edges of a line unless it is asked for more


class EdgeType(Enum):
    RISING_EDGE = b"r"
    FALLING_EDGE = b"f"


@dataclass(frozen=True)
class EdgeEvent:
    event_type: EdgeType
    timestamp_ns: int
    line_offset: int
    global_seqno: int
    line_seqno: int


class LineRequest:
    """One line, held by whoever opened its pipe first."""

    def __init__(self, pipe, settings, event_buffer_size):
        assert settings.direction is line.Direction.INPUT
        assert settings.event_clock is line.Clock.MONOTONIC
        wanted = {line.Edge.RISING: b"r", line.Edge.FALLING: b"f", line.Edge.BOTH: b"rf"}
        self._wanted = wanted[settings.edge_detection]
        self._offset = int(pipe.name)
        self._seqno = 0
        self._kept = deque(maxlen=event_buffer_size or _ENTRIES)
        self._fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # also for writing: so it never ends
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise OSError(errno.EBUSY, "Device or resource busy") from error

    def __bool__(self):
        return self._fd is not None

    def wait_edge_events(self, timeout=None):
        """Edges of the other kind do not end the wait for long: the caller waits again."""
        if not self._kept:
            select([self._fd], [], [], timeout)
            self._take()
        return bool(self._kept)

    def read_edge_events(self, max_events=None):
        self._take()
        return [self._kept.popleft() for _ in range(min(len(self._kept), max_events or 64))]

    def release(self):
        assert self._fd is not None, "GPIO lines have been released"
        os.close(self._fd)
        self._fd = None

    def _take(self):
        """Puts what has come into the buffer, from which the oldest go when it is full."""
        while True:
            try:
                records = os.read(self._fd, RECORD.size * 64)
            except BlockingIOError:
                return
            for record in RECORD.iter_unpack(records):
                self._keep(*record)

    def _keep(self, kind, at_ns, lost):
        if kind == b"x":
            raise OSError(errno.ENODEV, "No such device")
        if kind in self._wanted:
            self._seqno = (self._seqno + lost + 1) % (1 << 32)
            signed = self._seqno - (1 << 32) if self._seqno >= 1 << 31 else self._seqno  # as the library shows it
            self._kept.append(EdgeEvent(EdgeType(kind), at_ns, self._offset, signed, signed))
