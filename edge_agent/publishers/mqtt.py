"""MQTT 5 over TCP or TLS: one fresh connection per `create`, every message on the socket before `send` returns.

paho encodes, decodes and counts; the socket, the waiting and the threads are ours. Nothing of a connection outlives it:
a paho client is used for one connection and thrown away, so that it never has a queue to send later.
"""

import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.errors import ConfigError, PublisherLostError

if TYPE_CHECKING:  # paho is loaded when the first connection is made
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

CONNECT_TIMEOUT_S = 5.0  # for TCP and TLS, and again for the broker's CONNACK
GOODBYE_S = 1.0  # what a clean close may take until the broker has read everything
READ_BYTES = 65536  # at least one TLS record (16 KiB), so that none stays behind unseen by poll()
RECEIVE_MAXIMUM = 65535  # MQTT 5, 3.2.2.3.3: what holds when the broker names none
GONE = select.POLLIN | select.POLLHUP | select.POLLERR


class Tls(BaseModel):
    """The table `[mqtt.tls]`. Its presence means TLS with verification; there is no way back to plain text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = Field(
        None, description="PEM file that the broker's certificate is checked against; else the system's."
    )
    cert: Path | None = Field(None, description="PEM file with the agent's own certificate, for mutual TLS.")
    key: Path | None = Field(None, description="PEM file with its key, mode 0600; a bare name is a systemd credential.")

    @model_validator(mode="after")
    def _key_needs_cert(self) -> "Tls":
        if self.key and not self.cert:
            raise ValueError("key is set without cert: name the certificate that belongs to the key")
        return self


class Config(BaseModel):
    """The table `[mqtt]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1, description="Name or address of the broker.")
    port: int = Field(1883, ge=1, le=65535, description="Port of the broker; 8883 unless set when there is [mqtt.tls].")
    username: str | None = Field(None, description="Who the agent is to the broker.")
    password_file: Path | None = Field(
        None, description="File of mode 0600 with the password; a bare name is looked up among the systemd credentials."
    )
    prefix: str = Field("factory", description="First level or levels of every topic.")
    keepalive_s: int = Field(5, ge=1, le=3600, description="A dead link is noticed after twice this time.")
    tls: Tls | None = Field(None, description="TLS with verification, when present.")

    @model_validator(mode="before")
    @classmethod
    def _port_of_tls(cls, table: Any) -> Any:
        if isinstance(table, dict) and table.get("tls") is not None and "port" not in table:
            return {**table, "port": 8883}
        return table

    @field_validator("host")
    @classmethod
    def _is_no_url(cls, host: str) -> str:
        if "/" in host or any(c.isspace() for c in host):
            raise ValueError("must be a name or an address, without scheme, port or spaces: broker.example.com")
        return host

    @field_validator("prefix")
    @classmethod
    def _is_a_topic(cls, prefix: str) -> str:
        if any(c in prefix for c in "+#$\0") or not all(prefix.split("/")):
            raise ValueError("must be topic levels such as factory or acme/leon: no empty level, no + # $ and no NUL")
        return prefix

    @model_validator(mode="after")
    def _password_needs_username(self) -> "Config":
        if self.password_file and self.username is None:
            raise ValueError("password_file is set without username: MQTT sends no password without a user name")
        return self


def verify(config: Config) -> None:
    """Reads the password and the TLS files, without connecting.

    Raises:
        ConfigError: one is missing, open to others, or not what it should be.
    """
    _password(config)
    _tls_context(config)


def create(config: Config, client_id: str, will: Message | None = None) -> Publisher:
    """A new connection, with the broker's consent. Secrets and certificates are read anew.

    The broker publishes `will` when the connection ends other than by a clean `close`.

    Raises:
        ConfigError: the password or a TLS file cannot be used.
        PublisherLostError: the broker could not be reached, or refused; with its reason.
    """
    password, context = _password(config), _tls_context(config)
    publisher = MqttPublisher(_dial(config, context), config, client_id)
    try:
        publisher.connect(password, will)
    except BaseException:
        publisher.close(abort=True)
        raise
    return publisher


class Wire:
    """A connected socket that paho writes to, but reads only what was read ahead for it, and never really closes.

    Each read of a socket gives up the GIL, and paho reads an acknowledgement in three: with another thread computing,
    that is three switch intervals (5 ms each) during which `send` would wait for the lock.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ahead = bytearray()
        self.encrypted = isinstance(sock, ssl.SSLSocket)
        self.failure: str | None = None

    def read_ahead(self) -> None:
        """Takes what has arrived; never blocks. The end of the stream and errors are kept in `failure`."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as err:
            self.failure = _words(err)
        else:
            self._ahead += data
            if not data:
                self.failure = "the other side closed it"

    def has_more(self) -> bool:
        """Whether paho has something to read: bytes, or the news that there will be none."""
        return bool(self._ahead) or self.failure is not None

    def recv(self, size: int) -> bytes:
        """For paho: bytes read ahead, `b""` at the end of the stream."""
        if not self._ahead and self.failure is None:
            raise BlockingIOError
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """For paho: writes what the socket takes."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as err:
            self.failure = self.failure or _words(err)
            raise

    def fileno(self) -> int:
        """For `poll`."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket interface has it so
        """For paho."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """For paho, which closes under the feet of threads that still use the descriptor: does nothing."""

    def finish(self, until_s: float) -> bool:
        """Ends our half of the stream and waits until the other side has read it all and ended its own: whether it has.

        Closing at once would answer its last acknowledgements with a reset, which may overtake our last messages.
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
            while (left_s := until_s - time.monotonic()) > 0 and _ready(self, select.POLLIN, left_s):
                if not self._sock.recv(READ_BYTES):
                    return True
        except OSError:
            return False
        return False

    def release(self, *, reset: bool) -> None:
        """Closes the socket; with `reset` what lies in our kernel's buffers is thrown away, never to arrive late."""
        if reset and self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


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
            got = _ready(self._wire, events, timeout_s, self._wake_r)
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
        until_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._connacks:
            if (left_s := until_s - time.monotonic()) <= 0:
                raise PublisherLostError(f"{self._name}: no answer to CONNECT within {CONNECT_TIMEOUT_S:.0f} s")
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
            _ready(self._wire, select.POLLOUT, left_s)
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


def _ready(wire: Wire, events: int, timeout_s: float, wake: socket.socket | None = None) -> int:
    """Waits for the events on the socket, or for a byte on `wake`; which events came. Not select(): it ends at 1024."""
    poller = select.poll()
    poller.register(wire.fileno(), events)
    if wake is not None:
        poller.register(wake.fileno(), select.POLLIN)
    came = dict(poller.poll(timeout_s * 1000))
    if wake is not None and came.get(wake.fileno()):
        wake.recv(READ_BYTES)
    return came.get(wire.fileno(), 0)


def _dial(config: Config, context: ssl.SSLContext | None) -> Wire:
    name = f"{config.host}:{config.port}"
    try:
        sock = socket.create_connection((config.host, config.port), CONNECT_TIMEOUT_S)
    except (OSError, UnicodeError) as err:  # UnicodeError: a label of the name is empty or too long
        raise PublisherLostError(f"{name}: {_words(err)}") from err
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":  # how long sent bytes may stay unconfirmed: finds a cut cable while we write
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000 * config.keepalive_s)
        return Wire(context.wrap_socket(sock, server_hostname=config.host) if context else sock)
    except OSError as err:
        sock.close()
        raise PublisherLostError(f"{name}: {_words(err)}") from err


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


def _words(err: OSError | UnicodeError) -> str:
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate was refused: {err.verify_message}"
    if isinstance(err, ssl.SSLError):
        return f"TLS failed: {err.reason or err}"
    return getattr(err, "strerror", None) or str(err)


def _password(config: Config) -> str | None:
    if config.password_file is None:
        return None
    path = _secret(config.password_file, "mqtt.password_file")
    try:
        password = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as err:
        raise ConfigError(f"mqtt.password_file: cannot read {path}: {_words(err)}") from err
    if not password:
        raise ConfigError(f"mqtt.password_file: {path} is empty; write the password into it")
    return password


def _secret(path: Path, key: str) -> Path:
    """Where the secret lies: a systemd credential of that name, or a file that nobody else can read."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and path.name == str(path) and (credential := Path(credentials, path)).exists():
        return credential
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as err:
        raise ConfigError(f"{key}: cannot read {path}: {err.strerror}; create it with mode 0600") from err
    if mode & 0o077:
        raise ConfigError(f"{key}: {path} has mode {mode:04o}, others can read the secret; run: chmod 600 {path}")
    return path


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate and checks the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    ca, cert, key = config.tls.ca, config.tls.cert, config.tls.key
    try:
        if ca:
            context.load_verify_locations(ca)
        else:
            context.load_default_certs()
    except OSError as err:
        raise ConfigError(f"mqtt.tls.ca: cannot use {ca}: {_words(err)}") from err
    if cert:
        secret = _secret(key or cert, "mqtt.tls.key" if key else "mqtt.tls.cert")
        try:
            context.load_cert_chain(cert, secret, password="")  # else OpenSSL asks at the terminal
        except OSError as err:
            raise ConfigError(f"mqtt.tls.cert: cannot use {cert} with the key in {secret}: {_words(err)}") from err
    return context
