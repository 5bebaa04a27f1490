"""Where threads get their memory from: all of them from one heap, so that it stays as large as it is."""

import ctypes

_M_ARENA_MAX = -8  # of mallopt(3)


def share_one() -> bool:
    """All threads that start from now on use the heap of the first. False where the C library has no such setting.

    By itself glibc gives threads heaps of their own, eight for each core, so that they do not wait for each other. Python's
    do not ask at the same time: they have one lock already. What each heap once held it keeps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_ARENA_MAX, 1))
