"""What time it is: monotonic for every interval, UTC only for what people and other machines read.

Whatever decides about a part, or writes about one, is given its clock: a line can be run again with the same times.
"""

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol


class Clock(Protocol):
    """Times are nanoseconds of CLOCK_MONOTONIC, or what stands in for it."""

    def mono_ns(self) -> int:
        """Now."""
        ...

    def utc_of(self, mono_ns: int) -> datetime:
        """The wall clock's time at that moment, as the wall clock stands now."""
        ...

    def mono_of(self, utc: datetime) -> int:
        """The moment at which the wall clock, as it stands now, shows that time, which has a time zone."""
        ...

    def wait_until(self, mono_ns: int, closed: threading.Event) -> bool:
        """Comes back at that moment, or when `closed` is set, whichever is first. True where it is set."""
        ...


class SystemClock:
    """The clocks of this machine. Any thread."""

    def mono_ns(self) -> int:
        """See `Clock.mono_ns`."""
        return time.monotonic_ns()

    def utc_of(self, mono_ns: int) -> datetime:
        """See `Clock.utc_of`."""
        return datetime.fromtimestamp((time.time_ns() - time.monotonic_ns() + mono_ns) / 1e9, timezone.utc)

    def mono_of(self, utc: datetime) -> int:
        """See `Clock.mono_of`."""
        return _ns_between(_EPOCH, utc) - time.time_ns() + time.monotonic_ns()

    def wait_until(self, mono_ns: int, closed: threading.Event) -> bool:
        """See `Clock.wait_until`."""
        return closed.wait(max(0.0, (mono_ns - time.monotonic_ns()) / 1e9))


class SimulatedClock:
    """Stands still unless somebody waits: then it is that moment at once. It never goes back. One thread.

    `utc`, with its time zone, is the wall clock's time at `mono_ns`, where it begins.
    """

    def __init__(self, mono_ns: int, utc: datetime) -> None:
        self._now_ns = self._start_ns = mono_ns
        self._start_utc = utc

    def mono_ns(self) -> int:
        """See `Clock.mono_ns`."""
        return self._now_ns

    def utc_of(self, mono_ns: int) -> datetime:
        """See `Clock.utc_of`."""
        return self._start_utc + timedelta(microseconds=(mono_ns - self._start_ns) / 1e3)

    def mono_of(self, utc: datetime) -> int:
        """See `Clock.mono_of`."""
        return self._start_ns + _ns_between(self._start_utc, utc)

    def wait_until(self, mono_ns: int, closed: threading.Event) -> bool:
        """See `Clock.wait_until`."""
        if closed.is_set():
            return True
        self.go_to(mono_ns)
        return False

    def go_to(self, mono_ns: int) -> None:
        """It is that moment now, unless that is past."""
        self._now_ns = max(self._now_ns, mono_ns)


_EPOCH = datetime.fromtimestamp(0, timezone.utc)


def _ns_between(start: datetime, end: datetime) -> int:
    return (end - start) // timedelta(microseconds=1) * 1000


SYSTEM = SystemClock()
