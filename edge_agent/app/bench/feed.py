"""A camera that gives pictures when it is told to."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.app.bench.pictures import Reel
from edge_agent.core.datatypes import Frame
from edge_agent.errors import CameraLostError, FrameTimeoutError

JITTER = 0.3  # of the interval, either way: cameras and belts do not keep step with an engine
_LOOK_NS = 500_000  # so often it is looked whether the frame before was judged


@dataclass(eq=False, slots=True)
class Pace:
    """How frames are to come: one every `interval_s`, 0: as fast as they are taken; so many at most, None: until told otherwise.

    `alone`: none comes while another is under way, so that what the one before took is no part of what this one takes.
    """

    interval_s: float
    left: int | None = None
    alone: bool = False


class Feed:
    """Stands in for a camera of the running agent: its capture thread reads it. Any thread may call the rest.

    `count` is how many frames were handed out. `is_free` says whether all frames that were have been judged.
    """

    def __init__(self, reel: Reel, seed: int, is_free: Callable[[], bool]) -> None:
        self._is_free = is_free
        self._arrays, self._picture_of = itertools.cycle(reel.arrays), reel.picture_of
        self._random = random.Random(seed)  # noqa: S311 - it is no secret
        self._wake = threading.Condition()
        self._pace: Pace | None = None
        self._due_ns = 0
        self.count = 0
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no frame is to come."""
        return self._pace is None

    def give(self, pace: Pace | None) -> None:
        """From now on frames come like that; None: none come."""
        with self._wake:
            self._pace, self._due_ns = pace, time.monotonic_ns()
            self._wake.notify_all()

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. A frame counts as captured when it is handed out."""
        until_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        with self._wake:
            while not self._is_closed:
                now_ns, pace = time.monotonic_ns(), self._pace
                if pace is not None and now_ns >= self._due_ns and (not pace.alone or self._is_free()):
                    return self._next(pace)
                if now_ns >= until_ns:
                    raise FrameTimeoutError("no frame was asked for")
                due_ns = until_ns if pace is None else min(until_ns, max(self._due_ns, now_ns + _LOOK_NS))
                self._wake.wait((due_ns - now_ns) / 1e9)
            raise CameraLostError("the feed was closed")

    def close(self) -> None:
        """See `Camera.close`."""
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()

    def _next(self, pace: Pace) -> Frame:
        self._due_ns += int(pace.interval_s * 1e9 * (1 + JITTER * self._random.uniform(-1, 1)))
        self._due_ns = max(self._due_ns, time.monotonic_ns() - int(pace.interval_s * 1e9))  # what is missed is missed
        seq, self.count = self.count, self.count + 1
        if pace.left is not None:
            pace.left -= 1
            self._pace = pace if pace.left else None
        return Frame(self._picture_of(next(self._arrays)), seq, time.monotonic_ns())
