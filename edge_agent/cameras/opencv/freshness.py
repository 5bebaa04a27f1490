"""Whether what a network stream gives is new: pictures that stand still, that are held back, that come too fast."""

import resource
import time

import numpy as np

from edge_agent.core.datatypes import Image

WAITED_S = 0.003
"""Who waits so long for a picture has waited for the network: nothing older lies there."""

_FEW = 10  # pictures, before it is known how often they come
_SMOOTHING = 0.1
_PAUSE_S, _PAUSE_FACTOR = 0.5, 4.0

_WINDOW_S, _SLACK = 10.0, 0.01
"""A reader that keeps up has to wait now and then. One that waits for less than a hundredth of that time does not."""

_STEP_PX = 16
_LIGHT = 32
"""Levels between the brightest and the darkest place. Without light, pictures are the same for hours."""


class Effort:
    """What this thread does from now on: how long it takes, and how long it sleeps meanwhile.

    A thread that another one has pushed off its processor does not sleep: on a busy machine a picture that has to be
    decoded must not pass for one that had to be waited for. The kernel counts both apart (getrusage(2), `ru_nvcsw`).
    """

    def __init__(self) -> None:
        self._started_s, self._worked_s, self._sleeps = time.monotonic(), time.thread_time(), _sleeps()

    def so_far_s(self) -> tuple[float, float]:
        """How long it took, and how much of that was waiting."""
        took_s = time.monotonic() - self._started_s
        waited_s = took_s - (time.thread_time() - self._worked_s) if _sleeps() > self._sleeps else 0.0
        return took_s, waited_s


class Pace:
    """Follows the pictures of a live stream. `now_s`, monotonic, is when it begins."""

    def __init__(self, now_s: float) -> None:
        self._pictures = 0
        self._usual_s = 0.0
        self._window_from_s = now_s
        self._waited_s = 0.0

    def pauses(self, took_s: float) -> bool:
        """One more picture, that took so long: was that a pause? It is as old then, for FFmpeg holds one picture back.

        A camera that has become slow is no stream that pauses: what is usual follows.
        """
        is_pause = self._pictures >= _FEW and took_s > max(_PAUSE_S, _PAUSE_FACTOR * self._usual_s)
        self._pictures += 1
        self._usual_s += max(_SMOOTHING, 1 / self._pictures) * (took_s - self._usual_s)
        return is_pause

    def falls_behind(self, waited_s: float, now_s: float) -> bool:
        """One more picture, that was waited for so long: is decoding slower than the camera?"""
        self._waited_s += waited_s
        window_s = now_s - self._window_from_s
        if window_s < _WINDOW_S:
            return False
        behind = self._waited_s < _SLACK * window_s
        self._window_from_s, self._waited_s = now_s, 0.0
        return behind


class Still:
    """Notices pictures that are the same to the bit, which a sensor never gives for long where there is any light.

    OpenCV 4 gives its last picture for ever where a stream changes its size on the way (seen with 4.6 and 4.11).
    """

    def __init__(self) -> None:
        self._last: Image | None = None
        self._since_s = 0.0

    def lasts_s(self, image: Image) -> float:
        """For how long all pictures have been this one."""
        last, self._last = self._last, image
        now_s = time.monotonic()
        if last is None or not _same(last, image):
            self._since_s = now_s
        return now_s - self._since_s


def _same(one: Image, other: Image) -> bool:
    """A few places tell nearly all apart, at no cost."""
    few = other[::_STEP_PX, ::_STEP_PX]
    return (
        np.array_equal(one[::_STEP_PX, ::_STEP_PX], few) and bool(np.ptp(few) > _LIGHT) and np.array_equal(one, other)
    )


def _sleeps() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
