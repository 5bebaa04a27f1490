"""The process around the judge: MQTT by paho with its own network thread, the clock, signals, and what is printed.

Three threads. paho's hears a message and acts on it before it returns; the main one looks at the clock, ends pulses and
notices silence; one prints, so that whoever reads slowly holds up nobody. A lock guards the judge and the pulses; nothing
waits while it is held.
"""

import queue
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Literal
from uuid import uuid4

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent import broker
from edge_agent.actuator import report
from edge_agent.actuator.judge import Judge, Letter, Ruling
from edge_agent.actuator.outputs import open_output
from edge_agent.actuator.pulses import Outcome, Pulses
from edge_agent.actuator.settings import ArmSettings
from edge_agent.wire.messages import Ack

log = structlog.get_logger()

TICK_S = 0.05  # how often the clock is looked at; loss of the agent is noticed that much later at most
ACK_EXPIRY_S = 10
ACKS_MOST = 1000  # that paho may hold
TOPICS = {"verdict/+": 1, "heartbeat": 0, "state": 1, "birth": 1}  # with the QoS of each

Wish = Literal["stop", "reset", "look"]


class RejectArm:
    """One arm, on the verdicts of one device. `run` returns after SIGTERM or Ctrl-C; SIGUSR1 takes back a stop.

    Args:
        settings: the configuration file.
        show: gets a line for each verdict and alarm, as a dictionary; None where nobody wants them.

    Raises:
        ConfigError: the output, the password or a certificate cannot be used.
    """

    def __init__(self, settings: ArmSettings, show: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._settings, self._show = settings, show
        self._topics = settings.device.topics(settings.mqtt.prefix)
        self._client = self._new_client()
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards all below, and is never held while something waits
        self._judge = Judge(settings.policy)
        self._pulses = Pulses(open_output(settings.output), settings.output.delay_ms, settings.output.pulse_ms)
        self._counts: Counter[str] = Counter()
        self._is_closed = False

    def run(self) -> None:
        """Connects, and acts on what comes until it is told to stop. The broker may be away, also at the start."""
        for number, wish in ((signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGUSR1, "reset")):
            signal.signal(number, lambda *_, wish=wish: self._wishes.put(wish))
        mqtt = self._settings.mqtt
        with self._lock:
            outcomes = [done for alarm in self._judge.begin(now_ms()) for done in self._pulses.take(alarm, now_ms())]
        self._report(outcomes)
        self._client.connect_async(mqtt.host, mqtt.port, mqtt.keepalive_s, clean_start=True, properties=_no_session())
        self._client.loop_start()
        try:
            while (wish := self._next_wish()) != "stop":
                self._look(reset=wish == "reset")
        finally:
            self._close()

    def _next_wish(self) -> Wish:
        with self._lock:
            due_s = (self._pulses.next_ms() - now_ms()) / 1000
        try:
            return self._wishes.get(timeout=min(max(due_s, 0), TICK_S))
        except queue.Empty:
            return "look"

    def _look(self, *, reset: bool = False) -> None:
        """What time alone brings about."""
        with self._lock:
            if reset and not self._judge.is_lost:
                self._pulses.reset(now_ms())
            at_ms = now_ms()
            outcomes = [done for finding in self._judge.tick(at_ms) for done in self._pulses.take(finding, at_ms)]
            outcomes += self._pulses.work(at_ms)
        self._report(outcomes)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            outcomes = self._pulses.close(now_ms())
        self._report(outcomes)
        self._client.disconnect()
        self._client.loop_stop()
        summary = report.summary(self._counts, stopped=self._pulses.stopped)
        log.info("arm_stopped", **summary)
        if self._show:
            self._show({"kind": "summary", **summary})

    # ---- what paho's thread calls: an error that left one of these would end it without a word

    def _hear(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
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

    def _subscribe(
        self, client: Client, _userdata: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.warning("arm_disconnected", reason=str(reason))
            return
        client.subscribe([(self._topics.of(topic), SubscribeOptions(qos)) for topic, qos in TOPICS.items()])

    def _subscribed(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = {topic: str(reason) for topic, reason in zip(TOPICS, reasons, strict=False) if reason.is_failure}
        if refused:
            log.error("arm_subscription_refused", topics=refused)
        else:
            log.info("arm_connected", topics=self._topics.of("#"))

    def _disconnected(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not self._is_closed:
            log.warning("arm_disconnected", reason=str(reason))

    # ---- what it says

    def _report(self, outcomes: list[Outcome]) -> None:
        """Counts, prints and acknowledges. Not under the lock: paho has locks of its own."""
        for outcome in outcomes:
            self._count(report.counted_as(outcome), outcome.done.count if isinstance(outcome.done, Ruling) else 1)
            report.log_alarm(outcome)
            if self._show:
                self._show(report.line(outcome))
            if self._settings.arm.ack and (ack := report.ack(outcome, self._settings.device.id, _utc())):
                self._send(ack)

    def _send(self, ack: Ack) -> None:
        if not self._client.is_connected():  # paho would keep it and send it whenever it is back
            self._count("acks_unsent")
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own gap
        properties.MessageExpiryInterval = ACK_EXPIRY_S
        properties.PayloadFormatIndicator = 1
        properties.ContentType = "application/json"
        self._client.publish(self._topics.of("ack"), ack.payload(), qos=1, properties=properties)
        self._count("acks")

    def _count(self, what: str, more: int = 1) -> None:
        with self._lock:  # both threads count
            self._counts[what] += more

    def _new_client(self) -> Client:
        mqtt = self._settings.mqtt
        name = f"ea-{self._settings.device.id}-arm-{uuid4().hex[:8]}"  # two of one name would throw each other out
        client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        client.username_pw_set(mqtt.username, broker.read_password(mqtt))
        if context := broker.tls_context(mqtt):
            client.tls_set_context(context)
        client.reconnect_delay_set(1, 2)
        client.max_queued_messages_set(ACKS_MOST)
        client.on_socket_open = _send_at_once
        client.on_connect, client.on_subscribe = self._subscribe, self._subscribed
        client.on_disconnect, client.on_message = self._disconnected, self._hear
        return client


def now_ms() -> float:
    """The arm's clock: monotonic, nobody sets it."""
    return time.monotonic_ns() / 1e6


def _send_at_once(_client: Client, _userdata: Any, sock: Any) -> None:
    """Else the kernel would hold a small message back while one before it is not confirmed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _utc() -> datetime:
    return datetime.now(timezone.utc)


def _no_session() -> Properties:
    """The broker keeps nothing for an arm that is away: old verdicts are of no use."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.SessionExpiryInterval = 0
    return properties
