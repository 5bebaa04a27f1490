"""A talk with the broker under a name of its own, step by step, so that each step can fail in its own words."""

import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from edge_agent import broker
from edge_agent.broker import in_words
from edge_agent.errors import ConfigError
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics

if TYPE_CHECKING:  # paho is loaded when it is needed
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

Step = Literal["secrets", "name", "port", "tls", "login", "done"]
RESOLVE_S, REACH_S, ANSWER_S, LISTEN_S, ALERT_S = 3.0, 2.5, 3.0, 0.8, 0.3
"""The last two: three heartbeats; and how long a broker that wants a certificate may take to say so (TLS 1.3)."""
NOT_AUTHORISED, NOBODY = 0x87, 0x10
EXPIRY_S = 1
LISTENS = ("heartbeat", "state")
OFFLINE: Literal["offline"] = "offline"


@dataclass
class Talk:
    """How far it came, and why no further.

    Attributes:
        reached: the step that failed, or `done`.
        trouble: why, in words; empty where it is done.
        error: what was raised, where something was.
        addresses: of the name.
        days_left: until the broker's certificate expires; None without TLS.
        names: for which hosts that is.
        sessions: of others that speak as this device now.
        kept: the state of this device that the broker keeps; empty where it keeps none, or does not let us see it.
        codes: what the broker said to each topic that was tried.
    """

    reached: Step = "secrets"
    trouble: str = ""
    error: BaseException | None = None
    addresses: tuple[str, ...] = ()
    days_left: float | None = None
    names: tuple[str, ...] = ()
    sessions: set[str] = field(default_factory=set)
    kept: str = ""
    codes: dict[str, int] = field(default_factory=dict)


def talk(
    table: broker.Config, topics: Topics, own_session: str | None, verdicts: Sequence[str], *, speak: bool
) -> Talk:
    """Looks the name up, connects, shakes hands, signs in, listens for a moment, and with `speak` tries the topics.

    What is said is true: that the agent is `offline`, as its will does; so only where no agent runs, and the broker does not
    keep another state: an agent that starts or has no camera sends no heartbeat. What the broker keeps stays as it is.
    `verdicts` are the topics that get an empty message, which no arm acts on.
    """
    found = Talk()
    for step in (_read_secrets, _look_up, _reach, _shake_hands):
        step(table, found)
        if found.trouble:
            return found
    found.reached = "login"
    Visit(table, topics, found).make(own_session, verdicts, speak=speak)
    return found


def _failed(found: Talk, step: Step, trouble: str, error: BaseException | None = None) -> None:
    found.reached, found.trouble, found.error = step, trouble, error


def _read_secrets(table: broker.Config, found: Talk) -> None:
    try:
        broker.read_password(table)
        broker.tls_context(table)
    except ConfigError as error:
        _failed(found, "secrets", str(error), error)


def _look_up(table: broker.Config, found: Talk) -> None:
    """In a thread, for a resolver takes as long as it likes, and cannot be stopped."""
    thread = threading.Thread(target=_resolve, args=(table, found), daemon=True)
    thread.start()
    thread.join(RESOLVE_S)
    if thread.is_alive():
        _failed(found, "name", f"no name server answers within {RESOLVE_S:g} s")


def _resolve(table: broker.Config, found: Talk) -> None:
    try:
        told = socket.getaddrinfo(table.host, table.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        _failed(found, "name", in_words(error), error)
    else:
        found.addresses = tuple(dict.fromkeys(str(address[4][0]) for address in told))


def _reach(table: broker.Config, found: Talk) -> None:
    try:
        socket.create_connection((table.host, table.port), REACH_S).close()
    except TimeoutError as error:
        _failed(found, "port", f"no answer within {REACH_S:g} s", error)
    except OSError as error:
        _failed(found, "port", in_words(error), error)


def _shake_hands(table: broker.Config, found: Talk) -> None:
    context = broker.tls_context(table)
    if context is None:
        return
    try:
        with (
            socket.create_connection((table.host, table.port), REACH_S) as plain,
            context.wrap_socket(plain, server_hostname=table.host) as sock,
        ):
            _note_certificate(sock, found)
            sock.settimeout(ALERT_S)
            sock.recv(1)
    except TimeoutError as error:
        if found.days_left is None:  # else it waits for us, which is right
            _failed(found, "tls", f"no handshake within {REACH_S:g} s: does it speak TLS on this port?", error)
    except ssl.SSLCertVerificationError as error:
        found.names = _names_of(table)
        _failed(found, "tls", in_words(error), error)
    except OSError as error:
        _failed(found, "tls", in_words(error), error)


def _note_certificate(sock: ssl.SSLSocket, found: Talk) -> None:
    certificate: Any = sock.getpeercert() or {}
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    found.days_left = (ends_s - time.time()) / 86400
    found.names = tuple(str(name) for _, name in certificate.get("subjectAltName", ()))


def _names_of(table: broker.Config) -> tuple[str, ...]:
    """The hosts of a certificate that is right in all but its host; empty where it is wrong in more."""
    context = broker.tls_context(table)
    if context is None:
        return ()
    context.check_hostname = False
    shown = Talk()
    try:
        with (
            socket.create_connection((table.host, table.port), REACH_S) as plain,
            context.wrap_socket(plain, server_hostname=table.host) as sock,
        ):
            _note_certificate(sock, shown)
    except OSError:
        return ()
    return shown.names


class Visit:
    """One MQTT connection, with a client id that no agent has: one with the agent's would throw it out."""

    def __init__(self, table: broker.Config, topics: Topics, found: Talk) -> None:
        self._table, self._topics, self._found = table, topics, found
        self._client: Client = broker.new_client(table, f"ea-{topics.device}-doctor")
        self._connack: list[ReasonCode] = []
        self._acks: dict[int, int] = {}
        self._lost: list[str] = []
        self._kept: bytes | None = None  # the last state that the broker keeps
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._connack.append(reason)
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: self._lost.append(str(reason))
        self._client.on_publish = lambda _c, _u, mid, reason, _p: self._acks.update({mid: reason.value})
        self._client.on_message = lambda _c, _u, message: self._hear(message)

    def make(self, own_session: str | None, verdicts: Sequence[str], *, speak: bool) -> None:
        """The whole visit; what it finds goes into the talk."""
        found = self._found
        try:
            if not self._sign_in():
                return
            self._client.subscribe([(self._topics.of(name), 1) for name in LISTENS])
            self._loop_until(lambda: False, LISTEN_S)
            self._unsubscribe()
            found.sessions.discard(own_session or "")
            found.kept = str(_fields(self._kept or b"").get("state", ""))
            if speak and not found.sessions and found.kept in ("", OFFLINE):  # else somebody's arm would hear it
                self._speak(verdicts)
            found.reached = "done"
        except (OSError, ValueError) as error:
            _failed(found, "login", str(error), error)
        finally:
            self._client.disconnect()
            self._client.loop(0.1)
            self._client.__del__()  # closes its sockets now

    def _sign_in(self) -> bool:
        self._client.connect_timeout = REACH_S
        self._client.connect(self._table.host, self._table.port, self._table.keepalive_s, clean_start=True)
        self._loop_until(lambda: bool(self._connack), ANSWER_S)
        if not self._connack:
            ended = f"the broker ended the connection: {self._lost[0]}" if self._lost else ""
            _failed(self._found, "login", ended or f"it takes connections, but has not answered for {ANSWER_S:g} s")
            return False
        reason = self._connack[0]
        if reason.is_failure:
            _failed(self._found, "login", f"the broker refused: {reason.getName()} (0x{reason.value:02x})")
        return not reason.is_failure

    def _unsubscribe(self) -> None:
        """Else we would count as somebody who listens, and hear what we say ourselves."""
        done: list[int] = []
        self._client.on_unsubscribe = lambda _c, _u, mid, _r, _p: done.append(mid)
        self._client.unsubscribe([self._topics.of(name) for name in LISTENS])
        self._loop_until(lambda: bool(done), ANSWER_S)
        self._client.on_message = None

    def _speak(self, verdicts: Sequence[str]) -> None:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        state = self._topics.of("state")
        asked = {state: self._client.publish(state, self._offline(), 1, retain=False).mid}
        for topic in verdicts:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own gap
            properties.MessageExpiryInterval = EXPIRY_S
            asked[topic] = self._client.publish(topic, b"", 1, retain=False, properties=properties).mid
        self._loop_until(lambda: set(asked.values()) <= set(self._acks), ANSWER_S)
        self._found.codes = {topic: self._acks[mid] for topic, mid in asked.items() if mid in self._acks}

    def _offline(self) -> bytes:
        """What the broker keeps already where that says `offline`, letter by letter; else a message of our own."""
        if self._kept is not None and self._found.kept == OFFLINE:
            return self._kept
        return wire.StateMessage(
            device=self._topics.device,
            session=uuid.uuid4().hex,
            seq=1,
            at=datetime.now(timezone.utc),
            state=OFFLINE,
            reasons=("stopping",),
        ).payload()

    def _hear(self, message: "MQTTMessage") -> None:
        if message.retain:
            self._kept = bytes(message.payload)
        elif isinstance(session := _fields(message.payload).get("session"), str):
            self._found.sessions.add(session)

    def _loop_until(self, done: Any, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while not done() and not self._lost and (left_s := until_s - time.monotonic()) > 0:
            if self._client.loop(min(left_s, 0.1)):
                return


def _fields(payload: bytes | bytearray) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
