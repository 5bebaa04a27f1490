"""The arm's connection to the broker: MQTT 5 by paho, in a thread that opens it again for as long as it takes."""

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent import broker
from edge_agent.errors import ConfigError

log = structlog.get_logger()

RETRY_S = 1.0
CLOSE_S = 2.0  # for the goodbye; whatever hangs longer ends with the process
LOOK_S = 1.0  # so often at least paho looks at its keepalive
ACK_EXPIRY_S = 10
ACKS_MOST = 1000  # that paho may hold


class Connection:
    """Every connection gets a paho client of its own: what one could not send is not sent by the next.

    Args:
        config: the table `[mqtt]`. Password and certificates are read anew for each connection.
        device: whose verdicts these are; for the client id.
        subscriptions: topics, with the QoS of each.
        hear: gets each message, in the connection's thread. It must not raise.

    Raises:
        ConfigError: the password or a certificate cannot be used.
    """

    def __init__(
        self,
        config: broker.Config,
        device: str,
        subscriptions: Mapping[str, int],
        hear: Callable[[MQTTMessage], None],
    ) -> None:
        self._config, self._subscriptions, self._hear = config, subscriptions, hear
        self._id = f"ea-{device}-arm-{uuid4().hex[:8]}"  # two of one name would throw each other out
        self._client = self._new_client()
        self._ended = threading.Event()
        self._reopening = False
        self._why = self._told = ""  # it ended, or could not be made; and which of that was logged last
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begins to connect. The broker may be away."""
        self._thread.start()

    def send_ack(self, topic: str, payload: bytes) -> bool:
        """Hands it to the connection. Any thread. False where there is none, or paho's queue is full: it is not sent."""
        client = self._client
        if not client.is_connected():
            return False
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own gap
        properties.MessageExpiryInterval = ACK_EXPIRY_S
        properties.PayloadFormatIndicator = 1
        properties.ContentType = "application/json"
        return client.publish(topic, payload, qos=1, properties=properties).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Says goodbye, behind the acks that still wait. Not for the connection's own thread."""
        self._ended.set()
        self._client.disconnect()
        self._thread.join(CLOSE_S)

    def reopen(self) -> None:
        """Says goodbye and connects anew, with the password and certificates of now."""
        self._reopening = True
        self._client.disconnect()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._why = ""
            self._reopening = False
            try:
                self._connect_and_listen()
            except (OSError, UnicodeError) as error:
                self._why = broker.in_words(error)
            except ConfigError as error:
                self._why = str(error)
            except Exception as error:  # noqa: BLE001 - paho 2.1 raises all sorts of errors on malformed packets
                self._why = f"the broker sent what cannot be read as MQTT 5: {error!r}"
            if self._reopening:
                continue
            if not self._ended.is_set() and self._why != self._told:  # once, not each second for days
                log.warning("arm_disconnected", reason=f"{self._config.host}:{self._config.port}: {self._why}")
                self._told = self._why
            self._ended.wait(RETRY_S)

    def _connect_and_listen(self) -> None:
        """One connection, from its first byte to its last."""
        config = self._config
        client = self._client = self._new_client()
        client.connect(config.host, config.port, config.keepalive_s, clean_start=True, properties=_no_session())
        if self._ended.is_set() or self._reopening:  # since it began to connect
            client.disconnect()
        while client.loop(LOOK_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass

    # ---- what paho calls, in the connection's thread

    def _subscribe(
        self, client: Client, _userdata: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            hint = "; check username and password_file" if reason.value in (0x86, 0x87) else ""
            self._why = f"the broker refused the connection: {reason}{hint}"
            return
        client.subscribe([(topic, SubscribeOptions(qos)) for topic, qos in self._subscriptions.items()])

    def _subscribed(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._told = ""
        answers = zip(self._subscriptions, reasons, strict=False)
        refused = {topic: str(reason) for topic, reason in answers if reason.is_failure}
        if refused:
            log.error("arm_subscription_refused", topics=refused)
        else:
            log.info("arm_connected", topics=list(self._subscriptions))

    def _disconnected(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._why = self._why or f"the connection ended: {reason}"

    def _new_client(self) -> Client:
        client = broker.new_client(self._config, self._id)
        client.max_queued_messages_set(ACKS_MOST)
        client.on_socket_open = _send_at_once
        client.on_socket_register_write = _leave_it_to_the_loop
        client.on_connect, client.on_subscribe = self._subscribe, self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = lambda _client, _userdata, message: self._hear(message)
        return client


def _send_at_once(_client: Client, _userdata: Any, sock: Any) -> None:
    """Else the kernel would hold a small message back while one before it is not confirmed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave_it_to_the_loop(_client: Client, _userdata: Any, _sock: Any) -> None:
    """With this paho's `publish` only wakes the loop, whose thread alone writes to the socket."""


def _no_session() -> Properties:
    """The broker keeps nothing for an arm that is away: old verdicts are of no use."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.SessionExpiryInterval = 0
    return properties
