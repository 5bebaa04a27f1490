"""The two clocks: monotonic for every interval, UTC only for what people and other machines read."""

import time
from datetime import datetime, timezone


def utc_of(mono_ns: int) -> datetime:
    """The wall clock's time at a moment of CLOCK_MONOTONIC, as the wall clock stands now."""
    return datetime.fromtimestamp((time.time_ns() - time.monotonic_ns() + mono_ns) / 1e9, timezone.utc)
