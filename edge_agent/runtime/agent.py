"""The running agent: started in order, watched by the main thread, stopped in reverse."""

import queue
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog

from edge_agent.core.parts import Decision, Ledger
from edge_agent.runtime.audit import Audit
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.inbound import Inbound
from edge_agent.runtime.link import Link
from edge_agent.runtime.mailbox import Mailbox, Mailroom
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import Scribe
from edge_agent.runtime.sensing import Sensing
from edge_agent.runtime.status_words import STUCK_S
from edge_agent.runtime.systemd import Notifier
from edge_agent.runtime.timer import Timer
from edge_agent.runtime.workshop import Workshop

log = structlog.get_logger()
ROUND_S = 0.2
HEALTH_S = 10.0
LOADING_STEP_S = 30.0  # asked of systemd anew each round while the engine loads,
LOADING_MOST_S = 1800.0  # but not for ever: a build on the device takes minutes
LOADING = ("pipeline", "cameras")
LOOKING_MOST_S = 1.2
GOODBYE_S = 0.5
ATTENDANTS_S = 0.3
Wish = Literal["stop", "reload"]


class Watch(Protocol):
    """Tells what happened, by events. One thread asks it."""

    def report(self, now_s: float, *, is_last: bool = False) -> None:
        """An event for everything that is new. `now_s` is monotonic."""


class Attendant(Protocol):
    """Keeps or shows something on the device, in a thread of its own. The line does not depend on it."""

    def start(self) -> None:
        """Never raises: what it cannot do it says in the log."""

    def stop(self, timeout_s: float) -> bool:
        """Finishes what it has begun, for at most so long. False where it did not end in time."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the agent ends; `reason` is a sentence where something failed."""

    why: Literal["stopped", "finished", "failed"] = "stopped"
    reason: str = ""
    exit_code: int = 0


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
    sensings: Mapping[str, Sensing]
    inbound: Inbound
    audit: Audit
    reporter: Reporter
    workshop: Workshop
    watches: Sequence[Watch]
    attendants: Sequence[Attendant]
    herald: Herald
    health: Health
    timer: Timer
    notifier: Notifier
    read_vitals: Callable[[], Vitals]
    wishes: "queue.SimpleQueue[Wish]"
    ending: Ending = Ending()
    _health_due_s: float = 0.0
    is_ready: bool = False
    _line_connections: int = 0
    _records_connections: int = 0
    _hanging: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Records, connections, the engine, then cameras and sensors. Returns when these are being opened, or on a wish to stop.

        Raises:
            FatalError: the engine could not be opened, or another agent keeps its records where this one would.
        """
        self._read_vitals()
        for attendant in self.attendants:
            attendant.start()
        self.outbox.start()
        self._report_unclean_end()
        self.outbox.note_session(self.scribe.identity.session, lambda: dict(self.desk.last_seq))
        self.audit.start()
        self.line.start()
        self.records.start()
        self.timer.start()
        self.pipeline.start()
        if not self._wait_for_engine():
            return
        if self.pipeline.failed is not None:
            raise self.pipeline.failed
        self.workshop.start()
        for device in self._devices().values():
            device.start()

    def _wait_for_engine(self) -> bool:
        """False where somebody wishes to stop meanwhile. A wish to reload waits until the engine is open."""
        give_up_s = time.monotonic() + LOADING_MOST_S
        wishes: list[Wish] = []
        self._report()
        while not self.pipeline.opened.wait(ROUND_S) and "stop" not in wishes:
            while not self.wishes.empty():
                wishes.append(self.wishes.get())
            self._raise_failures()
            if time.monotonic() < give_up_s and not self._stuck(LOADING):
                self.notifier.watchdog()
                self.notifier.extend_timeout(LOADING_STEP_S)
            if time.monotonic() >= self._health_due_s:
                self._read_vitals()  # a build heats the board for minutes
            self._report()
        for wish in wishes:
            self.wishes.put(wish)
        return "stop" not in wishes

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
            self._report()
            self._raise_failures()
            self._notify()
            if self.line.connections != self._line_connections:
                self._line_connections = self.line.connections
                self.records.hurry()
            if self.records.connections != self._records_connections:
                self._records_connections = self.records.connections
                self._health_due_s = 0.0
            if time.monotonic() >= self._health_due_s:
                self._publish_health()
            if self._all_is_judged():
                self.ending = Ending("finished")
                return "finished"

    def fail(self, reason: str, exit_code: int) -> None:
        """Tells subscribers why the agent is about to end."""
        self.health.ending, self.ending = "failed", Ending("failed", reason, exit_code)
        self.reporter.event("failed", "alarm", reason)

    def stop(self) -> bool:
        """Within five seconds: open parts get `unknown(stopping)`, `state` becomes `offline`, records go out.

        False where a thread did not end, because it hangs in a call or has more to do than there is time.
        """
        self.notifier.stopping()
        self.herald.winding_down = True
        for step in (self._stop_looking, self._close_parts, self._say_goodbye):
            try:
                step()
            except Exception:
                log.exception("stop_step_failed")
        if self.line.connected:
            self.records.hurry()
        lost = self.outbox.stop(1.2, wait_for_link=self.line.connected)
        self.line.stop(0.7)
        self.records.stop(0.7)
        self.audit.stop(0.3)
        self.herald.log_undelivered()
        say = log.warning if lost else log.info
        left = self.outbox.waiting() - lost
        say("stopped", parts=self.ledger.closed, verdicts=self.desk.verdicts, records_left=left, records_lost=lost)
        return self._dismiss_attendants() and not self._hanging

    def _dismiss_attendants(self) -> bool:
        """One that hangs leaves the others their share of the time. False where one did not end."""
        until_s, all_ended = time.monotonic() + ATTENDANTS_S, True
        for left in range(len(self.attendants), 0, -1):
            share_s = max(0.0, until_s - time.monotonic()) / left
            all_ended &= self.attendants[left - 1].stop(share_s)
        return all_ended

    def _stop_looking(self) -> None:
        """Ends cameras and engine together; those that do not end in time are left behind."""
        until_s = time.monotonic() + LOOKING_MOST_S
        self.pipeline.ask_to_stop()
        self.workshop.ask_to_stop()
        devices = self._devices()
        for device in devices.values():
            device.ask_to_stop()
        self.mailroom.close()
        if not self.pipeline.stop(until_s - time.monotonic()):
            self._hanging.append("engine")
        if not self.workshop.stop(max(0.0, until_s - time.monotonic())):
            self._hanging.append("workshop")
        for name, device in devices.items():
            if not device.stop(max(0.0, until_s - time.monotonic())):
                self._hanging.append(name)
        if self._hanging:
            log.warning("stuck_at_stop", threads=self._hanging)

    def _devices(self) -> dict[str, Capture | Sensing]:
        """Those with threads of their own, by name."""
        return {**self.captures, **{f"trigger {name}": sensing for name, sensing in self.sensings.items()}}

    def _close_parts(self) -> None:
        for part in self.ledger.shut():
            self.desk.judged(part, Decision.unknown("stopping"))
        self.timer.stop()
        self.desk.settle_overdue(everything=True)

    def _say_goodbye(self) -> None:
        self.health.stopping = True
        self._report(is_last=True)
        self.herald.report_unsent()
        until_s = time.monotonic() + GOODBYE_S
        while self.line.connected and not self.herald.announce(*self.health.state()):
            if time.monotonic() > until_s:
                self.line.abort("the broker did not take the last state: the will has to tell it")
            time.sleep(0.02)
        self.inbound.close()

    def _report(self, *, is_last: bool = False) -> None:
        now_s = time.monotonic()
        self._report_unclean_end()
        for name, capture in self.captures.items():
            self.reporter.report_camera(capture, self.health.watches.get(name), now_s)
        for watch in self.watches:
            watch.report(now_s, is_last=is_last)

    def _report_unclean_end(self) -> None:
        """Once the disk is there: what the last session left, if it was killed or lost its power."""
        mark = self.outbox.take_unclean()
        if mark is None:
            return
        for camera, last_seq in mark.last_seq.items():
            text = f"the agent ended without a stop; the last verdict of camera {camera} that is known of is {last_seq}"
            data = {"camera": camera, "session": mark.session, "last_seq": last_seq, "written_at": mark.written_at}
            self.reporter.event("unclean_end", "alarm", text, data)

    def _raise_failures(self) -> None:
        failures = [self.pipeline.failed, self.timer.failed, self.outbox.failed, self.line.failed, self.records.failed]
        for failure in (*failures, *(device.failed for device in self._devices().values())):
            if failure is not None:
                raise failure

    def _notify(self) -> None:
        state, _ = self.health.state()
        if not self.is_ready and state != "starting":
            self.is_ready = True
            self.notifier.ready()
            log.info("ready", state=state)
        if not self._stuck():
            self.notifier.watchdog()

    def _stuck(self, exempt: Collection[str] = ()) -> list[str]:
        """The threads that gave no sign of life: one of them hangs in a call, and only a restart helps."""
        oldest_ns = time.monotonic_ns() - int(STUCK_S * 1e9)
        return [name for name, tick_ns in self.ticks(exempt).items() if tick_ns < oldest_ns]

    def ticks(self, exempt: Collection[str] = ()) -> dict[str, int]:
        """When each thread last gave a sign of life, monotonic.

        A link that is connecting is none of them: a resolver may take its time, and an absent broker is no reason.
        """
        ticks = {"pipeline": self.pipeline.last_tick_ns, "timer": self.timer.last_tick_ns}
        ticks["outbox"] = self.outbox.last_tick_ns
        ticks |= {name: link.last_tick_ns for name, link in self.health.links.items() if not link.is_connecting}
        for name, capture in self.captures.items():
            if capture.condition != "finished" and "cameras" not in exempt:
                ticks[f"camera {name}"] = capture.last_tick_ns
        if "cameras" not in exempt:
            ticks |= {f"trigger {name}": sensing.last_tick_ns for name, sensing in self.sensings.items()}
        return {name: tick_ns for name, tick_ns in ticks.items() if name not in exempt}

    def _read_vitals(self) -> None:
        self._health_due_s = time.monotonic() + HEALTH_S
        self.health.vitals = self.read_vitals()

    def _publish_health(self) -> None:
        self._read_vitals()
        self.records.send(self.herald.health(self.health.facts()))

    def _all_is_judged(self) -> bool:
        """Every camera was finite and has ended, and no frame or part waits."""
        if any(capture.condition != "finished" for capture in self.captures.values()):
            return False
        is_empty = all(mailbox.is_empty for mailbox in self.mailboxes.values())
        return is_empty and self.ledger.opened == self.ledger.closed and self.pipeline.is_idle
