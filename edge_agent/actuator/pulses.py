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
        self._failing = False
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
            ruling = heapq.heappop(self._due)[2]
            if ruling.remaining_ms is not None and now_ms >= ruling.received_ms + ruling.remaining_ms:
                outcomes.append(Outcome(replace(ruling, action="none", why="late_pulse"), now_ms))
                continue
            self._on_until_ms = now_ms + self._pulse_ms
            self._show(now_ms)
            outcomes.append(Outcome(self._honest(ruling), now_ms))
        self._show(now_ms)
        return outcomes

    def next_ms(self) -> float:
        """When there is something to do again; infinity where nothing is."""
        ends_ms = self._on_until_ms if self._shown["reject"] and not self._held else math.inf
        return min(ends_ms, self._due[0][0] if self._due else math.inf)

    def reset(self, now_ms: float) -> None:
        """Takes back the stop."""
        self.stopped = False
        self._show(now_ms)

    def close(self, now_ms: float) -> list[Outcome]:
        """Pulses that have not begun are dropped; the outputs are let go."""
        dropped = [
            Outcome(replace(ruling, action="none", why="stopping"), now_ms) for _, _, ruling in sorted(self._due)
        ]
        self._due.clear()
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

    def _honest(self, finding: Finding) -> Finding:
        """What failed was not done."""
        return replace(finding, action="none", why="output_failed") if self._failing and _needs(finding) else finding

    def _show(self, now_ms: float) -> None:
        wanted: dict[Line, bool] = {
            "reject": self._held or now_ms < self._on_until_ms,
            "stop": self.stopped or self._waits,
        }
        try:
            for line, on in wanted.items():
                if on != self._shown[line]:
                    self._output.set(line, on=on)
                    self._shown[line] = on
        except OSError as error:  # tried again at the next `work`
            if not self._failing:
                log.error("arm_output_failed", line=line, on=on, reason=str(error))  # noqa: TRY400 - no bug of ours
            self._failing = True
        else:
            self._failing = False


def _needs(finding: Finding) -> bool:
    return finding.action in ("reject", "stop")
