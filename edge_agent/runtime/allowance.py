"""How much of something is let through: so much a second, and so much at once."""


class Allowance:
    """A token bucket. Time is an argument, nanoseconds of any clock; it may stand still and go back."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._per_s, self._at_once = per_s, at_once
        self._left: float = at_once
        self._last_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Whether one more is let through now; it is taken then."""
        since_ns = 0 if self._last_ns is None else max(0, now_ns - self._last_ns)
        self._last_ns = now_ns
        self._left = min(self._at_once, self._left + since_ns / 1e9 * self._per_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True
