"""One MQTT 5 connection: paho encodes, decodes and counts; the socket, the waiting and the threads are ours."""

import select
import socket
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from edge_agent.broker import Config
from edge_agent.core.ports import Message, Receipt
from edge_agent.errors import PublisherLostError
from edge_agent.publishers.mqtt.wire import Wire, ready

if TYPE_CHECKING:  # paho is loaded when the first connection is made
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

CONNACK_TIMEOUT_S = 5.0
GOODBYE_S = 1.0  # what a clean close may take until the broker has read everything
RECEIVE_MAXIMUM = 65535  # MQTT 5, 3.2.2.3.3: what holds when the broker names none
GONE = select.POLLIN | select.POLLHUP | select.POLLERR


class MqttPublisher:
    """One MQTT 5 connection. `send` from any thread; `poll` and a clean `close` from one.

    `close(abort=True)` may come from any thread too: a `poll` in progress then raises.
    """

    def __init__(self, wire: Wire, config: Config, client_id: str) -> None:
        self._wire, self._config = wire, config
        self._name = f"{config.host}:{config.port}"
        self._client = _paho_client(wire, client_id)
        self._lock = threading.Lock()  # guards the client and all below; never held while waiting
        self._lost: str | None = None
        self._closed = self._clean = self._polling = False
        self._window = RECEIVE_MAXIMUM
        self._in_flight: dict[int, int | None] = {}  # message id -> token, QoS 1
        self._writing: dict[int, int] = {}  # message id -> token, QoS 0
        self._receipts: list[Receipt] = []
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        # what paho's callbacks say: they only append, and paho raises what goes wrong in them
        self._connacks: list[tuple[ReasonCode, Properties | None]] = []
        self._goodbyes: list[tuple[bool, ReasonCode]] = []
        self._done: list[tuple[int, int]] = []

    def connect(self, password: str | None, will: Message | None) -> None:
        """Introduces us to the broker and waits for its answer. Once, by `create`."""
        from paho.mqtt.packettypes import PacketTypes

        client, config = self._client, self._config
        client.on_connect = lambda _c, _u, _f, reason, properties: self._connacks.append((reason, properties))
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._goodbyes.append(
            (flags.is_disconnect_packet_from_server, reason)
        )
        client.on_publish = lambda _c, _u, mid, reason, _p: self._done.append((mid, reason.value))
        client.username_pw_set(config.username, password)
        if will is not None:
            properties = _properties(PacketTypes.WILLMESSAGE, will.expiry_s)
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        session = _session_properties()
        with self._lock:
            client.connect(config.host, config.port, config.keepalive_s, clean_start=True, properties=session)
        self._await_connack()

    def send(self, message: Message) -> None:
        """Writes the message to the connection now.

        Raises:
            PublisherLostError: there is no connection, or the broker's receive maximum is reached; it was not sent and
                will not be.
        """
        from paho.mqtt.packettypes import PacketTypes

        properties = _properties(PacketTypes.PUBLISH, message.expiry_s)
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
            if self._receipts or self._client.want_write():
                self._wake()  # poll must return them, or write the rest

    def poll(self, timeout_s: float) -> Sequence[Receipt]:
        """Reads, writes what a full socket left over, keeps the connection alive; returns the receipts that came.

        Raises:
            PublisherLostError: the connection broke, with the reason in words; or it was closed.
        """
        with self._lock:
            if self._lost is not None or self._receipts:
                timeout_s = 0
            events = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
            self._polling = not self._closed
        got = 0
        if self._polling:
            timeout_s = min(timeout_s, self._config.keepalive_s / 4)  # the keepalive's timers are looked at in between
            got = ready(self._wire, events, timeout_s, self._wake_r)
        if got & GONE and not self._wire.encrypted:  # OpenSSL does not bear reading beside writing
            self._wire.read_ahead()
        with self._lock:
            self._polling = False
            if self._closed:
                self._release()
            elif self._lost is None:
                self._work(readable=bool(got & GONE))
            receipts, self._receipts = self._receipts, []
            if self._lost is not None and not receipts:
                raise PublisherLostError(self._lost)
            return receipts

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

    def _await_connack(self) -> None:
        until_s = time.monotonic() + CONNACK_TIMEOUT_S
        while not self._connacks:
            if (left_s := until_s - time.monotonic()) <= 0:
                raise PublisherLostError(f"{self._name}: no answer to CONNECT within {CONNACK_TIMEOUT_S:.0f} s")
            try:
                self.poll(left_s)
            except PublisherLostError:
                if not self._connacks:
                    raise
        reason, properties = self._connacks[0]
        if reason.is_failure:
            hint = "; check username and password_file" if reason.value in (0x86, 0x87) else ""
            raise PublisherLostError(f"{self._name}: the broker refused the connection: {_reason_words(reason)}{hint}")
        self._window = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM)

    def _work(self, *, readable: bool) -> None:
        try:
            if readable and self._wire.encrypted:
                self._wire.read_ahead()
            while self._wire.has_more() and self._client.socket() is not None:
                self._client.loop_read()
            if self._client.want_write():
                self._client.loop_write()
            self._client.loop_misc()
        except Exception as err:  # noqa: BLE001 - paho 2.1 raises all sorts of errors on malformed packets
            self._lost = f"{self._name}: the broker sent what cannot be read as MQTT 5: {err!r}"
        self._note_loss()
        self._collect()

    def _collect(self) -> None:
        for mid, code in self._done:
            waiting = self._writing if mid in self._writing else self._in_flight
            token = waiting.pop(mid, None)
            if token is not None:
                self._receipts.append(Receipt(token, code))
        self._done.clear()

    def _note_loss(self) -> None:
        if self._lost is not None or self._client.socket() is not None:
            return
        by_broker, reason = self._goodbyes[-1]  # paho calls back before it lets go of the socket, or right after
        if by_broker:
            why = f"the broker ended the connection: {_reason_words(reason)}"
        elif self._wire.failure:
            why = f"the connection broke: {self._wire.failure}"
        elif reason.getName() == "Keep alive timeout":
            why = f"the broker does not answer (keepalive {self._config.keepalive_s} s)"
        else:
            why = f"the connection broke: {reason}"
        self._lost = f"{self._name}: {why}"

    def _say_goodbye(self, until_s: float) -> bool:
        with self._lock:
            self._client.disconnect()  # goes behind what is still to be written
        while self._client.socket() is not None and (left_s := until_s - time.monotonic()) > 0:
            ready(self._wire, select.POLLOUT, left_s)
            with self._lock:
                self._client.loop_write()
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


def _paho_client(wire: Wire, client_id: str) -> "Client":
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    class WiredClient(Client):
        """A client on our socket. `on_socket_register_write` stays unset: so `publish` writes at once."""

        def _create_socket(self) -> Wire:
            return wire

    client = WiredClient(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(0)  # no limit: a limit would hold messages back without a word
    return client


@lru_cache(maxsize=64)
def _properties(packet_type: int, expiry_s: int | None) -> "Properties":
    """Made once for each expiry: paho takes longer over them than over the message."""
    from paho.mqtt.properties import Properties

    properties = Properties(packet_type)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "application/json"
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    return properties


def _session_properties() -> "Properties":
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.SessionExpiryInterval = 0
    return properties


def _reason_words(reason: "ReasonCode") -> str:
    return f"{reason.getName()} (0x{reason.value:02x})"
