"""One MQTT 5 connection: paho encodes, decodes and counts; the socket, the waiting and the threads are ours."""

import select
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_agent.broker import Config
from edge_agent.core.ports import Heard, Message, Receipt
from edge_agent.errors import PublisherLostError
from edge_agent.publishers.mqtt.client import (
    PUBLISH,
    TAKEN_OVER,
    in_words,
    message_properties,
    new_client,
    ping,
    session_properties,
    subscribe_options,
)
from edge_agent.publishers.mqtt.turns import Turns
from edge_agent.publishers.mqtt.wire import Wire, ready

if TYPE_CHECKING:  # paho is loaded when the first connection is made
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

CONNECT_TIMEOUT_S = 5.0  # for CONNACK and SUBACK together
GOODBYE_S = 1.0  # what a clean close may take until the broker has read everything
RECEIVE_MAXIMUM = 65535  # MQTT 5, 3.2.2.3.3: what holds when the broker names none
LISTEN_S = 0.05  # where messages come in, it is looked at least so often whether they do:
SLACK_S = 0.05  # whoever looks so much later than he meant to was held up, and does not know when they came
PING_S = 0.5  # the broker is asked for a sign of life so often
ANSWER_S = 1.25  # and is gone when nothing at all came for so long after: slow ones pause for a second, and arms
# take 1.5 s without a heartbeat for the loss of the agent
BATCH = 32  # packets read at a time: `send` waits meanwhile
GONE = select.POLLIN | select.POLLHUP | select.POLLERR


class MqttPublisher:
    """One MQTT 5 connection. `send` from any thread; `poll` and a clean `close` from one.

    `close(abort=True)` may come from any thread too: a `poll` in progress then raises.
    """

    def __init__(self, wire: Wire, config: Config, client_id: str) -> None:
        self._wire, self._config = wire, config
        self._name = f"{config.host}:{config.port}"
        self._id, self._client = client_id, new_client(wire, client_id)
        self.refused: dict[str, str] = {}
        self._lock = Turns()  # guards the client and all below; never held while waiting
        self._lost: str | None = None
        self._closed = self._clean = self._polling = False
        self._window = RECEIVE_MAXIMUM
        self._in_flight: dict[int, int | None] = {}  # message id -> token, QoS 1
        self._writing: dict[int, int] = {}  # message id -> token, QoS 0
        self._news: list[Receipt | Heard] = []
        self._longest_s = PING_S
        self._empty_ns = time.monotonic_ns()  # when nothing lay in the socket for the last time
        self._waited_ns = 0  # so long what was read last may have lain there
        self._ping_due_s = 0.0
        self._asked_ns: int | None = None  # when the oldest ping went out that nothing came after
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        # what paho's callbacks say: they only append, and paho raises what goes wrong in them
        self._connacks: list[tuple[ReasonCode, Properties | None]] = []
        self._goodbyes: list[tuple[bool, ReasonCode]] = []
        self._subacks: list[list[ReasonCode]] = []
        self._came: list[tuple[int, int] | Heard] = []  # message id and code of what was confirmed or written

    def connect(self, password: str | None, will: Message | None, subscriptions: Sequence[str]) -> None:
        """Introduces us to the broker, subscribes, and waits for its answers. Once, by `create`."""
        from paho.mqtt.packettypes import PacketTypes

        client, config = self._client, self._config
        client.on_connect = lambda _c, _u, _f, reason, properties: self._connacks.append((reason, properties))
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._goodbyes.append(
            (flags.is_disconnect_packet_from_server, reason)
        )
        client.on_publish = lambda _c, _u, mid, reason, _p: self._came.append((mid, reason.value))
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self._subacks.append(reasons)
        client.on_message = lambda _c, _u, message: self._came.append(
            _heard(message, self._wire.read_ns, self._waited_ns)
        )
        client.username_pw_set(config.username, password)
        if will is not None:
            properties = message_properties(PacketTypes.WILLMESSAGE, will.expiry_s)
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        session = session_properties()
        until_s = time.monotonic() + CONNECT_TIMEOUT_S
        with self._lock:
            client.connect(config.host, config.port, config.keepalive_s, clean_start=True, properties=session)
        self._await_connack(until_s)
        if subscriptions:
            self._subscribe(subscriptions, until_s)

    def send(self, message: Message) -> None:
        """Writes the message to the connection now.

        Raises:
            PublisherLostError: there is no connection, or the broker's receive maximum is reached; it was not sent and
                will not be.
        """
        properties = message_properties(PUBLISH, message.expiry_s)
        with self._lock:
            if self._lost is not None:
                raise PublisherLostError(self._lost)
            if message.qos and len(self._in_flight) >= self._window:
                raise PublisherLostError(
                    f"{self._name}: {self._window} messages wait for the broker, which takes no more"
                )
            info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
            self._note_loss()
            if self._lost is None and (info.rc or info.mid in self._in_flight):
                self._lost = f"{self._name}: the broker left a message unconfirmed for 65,535 others"
            if self._lost is not None:
                self._wake()
                raise PublisherLostError(self._lost)
            if message.qos:
                self._in_flight[info.mid] = message.token
            elif message.token is not None:
                self._writing[info.mid] = message.token
            self._collect()
            if self._news or self._client.want_write():
                self._wake()  # poll must return them, or write the rest

    def poll(self, timeout_s: float) -> Sequence[Receipt | Heard]:
        """Reads, writes what a full socket left over, asks for signs of life; returns what came, in its order.

        Raises:
            PublisherLostError: the connection broke, with the reason in words; or it was closed.
        """
        with self._lock:
            more = self._wire.has_more()  # than one call takes: nothing is read until that is done
            if self._lost is not None or self._news or more:
                timeout_s = 0
            unwritten = self._client.want_write() or self._wire.owes()
            events = select.POLLIN | (select.POLLOUT if unwritten else 0)
            self._polling = not self._closed
        got, asked_ns, timeout_s = 0, time.monotonic_ns(), min(timeout_s, self._longest_s)
        if self._polling:
            got = ready(self._wire, events, timeout_s, self._wake_r)
        readable = bool(got & GONE) and not more
        if not more:
            self._note_wait(asked_ns, timeout_s, readable=readable)
        if readable and not self._wire.encrypted:  # OpenSSL does not bear reading beside writing
            self._wire.read_ahead()
        with self._lock:
            self._polling = False
            if self._closed:
                self._release()
            elif self._lost is None:
                self._work(readable=readable)
            news, self._news = self._news, []
            if self._lost is not None and not news:
                raise PublisherLostError(self._lost)
            return news

    def _note_wait(self, asked_ns: int, timeout_s: float, *, readable: bool) -> None:
        """For how long what is about to be read may have lain there: nobody looked, or the whole process stood still."""
        now_ns = time.monotonic_ns()
        if readable:
            slack_ns = int(SLACK_S * 1e9)
            since_ns = self._empty_ns if asked_ns - self._empty_ns > slack_ns else asked_ns
            is_late = since_ns < asked_ns or now_ns - asked_ns > timeout_s * 1e9 + slack_ns
            self._waited_ns = now_ns - since_ns if is_late else 0
        self._empty_ns = now_ns

    def close(self, *, abort: bool = False) -> None:
        """Writes what is left and says goodbye, or cuts the connection: then the broker sends the will.

        A broker that has not read everything within a second is cut off too.
        """
        with self._lock:
            if self._closed:
                return
            clean = self._lost is None and not abort
            self._lost = self._lost or f"{self._name}: the connection was closed here"
        if clean:
            self._clean = self._say_goodbye(time.monotonic() + GOODBYE_S)
        with self._lock:
            self._closed = True
            if self._polling:
                self._wake()  # the last one out closes: a descriptor in use must not become someone else's
            else:
                self._release()

    def _await_connack(self, until_s: float) -> None:
        self._await("CONNECT", self._connacks, until_s)
        reason, properties = self._connacks[0]
        if reason.is_failure:
            hint = "; check username and password_file" if reason.value in (0x86, 0x87) else ""
            raise PublisherLostError(f"{self._name}: the broker refused the connection: {in_words(reason)}{hint}")
        self._window = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)

    def _subscribe(self, topics: Sequence[str], until_s: float) -> None:
        options, self._longest_s = subscribe_options(), LISTEN_S
        with self._lock:
            self._client.subscribe([(topic, options) for topic in topics])
        self._await("SUBSCRIBE", self._subacks, until_s)
        if len(self._subacks[0]) != len(topics):
            raise PublisherLostError(f"{self._name}: the broker answered another SUBSCRIBE than ours")
        answers = zip(topics, self._subacks[0], strict=True)
        self.refused = {topic: in_words(reason) for topic, reason in answers if reason.is_failure}

    def _await(self, question: str, answers: Sequence[object], until_s: float) -> None:
        """Polls until the broker has answered; what else comes meanwhile is for the first `poll` of the owner."""
        news: list[Receipt | Heard] = []
        while not answers:
            if (left_s := until_s - time.monotonic()) <= 0:
                raise PublisherLostError(f"{self._name}: no answer to {question} within {CONNECT_TIMEOUT_S:.0f} s")
            try:
                news += self.poll(left_s)
            except PublisherLostError:
                if not answers:
                    raise
        self._news = news + self._news

    def _work(self, *, readable: bool) -> None:
        try:
            if readable and self._wire.encrypted:
                self._wire.read_ahead()
            self._read_batch()
            self._write_rest()
            self._ask_for_life()
        except Exception as err:  # noqa: BLE001 - paho 2.1 raises all sorts of errors on malformed packets
            self._lost = f"{self._name}: the broker sent what cannot be read as MQTT 5: {err!r}"
        self._note_loss()
        self._collect()

    def _read_batch(self) -> None:
        if not self._client.want_write():  # else the PUBACKs have to wait behind other messages anyway
            self._wire.hold()
        self._wire.hand_out(BATCH)
        try:
            while self._wire.gives() and self._client.socket() is not None:
                self._client.loop_read()
        finally:
            self._wire.let_go()

    def _write_rest(self) -> None:
        if self._wire.owes():
            self._wire.let_go()
        if self._client.want_write():
            self._client.loop_write()

    def _ask_for_life(self) -> None:
        """A broker that is asked and sends nothing is gone. paho would notice after two keepalives (and be silent)."""
        now_ns = time.monotonic_ns()
        if self._asked_ns is not None and self._wire.read_ns >= self._asked_ns:
            self._asked_ns = None
        if not self._connacks or self._client.socket() is None:
            return
        if self._asked_ns is not None and now_ns - self._asked_ns >= ANSWER_S * 1e9:
            if not ready(self._wire, select.POLLIN, 0):  # we may have slept while it came
                self._lost = f"{self._name}: the broker does not answer (for {ANSWER_S:g} s)"
        elif now_ns / 1e9 >= self._ping_due_s and not self._client.want_write():
            self._ping_due_s = now_ns / 1e9 + PING_S
            ping(self._client)
            self._asked_ns = self._asked_ns or now_ns

    def _collect(self) -> None:
        for item in self._came:
            if isinstance(item, Heard):
                self._news.append(item)
                continue
            mid, code = item
            waiting = self._writing if mid in self._writing else self._in_flight
            token = waiting.pop(mid, None)
            if token is not None:
                self._news.append(Receipt(token, code))
        self._came.clear()

    def _note_loss(self) -> None:
        if self._lost is not None or self._client.socket() is not None:
            return
        by_broker, reason = self._goodbyes[-1]  # paho calls back before it lets go of the socket, or right after
        if by_broker and reason.value == TAKEN_OVER:
            why = f"another client uses the id {self._id}: two devices with the same [device] id?"
        elif by_broker:
            why = f"the broker ended the connection: {in_words(reason)}"
        elif self._wire.failure:
            why = f"the connection broke: {self._wire.failure}"
        else:
            why = f"the connection broke: {reason}"
        self._lost = f"{self._name}: {why}"

    def _say_goodbye(self, until_s: float) -> bool:
        with self._lock:
            self._client.disconnect()  # goes behind what is still to be written
        while self._client.socket() is not None and (left_s := until_s - time.monotonic()) > 0:
            ready(self._wire, select.POLLOUT, left_s)
            with self._lock:
                self._write_rest()
        return self._wire.finish(until_s)

    def _wake(self) -> None:
        if self._wake_w.fileno() >= 0:
            try:
                self._wake_w.send(b"\0")
            except BlockingIOError:
                return  # it is full of wake-up calls already

    def _release(self) -> None:
        self._wire.release(reset=not self._clean)
        self._wake_r.close()
        self._wake_w.close()


def _heard(message: "MQTTMessage", received_ns: int, waited_ns: int) -> Heard:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = "(a topic that is not UTF-8)"
    expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
    return Heard(topic, bytes(message.payload), message.retain, expiry_s, received_ns, waited_ns)
