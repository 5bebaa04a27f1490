"""Memory for what lies between two steps of numpy, so that looking at a frame allocates nothing large."""

import threading

import numpy as np

from edge_agent.core.datatypes import FloatArray

ROWS, LENGTH = 6, 9600  # as many and as long as `eyesight` and `scene` need: all blocks of a picture, or its plane
_LINE = 64  # bytes of a cache line; each row begins on one, for vector instructions are slower across two of them


class _Memory(threading.local):
    """Each thread has its own: two may look at pictures of one camera at the same time."""

    def __init__(self) -> None:
        size = ROWS * LENGTH * 4
        memory = np.empty(size + _LINE, np.uint8)
        start = -memory.ctypes.data % _LINE
        self.rows: FloatArray = memory[start : start + size].view(np.float32).reshape(ROWS, LENGTH)


_memory = _Memory()


def scratch() -> FloatArray:
    """`(ROWS, LENGTH) float32` of this thread, with anything in it. Nobody may keep or return it, or call others that use it."""
    return _memory.rows
