"""The deadline timer: outside the pipeline thread, so that a hanging engine cannot silence it."""

import threading
import time
from collections.abc import Mapping

import structlog

from edge_agent.core.parts import Decision, Ledger, Part
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.health import Health
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.summons import Summons

log = structlog.get_logger()
ROUND_S = 0.02


class Timer:
    """Closes parts at their deadline and lets the herald do its round, about 50 times a second.

    `summons`: those of the cameras whose parts are called for from outside.
    """

    def __init__(
        self, ledger: Ledger, desk: Desk, herald: Herald, health: Health, summons: Mapping[str, Summons] | None = None
    ) -> None:
        self._ledger, self._desk, self._herald, self._health = ledger, desk, herald, health
        self._summons = summons or {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timer", daemon=True)
        self.failed: BaseException | None = None
        self.last_tick_ns = time.monotonic_ns()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause_s()):
                self.last_tick_ns = time.monotonic_ns()
                for part in self._ledger.expire(self.last_tick_ns):
                    self._expired(part)
                self._herald.tick(*self._health.state())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error

    def _expired(self, part: Part) -> None:
        summons = self._summons.get(part.camera)
        code = summons.give_up(part) if summons else None
        if code is None:
            self._desk.overdue(part)
        else:
            self._desk.judged(part, Decision.unknown(code))

    def _pause_s(self) -> float:
        """Until the next deadline, but no longer than a round: a part may be opened meanwhile."""
        deadline_ns = self._ledger.next_deadline_ns()
        if deadline_ns is None:
            return ROUND_S
        return min(ROUND_S, max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
