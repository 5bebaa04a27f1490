"""Something that may happen with every frame, and is logged now and then."""

import math
import time

EVERY_S = 10.0


class Rarely:
    """Says when to log: the first time, and then once in `every_s` at most."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._last_s = -math.inf
        self._unlogged = 0

    def now(self) -> int | None:
        """It happened again: how many times it was not logged since the last time; None: not now."""
        now_s = time.monotonic()
        if now_s - self._last_s < self._every_s:
            self._unlogged += 1
            return None
        unlogged, self._last_s, self._unlogged = self._unlogged, now_s, 0
        return unlogged
