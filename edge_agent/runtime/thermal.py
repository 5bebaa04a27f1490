"""What a board that is too hot, or held back for another reason, does without: one thing after the other, and back again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent.runtime.health import Vitals
from edge_agent.runtime.reporter import Reporter

STEP_S = 10.0  # the heat of what was shed is still there
CALM_S, CALM_MOST_S = 60.0, 3600.0
RELAPSE_S = 600.0  # hot again so soon after something was taken up: that is what heats the board
_MILD = ("soft_temperature_limit",)  # a Raspberry Pi 3B+ has it from 60 °C on, all day

WORDS: Mapping[str, tuple[str, str]] = {
    "evidence": ("no pictures of rejected parts are kept", "pictures of rejected parts are kept again"),
    "build": ("the build of a TensorRT engine stands still", "the build of a TensorRT engine goes on"),
    "frames": ("the engine looks at fewer frames of cameras with a line", "the engine looks at all frames again"),
}
"""What is shed, and what it means, in words for people: while it is, and when it is taken up again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When the board counts as hot: from `throttle_c` on, until it is `hysteresis_c` below; and while it is throttled."""

    throttle_c: float
    hysteresis_c: float


class ThermalWatch:
    """While the board is hot one thing more is shed every `STEP_S`, and told by an event. See `Watch`.

    After `CALM_S` of calm the last one is taken up again, and so on. Where that makes the board hot again, it takes
    twice as long the next time.

    Attributes:
        shed: what is shed now, in the order in which it was. Any thread may read it.
    """

    def __init__(
        self,
        limits: Limits,
        switches: Mapping[str, Callable[[bool], None]],
        read_vitals: Callable[[], Vitals],
        reporter: Reporter,
    ) -> None:
        """`switches`, in the order in which they are to be shed, are told True when they are, and False when no more."""
        self.shed: tuple[str, ...] = ()
        self._limits, self._switches = limits, switches
        self._read_vitals, self._reporter = read_vitals, reporter
        self._stepped_s = self._hot_s = self._restored_s = -math.inf
        self._calm_s = CALM_S

    def report(self, now_s: float, *, is_last: bool = False) -> None:  # noqa: ARG002 - nothing is left to tell
        """See `Watch`."""
        vitals = self._read_vitals()
        if _is_held_back(vitals) or _celsius(vitals) >= self._limits.throttle_c:
            self._hot_s = now_s
            if len(self.shed) < len(self._switches) and now_s - self._stepped_s >= STEP_S:
                self._shed_next(vitals, now_s)
        elif _celsius(vitals) > self._limits.throttle_c - self._limits.hysteresis_c:
            self._hot_s = now_s
        elif self.shed and now_s - max(self._hot_s, self._stepped_s) >= self._calm_s:
            self._restore_last(vitals, now_s)

    def _shed_next(self, vitals: Vitals, now_s: float) -> None:
        if now_s - self._restored_s < RELAPSE_S:
            self._calm_s = min(2 * self._calm_s, CALM_MOST_S)
        elif not self.shed:
            self._calm_s = CALM_S
        what = list(self._switches)[len(self.shed)]
        self._switches[what](True)
        self.shed += (what,)
        self._stepped_s, self._restored_s = now_s, -math.inf
        text = f"{_heat(vitals)}: {WORDS[what][0]}"
        self._reporter.event("load_shed", "warning", text, _facts(what, vitals))

    def _restore_last(self, vitals: Vitals, now_s: float) -> None:
        *left, what = self.shed
        self._switches[what](False)
        self.shed = tuple(left)
        self._stepped_s = self._restored_s = now_s
        text = f"{_heat(vitals)}: {WORDS[what][1]}"
        self._reporter.event("load_restored", "info", text, _facts(what, vitals))


def _heat(vitals: Vitals) -> str:
    """How hot the board is, for a person."""
    celsius, flags = vitals.temperature_c, ", ".join(vitals.throttled or ())
    heat = "of unknown temperature" if celsius is None else f"at {celsius:.1f} °C"
    return f"the board is {heat}{f' and held back ({flags})' if _is_held_back(vitals) else ''}"


def _facts(what: str, vitals: Vitals) -> dict[str, str | float | None]:
    flags = ", ".join(vitals.throttled or ()) or None
    return {"what": what, "temperature_c": vitals.temperature_c, "throttled": flags}


def _is_held_back(vitals: Vitals) -> bool:
    now = [flag for flag in vitals.throttled or () if not flag.endswith("_since_boot")]
    return any(flag not in _MILD for flag in now)


def _celsius(vitals: Vitals) -> float:
    """What is unknown is not hot."""
    return -math.inf if vitals.temperature_c is None else vitals.temperature_c
