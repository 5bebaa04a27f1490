"""The process around the judge: the clock, signals, and what is printed.

Three threads. The connection's hears a message and acts on it before it returns; the main one looks at the clock, ends
pulses and notices silence; one prints, so that whoever reads slowly holds up nobody. A lock guards the judge and the
pulses; nothing waits while it is held.
"""

import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Literal

import structlog
from paho.mqtt.client import MQTTMessage

from edge_agent.actuator import report
from edge_agent.actuator.connection import Connection
from edge_agent.actuator.judge import Judge, Letter, Ruling
from edge_agent.actuator.outputs import open_output
from edge_agent.actuator.pulses import Outcome, Pulses
from edge_agent.actuator.settings import ArmSettings
from edge_agent.wire.answers import Ack

log = structlog.get_logger()

TICK_S = 0.05  # how often the clock is looked at; loss of the agent is noticed that much later at most
TOPICS = {"verdict/+": 1, "heartbeat": 0, "state": 1, "birth": 1}  # with the QoS of each

Wish = Literal["stop", "reset", "reopen", "look"]
SIGNALS: dict[signal.Signals, Wish] = {
    signal.SIGTERM: "stop",
    signal.SIGINT: "stop",
    signal.SIGUSR1: "reset",
    signal.SIGHUP: "reopen",
}


class RejectArm:
    """One arm, on the verdicts of one device. `run` returns after SIGTERM or Ctrl-C; SIGUSR1 takes back a stop, SIGHUP connects anew.

    Args:
        settings: the configuration file.
        show: gets a line for each verdict and alarm, as a dictionary; None where nobody wants them.

    Raises:
        ConfigError: the output, the password or a certificate cannot be used.
    """

    def __init__(self, settings: ArmSettings, show: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._settings, self._show = settings, show
        self._topics = settings.device.topics(settings.mqtt.prefix)
        subscriptions = {self._topics.of(topic): qos for topic, qos in TOPICS.items()}
        self._connection = Connection(settings.mqtt, settings.device.id, subscriptions, self._hear)
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards all below, and is never held while something waits
        self._judge = Judge(settings.policy)
        self._pulses = Pulses(open_output(settings.output), settings.output.delay_ms, settings.output.pulse_ms)
        self._counts: Counter[str] = Counter()
        self._is_closed = False

    def run(self) -> None:
        """Connects, and acts on what comes until it is told to stop. The broker may be away, also at the start."""
        for number, wish in SIGNALS.items():
            signal.signal(number, lambda *_, wish=wish: self._wishes.put(wish))
        with self._lock:
            outcomes = [done for alarm in self._judge.begin(now_ms()) for done in self._pulses.take(alarm, now_ms())]
        self._report(outcomes)
        self._connection.start()
        try:
            while (wish := self._next_wish()) != "stop":
                if wish == "reset":
                    self._reset()
                elif wish == "reopen":
                    self._connection.reopen()
                self._look()
        finally:
            self._close()

    def _next_wish(self) -> Wish:
        with self._lock:
            due_s = (self._pulses.next_ms() - now_ms()) / 1000
        try:
            return self._wishes.get(timeout=min(max(due_s, 0), TICK_S))
        except queue.Empty:
            return "look"

    def _reset(self) -> None:
        with self._lock:
            if is_well := not self._judge.is_lost:
                self._pulses.reset(now_ms())
        if is_well:
            log.info("arm_reset")
        else:
            log.warning("arm_reset_refused", reason="the agent is lost: the stop can be taken back once it is well")

    def _look(self) -> None:
        """What time alone brings about."""
        with self._lock:
            at_ms = now_ms()
            outcomes = [done for finding in self._judge.tick(at_ms) for done in self._pulses.take(finding, at_ms)]
            outcomes += self._pulses.work(at_ms)
        self._report(outcomes)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            outcomes = self._pulses.close(now_ms())
        self._report(outcomes)
        self._connection.close()
        summary = report.summary(self._counts, stopped=self._pulses.stopped)
        log.info("arm_stopped", **summary)
        if self._show:
            self._show({"kind": "summary", **summary})

    # ---- in the connection's thread

    def _hear(self, message: MQTTMessage) -> None:
        received_ms = now_ms()  # before all else: age is counted from here
        try:
            name, _, camera = message.topic.removeprefix(self._topics.of("")).partition("/")
            self._act(Letter(name, camera or None, bytes(message.payload), message.retain, received_ms))
        except Exception:
            log.exception("arm_message_failed")
            self._count("failed")

    def _act(self, letter: Letter) -> None:
        with self._lock:
            if self._is_closed:
                return
            outcomes = [done for finding in self._judge.hear(letter) for done in self._pulses.take(finding, now_ms())]
        self._report(outcomes)
        if outcomes:
            self._wishes.put("look")  # a pulse may have begun, or be due sooner than the main thread expects

    # ---- what it says

    def _report(self, outcomes: list[Outcome]) -> None:
        """Counts, prints and acknowledges. Not under the lock: the connection has locks of its own."""
        for outcome in outcomes:
            self._count(report.counted_as(outcome), outcome.done.count if isinstance(outcome.done, Ruling) else 1)
            stopped = self._pulses.stopped
            report.log_alarm(outcome, stopped=stopped)
            if self._show:
                self._show(report.line(outcome, stopped=stopped))
            if self._settings.arm.ack and (ack := report.ack(outcome, self._settings.device.id, _utc())):
                self._send(ack)

    def _send(self, ack: Ack) -> None:
        if self._connection.send_ack(self._topics.of("ack"), ack.payload()):
            self._count("acks")
        else:
            self._count("acks_unsent")

    def _count(self, what: str, more: int = 1) -> None:
        with self._lock:  # both threads count
            self._counts[what] += more


def now_ms() -> float:
    """The arm's clock: monotonic, nobody sets it."""
    return time.monotonic_ns() / 1e6


def _utc() -> datetime:
    return datetime.now(timezone.utc)
