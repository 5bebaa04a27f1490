"""The running agent: started in order, watched by the main thread, stopped in reverse."""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from edge_agent.core.parts import Decision, Ledger
from edge_agent.runtime.capture import CameraBack, CameraLost, Capture
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.link import Link
from edge_agent.runtime.mailbox import Mailbox, Mailroom
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.scribe import Scribe
from edge_agent.runtime.systemd import Notifier
from edge_agent.runtime.timer import Timer

log = structlog.get_logger()
ROUND_S = 0.2
HEALTH_S = 10.0
LOADING_S = 30.0  # asked of systemd anew each round while the engine loads
STUCK_S = 20.0  # a camera driver may block for ten on purpose
Wish = Literal["stop", "reload"]


@dataclass(slots=True)
class Agent:
    """Every part of a running agent. The main thread calls `start`, `wait` and `stop`."""

    scribe: Scribe
    ledger: Ledger
    mailroom: Mailroom
    mailboxes: Mapping[str, Mailbox]
    captures: Mapping[str, Capture]
    pipeline: Pipeline
    line: Link
    records: Link
    outbox: Outbox
    desk: Desk
    herald: Herald
    health: Health
    timer: Timer
    notifier: Notifier
    read_vitals: Callable[[], Vitals]
    wishes: "queue.SimpleQueue[Wish]"
    _health_due_s: float = 0.0
    _ready: bool = False

    def start(self) -> None:
        """Connections, then the engine, then the cameras. Returns when the cameras are being opened.

        Raises:
            FatalError: the engine could not be opened.
        """
        self._read_vitals()
        self.line.start()
        self.records.start()
        self.outbox.start()
        self.timer.start()
        self.pipeline.start()
        while not self.pipeline.opened.wait(ROUND_S):
            self.notifier.watchdog()
            self.notifier.extend_timeout(LOADING_S)
        if self.pipeline.failed is not None:
            raise self.pipeline.failed
        for capture in self.captures.values():
            capture.start()

    def wait(self) -> Literal["stop", "reload", "finished"]:
        """Watches until somebody wishes something, or every finite camera has ended.

        Raises:
            FatalError: something failed that a restart may mend, or an operator must.
        """
        while True:
            try:
                return self.wishes.get(timeout=ROUND_S)
            except queue.Empty:
                pass
            self._report_cameras()
            self._raise_failures()
            self._notify()
            if time.monotonic() >= self._health_due_s:
                self._publish_health()
            if self._all_is_judged():
                return "finished"

    def stop(self) -> None:
        """Within five seconds: open parts get `unknown(stopping)`, `state` becomes `offline`, records go out."""
        self.notifier.stopping()
        self.mailroom.close()
        stuck = [name for name, capture in self.captures.items() if not capture.stop(0.7)]
        if not self.pipeline.stop(0.7):
            stuck.append("engine")
        if stuck:
            log.warning("stuck_at_stop", threads=stuck)
        for part in self.ledger.close_all():
            self.desk.judged(part, Decision.unknown("stopping"))
        self.timer.stop()
        self.health.stopping = True
        self.desk.settle_overdue(everything=True)
        self._report_cameras()
        self.herald.report_unsent()
        self.herald.announce(*self.health.state())
        lost = self.outbox.stop(1.5)
        self.line.stop(0.7)
        self.records.stop(0.7)
        log.info("stopped", parts=self.ledger.closed, verdicts=self.desk.verdicts, records_lost=lost)

    def _report_cameras(self) -> None:
        for capture in self.captures.values():
            while not capture.notices.empty():
                notice = capture.notices.get()
                if isinstance(notice, CameraLost):
                    data = {"camera": notice.camera, "reason": notice.reason}
                    self.herald.event("camera_lost", "alarm", f"camera {notice.camera} is lost: {notice.reason}", data)
                elif isinstance(notice, CameraBack):
                    back = {"camera": notice.camera, "outage_s": round(notice.outage_s, 3)}
                    self.herald.event("camera_back", "info", f"camera {notice.camera} is back", back)

    def _raise_failures(self) -> None:
        failures = [self.pipeline.failed, self.timer.failed, *(capture.failed for capture in self.captures.values())]
        for failure in failures:
            if failure is not None:
                raise failure

    def _notify(self) -> None:
        state, reasons = self.health.state()
        if not self._ready and state != "starting":
            self._ready = True
            self.notifier.ready()
            log.info("ready", state=state)
        if not self._stuck():
            self.notifier.watchdog()
        self.notifier.status(f"{state}{' ' + ', '.join(reasons) if reasons else ''}; {self.ledger.closed} parts")

    def _stuck(self) -> list[str]:
        """The threads that gave no sign of life: one of them hangs in a call, and only a restart helps."""
        finished = {name for name, capture in self.captures.items() if capture.condition == "finished"}
        ticks = {
            "pipeline": self.pipeline.last_tick_ns,
            "timer": self.timer.last_tick_ns,
            "outbox": self.outbox.last_tick_ns,
            "line": self.line.last_tick_ns,
            "records": self.records.last_tick_ns,
            **{name: capture.last_tick_ns for name, capture in self.captures.items() if name not in finished},
        }
        oldest_ns = time.monotonic_ns() - int(STUCK_S * 1e9)
        return [name for name, tick_ns in ticks.items() if tick_ns < oldest_ns]

    def _read_vitals(self) -> None:
        self.health.vitals = self.read_vitals()
        self.scribe.clock = self.health.vitals.clock

    def _publish_health(self) -> None:
        self._health_due_s = time.monotonic() + HEALTH_S
        self._read_vitals()
        self.records.send(self.herald.health(self.health.facts()))

    def _all_is_judged(self) -> bool:
        """Every camera was finite and has ended, and no frame or part waits."""
        if any(capture.condition != "finished" for capture in self.captures.values()):
            return False
        waiting = sum(mailbox.counts.waiting for mailbox in self.mailboxes.values())
        return waiting == 0 and self.ledger.opened == self.ledger.closed and self.pipeline.is_idle
