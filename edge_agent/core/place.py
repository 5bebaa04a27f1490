"""Is a camera where its baseline was taken? Judged twice: over some tenths of a second, and over seconds. Pure.

A camera that shakes or was knocked shows its scene elsewhere in the picture: a glance tells, and a few agree on it.
Where a glance does not find the scene at all, something large may stand before it, so that is left to the smooth
picture of the last seconds. There noise and what passes have faded, and it finds what is turned or nearer, too.
"""

import math
from collections import deque

import numpy as np

from edge_agent.core.datatypes import FloatArray, Image
from edge_agent.core.eyesight import glimpse
from edge_agent.core.scene import Scene

_GLANCE_S = 0.2  # between two glances,
_AGAIN_S = 0.06  # and where one of the last found the scene elsewhere
_HOLDS_S = 0.5  # what a glance told, when none can be had
_GLANCES = 5  # of these,
_ENTER, _LEAVE = 3, 2  # so many say "elsewhere" when it begins; while it goes on: what shakes is in place at times
_CLEARLY = 0.5  # of the limit: a glance with more than that in place is no sign of anything
_FOUND = 0.2  # share of the scene; measured: 0.13 to 0.7 where it is elsewhere, another scene or many parts 0 to 0.18
_SURELY = 2.0  # so many times as much must be found elsewhere as in place

_MEMORY_S = 3.0  # the smooth picture forgets with this time constant,
_MEMORY = 0.1  # but no faster than by this share a glance
_SMOOTH = 16  # glances make it smooth
_COMPARE_S = 1.0
_COMPARISONS = 3  # in a row must agree


class Place:
    """Looks at the pictures of one camera five times a second, more often while it seems to be out of its place.

    Attributes:
        in_place: the share of the scene that is where it was; None: unknown.
    """

    def __init__(self) -> None:
        self.in_place: float | None = None
        self._is_elsewhere = self._is_off = False
        self._glances: deque[tuple[float, bool]] = deque(maxlen=_GLANCES)  # share in place, and is it elsewhere
        self._glanced_ns: int | None = None
        self._memory = _Memory()

    def look(self, image: Image, scene: Scene, now_ns: int, *, enter: float, leave: float) -> None:
        """One more picture. With less than the share `enter` in place it is out, until there is more than `leave`."""
        past_s = self._past_s(now_ns)
        if past_s < (_AGAIN_S if any(is_elsewhere for _, is_elsewhere in self._glances) else _GLANCE_S):
            return
        self._glanced_ns = now_ns
        plane = glimpse(image)
        share = scene.in_place(plane)
        if share is None:
            self.in_place = None
            return
        self._judge_now(plane, share, scene, enter)
        if self._is_elsewhere:
            self._memory, self._is_off = _Memory(), False
            self.in_place = sorted(share for share, _ in self._glances)[len(self._glances) // 2]
            return
        self._judge_slowly(plane, past_s, scene, enter, leave)
        self.in_place = self._memory.shares[-1] if self._memory.shares else share

    def pass_over(self, now_ns: int) -> None:
        """A picture that is not sharp tells nothing. What was seen last holds for a while: shaking blurs some pictures."""
        if self._past_s(now_ns) > _HOLDS_S:
            self.in_place = None

    @property
    def is_out(self) -> bool:
        """Whether the camera is out of its place, as far as it is known."""
        return self._is_elsewhere or self._is_off

    def _past_s(self, now_ns: int) -> float:
        return math.inf if self._glanced_ns is None else (now_ns - self._glanced_ns) / 1e9

    def _judge_now(self, plane: FloatArray, share: float, scene: Scene, enter: float) -> None:
        is_elsewhere = share < _CLEARLY * enter and scene.elsewhere(plane) > max(_FOUND, _SURELY * share)
        self._glances.append((share, is_elsewhere))
        needed = _LEAVE if self._is_elsewhere else _ENTER
        self._is_elsewhere = sum(is_elsewhere for _, is_elsewhere in self._glances) >= needed

    def _judge_slowly(self, plane: FloatArray, past_s: float, scene: Scene, enter: float, leave: float) -> None:
        memory = self._memory
        if not memory.take_in(plane, past_s):
            return
        share = scene.in_place(memory.plane)
        if share is not None:
            memory.shares.append(share)
            self._is_off = share < leave if self._is_off else memory.agrees_below(enter)


class _Memory:
    """The picture of the last seconds, and what share of it was in place."""

    def __init__(self) -> None:
        self.plane: FloatArray = np.zeros((0, 0), np.float32)
        self.shares: deque[float] = deque(maxlen=_COMPARISONS)
        self._count = 0
        self._since_s = 0.0

    def take_in(self, plane: FloatArray, past_s: float) -> bool:
        """Whether it is time to compare it: once a second, when it is smooth. The plane is used up."""
        if plane.shape != self.plane.shape:
            self.plane, self._count = np.zeros(plane.shape, np.float32), 0
        self._count += 1
        self._since_s += past_s
        plane -= self.plane
        plane *= np.float32(max(min(_MEMORY, past_s / _MEMORY_S), 1 / self._count))
        self.plane += plane
        if self._count < _SMOOTH or self._since_s < _COMPARE_S:
            return False
        self._since_s = 0.0
        return True

    def agrees_below(self, limit: float) -> bool:
        """Whether the last comparisons all say so."""
        return len(self.shares) == _COMPARISONS and max(self.shares) < limit
