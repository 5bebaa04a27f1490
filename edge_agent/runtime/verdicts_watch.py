"""Tells what becomes of verdicts: acks that are missing or late, arms that do something else, too many of one word."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge_agent.runtime.acks import AckFinding, Acks
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.streaks import Streak, Streaks

FIRST_PAUSE_S = 5.0  # after an event on acks; doubled while there is something to tell each time,
BACK_S = 60.0  # up to this where acks go missing or come back, which may happen with every part,
LONGEST_PAUSE_S = 300.0  # and up to this while that stays as it is: an arm that sends no acks may do so for days
QUIET_S = 30.0  # a streak that begins sooner after the last one was told is not told until then


@dataclass(slots=True)
class _Pace:
    """When the next events on a camera's acks may be told."""

    told_s: float = -math.inf
    pause_s: float = 0.0
    is_missing: bool = False  # as it was told

    def is_due(self, now_s: float, *, is_missing: bool) -> bool:
        pause_s = self.pause_s if is_missing == self.is_missing else min(self.pause_s, BACK_S)
        return now_s >= self.told_s + pause_s

    def told(self, now_s: float) -> None:
        self.told_s, self.pause_s = now_s, min(max(FIRST_PAUSE_S, 2 * self.pause_s), LONGEST_PAUSE_S)


@dataclass(slots=True)
class _Told:
    """What was told of a camera's streaks."""

    times: int = 0
    goes_on: bool = False
    at_s: float = -math.inf


class VerdictsWatch:
    """`report` belongs to one thread. `acks` is None where no arm is expected to send any."""

    def __init__(self, cameras: Iterable[str], acks: Acks | None, streaks: Streaks, reporter: Reporter) -> None:
        self._acks, self._streaks, self._reporter = acks, streaks, reporter
        self._paces = {camera: _Pace() for camera in cameras}
        self._told = {camera: _Told() for camera in self._paces}

    def report(self, now_s: float, *, is_last: bool = False) -> None:
        """An event for everything that is new. `now_s` is monotonic."""
        for streak in self._streaks.last():
            self._report_streak(streak, self._told[streak.camera], now_s, is_last=is_last)
        if self._acks is None:
            return
        self._acks.tick(int(now_s * 1e9))
        missing_now = self._acks.missing_now
        for camera, pace in self._paces.items():
            is_missing = camera in missing_now
            if is_last or pace.is_due(now_s, is_missing=is_missing):
                self._report_acks(self._acks, camera, pace, now_s, is_missing=is_missing)

    def _report_acks(self, acks: Acks, camera: str, pace: _Pace, now_s: float, *, is_missing: bool) -> None:
        findings = acks.take(camera)
        for finding in findings:
            self._report_finding(finding)
        is_back = pace.is_missing and not is_missing
        if is_back:
            text = f"the verdicts of camera {camera} are acknowledged again"
            self._reporter.event("acks_back", "info", text, {"camera": camera})
        pace.is_missing = is_missing
        if findings or is_back:
            pace.told(now_s)
        else:
            pace.pause_s = 0.0

    def _report_finding(self, finding: AckFinding) -> None:
        data, facts, report = finding.data(), finding.facts, self._reporter
        verdicts = f"{finding.count} verdicts of camera {finding.camera}"
        if finding.code == "acks_missing":
            report.event("acks_missing", "alarm", f"{verdicts} were not acknowledged in time", data)
        elif finding.code == "acks_late":
            report.event("acks_late", "warning", f"{verdicts} were acknowledged, but too late", data)
        elif finding.code == "verdicts_not_done":
            report.event("verdicts_not_done", "alarm", f"an arm did nothing about {verdicts} ({facts['why']})", data)
        else:
            text = f"{verdicts} said {facts['verdict']}, and an arm did {facts['action']}"
            report.event("verdicts_contradicted", "alarm", text, data)

    def _report_streak(self, streak: Streak, told: _Told, now_s: float, *, is_last: bool) -> None:
        is_quiet = now_s < told.at_s + QUIET_S
        if streak.times > told.times and is_quiet and not streak.is_over_limit:
            told.times = streak.times  # it came and went: the next one's `times` counts it
        if streak.times > told.times and (now_s >= told.at_s + QUIET_S or is_last):
            told.times, told.goes_on, told.at_s = streak.times, True, now_s
            text = f"{streak.count} verdicts of camera {streak.camera} in a row are {streak.verdict}"
            if streak.verdict == "unknown":
                self._reporter.event("unknown_in_row", "alarm", text, streak.data())
            else:
                self._reporter.event("reject_in_row", "alarm", text, streak.data())
        if told.goes_on and not streak.is_over_limit:
            told.goes_on = False
            text = f"the {streak.verdict}s in a row of camera {streak.camera} have ended after {streak.count}"
            data: dict[str, Any] = {"camera": streak.camera, "count": streak.count, "verdict": streak.verdict}
            self._reporter.event("verdicts_normal", "info", text, data)
