"""When the outputs are on: a pulse for each rejected part, held on while the agent is lost, a stop until it is reset.

Time is an argument. A pulse that would begin after the end of its verdict's validity is dropped, never late.
"""

import heapq
import math
from dataclasses import dataclass, replace
from itertools import count

import structlog

from edge_agent.actuator.judge import Alarm, Finding, Ruling
from edge_agent.actuator.outputs import Line, Output

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done in the end, and when (the arm's monotonic clock)."""

    done: Finding
    at_ms: float


class Pulses:
    """Not for several threads at once: its owner holds a lock. `work` never waits."""

    def __init__(self, output: Output, delay_ms: float, pulse_ms: float) -> None:
        self._output, self._delay_ms, self._pulse_ms = output, delay_ms, pulse_ms
        self._due: list[tuple[float, int, Ruling]] = []
        self._order = count()
        self._on_until_ms = -math.inf
        self._held = False  # reject while the agent is lost
        self._waits = False  # stop until the first heartbeat
        self._shown: dict[Line, bool] = {"reject": False, "stop": False}
        self._failing: set[Line] = set()
        self.stopped = False  # until the reset

    def take(self, finding: Finding, now_ms: float) -> list[Outcome]:
        """Begins what is to be done; what is done, or was dropped."""
        if isinstance(finding, Ruling) and finding.action == "reject":
            heapq.heappush(self._due, (finding.received_ms + self._delay_ms, next(self._order), finding))
            return self.work(now_ms)
        if isinstance(finding, Alarm):
            self._hold(finding)
        elif finding.action == "stop":
            self.stopped = True
        self._show(now_ms)
        return [Outcome(self._honest(finding), now_ms)]

    def work(self, now_ms: float) -> list[Outcome]:
        """Begins and ends the pulses that are due."""
        outcomes = []
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, ruling = heapq.heappop(self._due)
            if now_ms >= self._last_ms(due_ms, ruling):
                outcomes.append(Outcome(replace(ruling, action="none", why="late_pulse"), now_ms))
                continue
            self._on_until_ms = now_ms + self._pulse_ms
            self._show(now_ms)
            outcomes.append(Outcome(self._honest(ruling), now_ms))
        self._show(now_ms)
        return outcomes

    def next_ms(self) -> float:
        """When there is something to do again; infinity where nothing is, or only what failed before."""
        is_ending = self._shown["reject"] and not self._held and "reject" not in self._failing
        ends_ms = self._on_until_ms if is_ending else math.inf
        return min(ends_ms, self._due[0][0] if self._due else math.inf)

    def reset(self, now_ms: float) -> None:
        """Takes back the stop."""
        self.stopped = False
        self._show(now_ms)

    def close(self, now_ms: float) -> list[Outcome]:
        """Pulses that have not begun are dropped; reject is switched off, stop stays as it is; the outputs are let go."""
        dropped = [
            Outcome(replace(ruling, action="none", why="stopping"), now_ms) for _, _, ruling in sorted(self._due)
        ]
        self._due.clear()
        self._held, self._on_until_ms = False, -math.inf
        self._show(now_ms)  # many chips keep what a line was when it is let go
        self._output.close()
        return dropped

    def _hold(self, alarm: Alarm) -> None:
        """Agent loss: reject everything, or stop; until the agent is back, or (stop) until the reset."""
        if alarm.code == "agent_back":
            self._held = self._waits = False
        elif alarm.action == "reject":
            self._held = True
        elif alarm.action == "stop" and alarm.why == "start":
            self._waits = True
        elif alarm.action == "stop":
            self.stopped = True

    def _last_ms(self, due_ms: float, ruling: Ruling) -> float:
        """From when on its pulse is too late: the part is not valid, or not there, any more."""
        if ruling.remaining_ms is None:  # of a gap nobody knows; when it should have ended, it would hit another part
            return due_ms + self._pulse_ms
        return ruling.received_ms + ruling.remaining_ms

    def _honest(self, finding: Finding) -> Finding:
        """What failed was not done."""
        return replace(finding, action="none", why="output_failed") if finding.action in self._failing else finding

    def _show(self, now_ms: float) -> None:
        wanted: dict[Line, bool] = {
            "reject": self._held or now_ms < self._on_until_ms,
            "stop": self.stopped or self._waits,
        }
        for line, on in wanted.items():
            if on == self._shown[line]:
                self._failing.discard(line)
            else:
                self._switch(line, on=on)

    def _switch(self, line: Line, *, on: bool) -> None:
        """Each line by itself: one that fails keeps no other from being switched."""
        try:
            self._output.set(line, on=on)
        except OSError as error:  # tried again at the next `work`
            if line not in self._failing:
                log.error("arm_output_failed", line=line, on=on, reason=str(error))  # noqa: TRY400 - no bug of ours
            self._failing.add(line)
        else:
            self._shown[line] = on
            self._failing.discard(line)
