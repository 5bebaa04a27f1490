"""Memory for pictures that is used again: no frame of a camera that runs costs a large allocation."""

import sys
import threading

import numpy as np

from edge_agent.core.datatypes import Image

SPARE = 1
"""So many that nobody holds are kept: one for the next picture."""

WINDOW = 100
"""Pictures; what was never needed for so long is given back: not sooner, for how many are held goes up and down."""

_ALONE = [np.empty(0, np.uint8)]
_REFERENCES = sys.getrefcount(_ALONE[0])
"""What is counted of an array that only a list holds."""


class Pool:
    """Hands out arrays of one shape at a time; one that nobody holds any more, nor a view of it, is handed out again.

    There are as many as were held at a time of late, and `SPARE`. Any thread may call it, and let go of what it has.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: list[Image] = []
        self._taken = self._never_needed = 0  # in this window

    def take(self, shape: tuple[int, ...]) -> Image:
        """An array of bytes to write into; what stands in it is of a picture that was let go."""
        with self._lock:
            if self._arrays and self._arrays[0].shape != shape:
                self._arrays = []
            free = [i for i in range(len(self._arrays)) if sys.getrefcount(self._arrays[i]) == _REFERENCES]
            array: Image = self._arrays[free[0]] if free else np.empty(shape, np.uint8)
            if not free:
                self._arrays.append(array)
            self._give_back(free)
            return array

    def _give_back(self, free: list[int]) -> None:
        self._never_needed = min(self._never_needed, len(free)) if self._taken else len(free)
        self._taken = (self._taken + 1) % WINDOW
        if self._taken == 0:
            for index in reversed(free[len(free) - max(0, self._never_needed - SPARE) :]):
                del self._arrays[index]


def read_only(array: Image) -> Image:
    """A view of an array that nobody can write into by it; it holds the array."""
    view: Image = array.view()
    view.flags.writeable = False
    return view
