"""A camera's health beside the pipeline: looks at each frame before the engine does, and tells what to report."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.core.datatypes import Frame
from edge_agent.core.eyesight import Look
from edge_agent.core.health_judge import Finding, HealthJudge, Limits
from edge_agent.wire import messages as wire

QUIET_S = 30.0
"""A fault that comes again sooner than this after its last report is not reported anew until then."""


@dataclass(frozen=True, slots=True)
class News:
    """What to tell about a camera: findings, all together; none means that it is well again."""

    message: str
    data: dict[str, Any]
    is_well: bool


class CameraWatch:
    """`examine` belongs to the pipeline, `news` to the main thread; all else may be read by any.

    Attributes:
        times: how often it became unhealthy.
    """

    def __init__(self, camera: str, limits: Limits | None, *, quiet_s: float = QUIET_S) -> None:
        self._camera, self._quiet_s = camera, quiet_s
        self._judge = HealthJudge(limits) if limits else None
        self.times = 0
        self._since_ns = self._until_ns = 0
        self._told: frozenset[str] = frozenset()
        self._told_s: dict[str, float] = {}  # when each fault was told last

    def set_limits(self, limits: Limits | None) -> None:
        """From the next frame on. What was found so far stays until frames say otherwise."""
        judge = self._judge
        if judge is not None and limits is not None:
            judge.limits = limits
            return
        self._judge = HealthJudge(limits) if limits else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The faults that the camera has now; none where nobody looks."""
        judge = self._judge
        return judge.findings if judge else ()

    def measure(self, frame: Frame) -> Look | None:
        """What a frame that may be examined next looks like; None where nobody looks. Any thread, between two frames.

        Raises:
            BadFrameError: what the camera gave is no picture.
        """
        judge = self._judge
        return judge.measure(frame.image, frame.captured_ns) if judge else None

    def examine(self, frame: Frame, look: Look | None = None) -> bool:
        """Whether a verdict may stand on this frame; `look` is what it looks like, where it has been measured.

        Raises:
            BadFrameError: what the camera gave is no picture.
        """
        judge = self._judge
        if judge is None:
            return True
        was_unhealthy = bool(judge.findings)
        is_fit = judge.examine(frame.image, frame.seq, frame.captured_ns, look)
        if was_unhealthy:
            self._until_ns = frame.captured_ns
        if judge.findings and not was_unhealthy:
            self.times += 1
            self._since_ns = frame.captured_ns
        return is_fit

    def news(self, now_s: float) -> Iterator[News]:
        """What is to be told at that monotonic time: each fault of an outbreak once, and its end.

        The same fault is told once in half a minute.
        """
        findings = self.findings
        if not findings:
            if self._told:
                self._told = frozenset()
                lasted_s = max(0.0, (self._until_ns - self._since_ns) / 1e9)
                data = {"camera": self._camera, "lasted_s": round(lasted_s, 1), "times": self.times}
                end = "sees well again" if self._judge else "is not watched any more"
                yield News(f"camera {self._camera} {end}", data, is_well=True)
            return
        faults = {finding.fault for finding in findings}
        if all(self._is_old(fault, now_s) for fault in faults - self._told):
            return
        self._told |= faults
        self._told_s.update(dict.fromkeys(faults, now_s))
        yield News(f"camera {self._camera} does not see well: {_in_words(findings)}", self._facts(findings), False)

    def picture(self) -> wire.PictureHealth | None:
        """What the newest frame looks like; None where nobody looks, or none came."""
        judge = self._judge
        look = judge.look if judge else None
        if judge is None or look is None:
            return None
        return wire.PictureHealth(
            brightness=look.brightness,
            clipped=look.clipped,
            structure=look.structure,
            sharpness=look.sharpness,
            in_place=judge.in_place,
        )

    def _is_old(self, fault: str, now_s: float) -> bool:
        return now_s - self._told_s.get(fault, -math.inf) < self._quiet_s

    def _facts(self, findings: tuple[Finding, ...]) -> dict[str, Any]:
        faults = ", ".join(finding.fault for finding in findings)
        data: dict[str, Any] = {"camera": self._camera, "faults": faults, "times": self.times}
        for finding in findings[:6]:  # an event has room for sixteen facts
            data[finding.measure] = finding.value
            data[f"{finding.measure}_limit"] = finding.limit
        return data


def _in_words(findings: tuple[Finding, ...]) -> str:
    return "; ".join(f"{f.fault} ({f.measure} {f.value}, limit {f.limit})" for f in findings)
