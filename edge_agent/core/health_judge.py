"""Judges a camera's eyesight: is this frame fit to be judged, and is the camera well? Pure; time is an argument."""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edge_agent.core.datatypes import Image
from edge_agent.core.eyesight import Look, look_at
from edge_agent.core.place import Place
from edge_agent.core.scene import Scene

Fault = Literal["wrong_size", "dark", "overexposed", "covered", "blurred", "frozen", "moved", "wrong_rate"]

_FAULTS: tuple[Fault, ...] = get_args(Fault)
LEAST_FRAMES = 3
"""A fault is not declared, and not over, before so many frames say so, however slow the camera is."""

_RATE_S = 3.0  # measured over many frames, it says nothing of a single one
_STRUCTURE_S = 0.1  # between two looks at the structure
_INTERVALS = 64
_FEWEST_INTERVALS = 12
_COUNT_EVERY = 8  # frames: counting is slow beside all else
_SATURATED = 0.99  # of the picture black or clipped: such pictures are alike, and no sign of a frozen camera


@dataclass(frozen=True, slots=True)
class Bound:
    """What is beyond `enter` is bad, until it is back beyond `leave`. NaN: there is none."""

    enter: float
    leave: float


NO_BOUND = Bound(float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a camera must keep to. The bounds of brightness, structure, sharpness and place are lower ones.

    Attributes:
        frozen_s: the same picture for longer is a frozen camera; 0: never mind.
        size: (width, height) in pixels; None: any.
        fps: from, to; None: any.
        scene: what it must see.
        for_s: bad for so long makes the camera unhealthy.
        clear_s: good for so long makes it healthy again.
    """

    brightness: Bound = NO_BOUND
    clipped: Bound = NO_BOUND
    structure: Bound = NO_BOUND
    sharpness: Bound = NO_BOUND
    in_place: Bound = NO_BOUND
    frozen_s: float = 0.0
    size: tuple[int, int] | None = None
    fps: tuple[float, float] | None = None
    scene: Scene | None = None
    for_s: float = 1.0
    clear_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of the camera: what was measured on its last bad frame, and the limit."""

    fault: Fault
    measure: str
    value: float | str
    limit: float | str


@dataclass(frozen=True, slots=True)
class Sign:
    """What one frame says about one fault."""

    is_bad: bool
    measure: str = ""
    value: float | str = ""
    limit: float | str = ""


_GOOD = Sign(is_bad=False)


class FaultWatch:
    """One fault of one camera: bad frames make it unhealthy after a while, good ones well again."""

    def __init__(self) -> None:
        self.is_bad = self.is_unhealthy = False
        self.worst: Sign | None = None
        self._turned_ns: int | None = None  # when frames began to say the other than `is_unhealthy`
        self._frames = 0

    def update(self, sign: Sign, now_ns: int, for_s: float, clear_s: float) -> None:
        """One more frame."""
        self.is_bad = sign.is_bad
        if sign.is_bad:
            self.worst = sign
        if sign.is_bad == self.is_unhealthy:
            self._turned_ns = None
            return
        if self._turned_ns is None:
            self._turned_ns, self._frames = now_ns, 0
        self._frames += 1
        needed_s = for_s if sign.is_bad else clear_s
        if self._frames >= LEAST_FRAMES and now_ns - self._turned_ns >= needed_s * 1e9:
            self.is_unhealthy, self._turned_ns = sign.is_bad, None

    def skip(self) -> None:
        """This frame cannot tell: what was found stays, what was on its way begins anew."""
        self.is_bad, self._turned_ns = False, None


class HealthJudge:
    """Looks at every frame of one camera. `limits` may be replaced between two frames.

    Attributes:
        look: what the last frame looked like.
        fps: of the camera, by its own count; None: unknown.
        in_place: the share of the scene that is where it was; None: unknown.
        findings: the faults that the camera has now.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.look: Look | None = None
        self.fps: float | None = None
        self.in_place: float | None = None
        self.findings: tuple[Finding, ...] = ()
        self._watches: dict[Fault, FaultWatch] = {fault: FaultWatch() for fault in _FAULTS}
        self._same_since_ns = self._uncounted = self._structured_ns = 0
        self._place = Place()
        self._last: tuple[int, int] | None = None
        self._intervals: deque[tuple[int, int]] = deque(maxlen=_INTERVALS)

    def measure(self, image: Image, now_ns: int) -> Look:
        """What a frame that may come next, captured then, looks like. Changes nothing: any thread, between two frames."""
        return look_at(image, self._recent_look(now_ns), focus=not math.isnan(self.limits.sharpness.enter))

    def examine(self, image: Image, seq: int, now_ns: int, look: Look | None = None) -> bool:
        """Whether a verdict may stand on this frame: it is good, and the camera is well.

        Args:
            image: `(H, W, 3) uint8`; one without pixels is fit, for whoever uses it will say what is wrong.
            seq: the camera's own number: gaps are frames that it made and nobody looked at.
            now_ns: when it was captured.
            look: what it looks like, where it has been measured.
        """
        if image.size == 0:
            return True
        look = look or self.measure(image, now_ns)
        if self._recent_look(now_ns) is None:
            self._structured_ns = now_ns
        if self.look is None or not look.same_as(self.look):
            self._same_since_ns = now_ns
        self.look = look
        self._count(seq, now_ns)
        for fault, sign in self._signs(look, image, now_ns).items():
            if sign is None:
                self._watches[fault].skip()
            else:
                self._watches[fault].update(sign, now_ns, self._for_s(fault), self.limits.clear_s)
        self.findings = tuple(
            Finding(fault, watch.worst.measure, watch.worst.value, watch.worst.limit)
            for fault, watch in self._watches.items()
            if watch.is_unhealthy and watch.worst
        )
        return not self.findings and not any(
            watch.is_bad for fault, watch in self._watches.items() if fault != "wrong_rate"
        )

    def _for_s(self, fault: Fault) -> float:
        """How long that fault must last. A frozen picture has lasted when it is bad."""
        if fault == "frozen":
            return 0.0
        return max(self.limits.for_s, _RATE_S) if fault == "wrong_rate" else self.limits.for_s

    def _recent_look(self, now_ns: int) -> Look | None:
        """The last one, where its structure is new enough: what covers a camera stays, and is seen soon enough."""
        if self.look is not None and 0 <= now_ns - self._structured_ns < _STRUCTURE_S * 1e9:
            return self.look
        return None

    def _signs(self, look: Look, image: Image, now_ns: int) -> dict[Fault, Sign | None]:
        """What this frame says about each fault; None: it cannot tell, because another fault hides it.

        No watch of a fault that is not looked for stays bad: limits may have changed.
        """
        limits = self.limits
        signs: dict[Fault, Sign | None] = dict.fromkeys(_FAULTS)
        signs["wrong_rate"] = self._rate_sign()
        signs["wrong_size"] = self._size_sign(look.size)
        signs["dark"] = self._below("dark", look.brightness, limits.brightness, "brightness")
        signs["overexposed"] = self._below("overexposed", -look.clipped, _negative(limits.clipped), "clipped")
        if look.black + look.clipped < _SATURATED:
            signs["frozen"] = self._frozen_sign(now_ns)
        if any(sign is not None and sign.is_bad for sign in (signs["dark"], signs["overexposed"])):
            return signs
        signs["covered"] = covered = self._below("covered", look.structure, limits.structure, "structure")
        if covered.is_bad or signs["wrong_size"] is None or signs["wrong_size"].is_bad:
            return signs
        if look.sharpness is not None:
            signs["blurred"] = self._below("blurred", look.sharpness, limits.sharpness, "sharpness")
        is_sharp = signs["blurred"] is None or not signs["blurred"].is_bad
        signs["moved"] = self._moved_sign(image, now_ns, is_sharp=is_sharp)
        return signs

    def _below(self, fault: Fault, value: float, bound: Bound, name: str) -> Sign:
        """Bad from `enter` down, until it is above `leave`; an upper bound comes negated."""
        is_bad = value < (bound.leave if self._watches[fault].is_bad else bound.enter)
        return Sign(is_bad, name, _short(abs(value)), _short(abs(bound.enter))) if is_bad else _GOOD

    def _size_sign(self, size: tuple[int, int]) -> Sign:
        wanted = self.limits.size
        if wanted is None or size == wanted:
            return _GOOD
        return Sign(True, "size", "{}x{}".format(*size), "{}x{}".format(*wanted))

    def _frozen_sign(self, now_ns: int) -> Sign:
        same_s = (now_ns - self._same_since_ns) / 1e9
        is_bad = 0 < self.limits.frozen_s <= same_s
        return Sign(is_bad, "same_s", _short(same_s), self.limits.frozen_s) if is_bad else _GOOD

    def _moved_sign(self, image: Image, now_ns: int, *, is_sharp: bool) -> Sign | None:
        scene, bound = self.limits.scene, self.limits.in_place
        if scene is None or not scene.can_tell:
            self.in_place = None
            return _GOOD
        place = self._place
        if is_sharp:
            place.look(image, scene, now_ns, enter=bound.enter, leave=bound.leave)
        else:
            place.pass_over(now_ns)
        self.in_place = place.in_place
        if place.in_place is None:
            return None
        return Sign(True, "in_place", _short(place.in_place), _short(bound.enter)) if place.is_out else _GOOD

    def _count(self, seq: int, now_ns: int) -> None:
        """The rate over the last frames; without the longest interval, which may be an outage."""
        if self._last is not None and seq > self._last[0] and now_ns > self._last[1]:
            self._intervals.append((now_ns - self._last[1], seq - self._last[0]))
        self._last = (seq, now_ns)
        self._uncounted += 1
        if len(self._intervals) >= _FEWEST_INTERVALS and (self.fps is None or self._uncounted >= _COUNT_EVERY):
            self._uncounted = 0
            longest = max(self._intervals)
            time_ns = sum(interval[0] for interval in self._intervals) - longest[0]
            frames = sum(interval[1] for interval in self._intervals) - longest[1]
            self.fps = 1e9 * frames / time_ns

    def _rate_sign(self) -> Sign | None:
        if self.limits.fps is None:
            return _GOOD
        if self.fps is None:
            return None
        low, high = self.limits.fps
        is_bad = not low <= self.fps <= high
        return Sign(is_bad, "fps", _short(self.fps), f"{low:.4g} to {high:.4g}") if is_bad else _GOOD


def _negative(bound: Bound) -> Bound:
    return replace(bound, enter=-bound.enter, leave=-bound.leave)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
