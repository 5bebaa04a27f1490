"""When a picture was taken: what the driver says, as long as it can be believed."""

from typing import Literal

_OLDEST_NS = 2_000_000_000
"""A picture that is read as it comes is younger than that; one that waited in the driver's buffers may be older."""

_OLD_ONES_IN_A_ROW = 8
"""More than any driver has buffers: so many are read in a row only where the clock itself is late."""


class Clock:
    """Chooses between a driver's stamps and the time of arrival.

    V4L2 drivers stamp with CLOCK_MONOTONIC (V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC), some with another clock or with none,
    and OpenCV does not hand on which. So it is judged by the values: they have to rise, and lie in the near past. When
    one does not, the time of arrival counts from there on.

    Attributes:
        source: whose time it is.
    """

    def __init__(self) -> None:
        self.source: Literal["driver", "arrival"] = "driver"
        self._last_ns = 0
        self._old_in_a_row = _OLD_ONES_IN_A_ROW  # of the first picture no age is excused: it cannot have waited

    def captured_ns(self, stamp_ns: int, arrived_ns: int) -> int:
        """The better of the two, on the monotonic clock, and later than that of the picture before."""
        if self.source == "driver" and not self._believable(stamp_ns, arrived_ns):
            self.source = "arrival"
        self._last_ns = stamp_ns if self.source == "driver" else arrived_ns
        return self._last_ns

    def _believable(self, stamp_ns: int, arrived_ns: int) -> bool:
        is_old = arrived_ns - stamp_ns > _OLDEST_NS
        self._old_in_a_row = self._old_in_a_row + 1 if is_old else 0
        return self._last_ns < stamp_ns <= arrived_ns and self._old_in_a_row <= _OLD_ONES_IN_A_ROW
