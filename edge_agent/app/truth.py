"""What really was on a simulated belt: the camera's side channel of truth, line by line. Pure."""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CAMERA_FAULTS = {
    "dark": "dark",
    "blurred": "blurred",
    "frozen": "frozen",
    "shaken": "moved",
    "disconnected": "camera_lost",
}
"""What the agent has to say of each fault of a simulated camera."""


@dataclass(frozen=True, slots=True)
class TruePart:
    """A part that crossed the line. Times are CLOCK_MONOTONIC; `entered_ns`: when it came into the picture."""

    number: int
    crossed_ns: int
    entered_ns: int
    found: tuple[str, ...]
    defects: tuple[str, ...]


@dataclass(slots=True)
class TrueFault:
    """Something that was done to the line on purpose; `off_ns` is None while it lasts."""

    kind: str
    on_ns: int
    off_ns: int | None = None


class Belt:
    """How far the belt had run at any moment: it may stop and start again."""

    def __init__(self) -> None:
        self._from_ns: list[int] = []
        self._run_px: list[float] = []
        self._px_per_s: list[float] = []
        self.part_width_px, self.camera_width = 0.0, 0
        self.line = 0.0
        self.direction = "right"

    @property
    def stops(self) -> int:
        """How often it stood still."""
        return sum(speed == 0 for speed in self._px_per_s)

    @property
    def beyond_px(self) -> float:
        """How far past the line a part is when it has left the picture."""
        share = self.line if self.direction == "left" else 1 - self.line
        return share * self.camera_width + self.part_width_px / 2

    def add(self, told: Mapping[str, Any]) -> None:
        """From now on it runs so."""
        now_ns = int(told["mono_ns"])
        run_px = self.run_px(now_ns)
        self.part_width_px, self.camera_width = float(told["part_width_px"]), int(told["camera_width"])
        self.line, self.direction = float(told["line"]), str(told["direction"])
        self._px_per_s.append(float(told["px_per_s"]))
        self._from_ns.append(now_ns)
        self._run_px.append(run_px)

    def run_px(self, at_ns: int) -> float:
        """How far it had run, in pixels of the picture, since it was first told of."""
        if not self._from_ns:
            return 0.0
        index = max(0, bisect_right(self._from_ns, at_ns) - 1)
        return self._run_px[index] + (at_ns - self._from_ns[index]) / 1e9 * self._px_per_s[index]


@dataclass(slots=True)
class Truth:
    """All that one camera's side channel has told so far. `unread`: lines that could not be read."""

    belt: Belt = field(default_factory=Belt)
    parts: dict[int, TruePart] = field(default_factory=dict)
    entered: dict[int, TruePart] = field(default_factory=dict)
    faults: list[TrueFault] = field(default_factory=list)
    began_ns: int | None = None
    ended_ns: int | None = None
    unread: int = 0

    def add(self, line: str) -> None:
        """One more line."""
        try:
            told = json.loads(line)
            self._take(told, int(told["mono_ns"]))
        except (ValueError, TypeError, KeyError):
            self.unread += 1

    def _take(self, told: Mapping[str, Any], at_ns: int) -> None:
        kind = told["kind"]
        if kind == "part":
            self.parts[int(told["part"])] = _part(told, at_ns, int(told["entered_ns"]))
        elif kind == "entered":
            self.entered[int(told["part"])] = _part(told, at_ns, at_ns)
        elif kind == "belt":
            self.began_ns = self.began_ns or at_ns
            self.belt.add(told)
        elif kind == "fault":
            self._take_fault(str(told["fault"]), at_ns, is_on=bool(told["on"]))
        elif kind == "end":
            self.ended_ns = at_ns
        else:
            self.unread += 1

    def _take_fault(self, fault: str, at_ns: int, *, is_on: bool) -> None:
        if is_on:
            self.faults.append(TrueFault(fault, at_ns))
            return
        for one in self.faults:
            if one.kind == fault and one.off_ns is None:
                one.off_ns = at_ns


def _part(told: Mapping[str, Any], crossed_ns: int, entered_ns: int) -> TruePart:
    return TruePart(int(told["part"]), crossed_ns, entered_ns, tuple(told["found"]), tuple(told["defects"]))
