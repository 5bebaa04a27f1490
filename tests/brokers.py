"""A real mosquitto on a free loopback port, and a subscriber that remembers what it heard.

with running_broker(tmp_path) as broker, Listener(broker.port) as listener:
    ...
    listener.wait_for(lambda heard: heard.topic.endswith("/verdict/top"))
    broker.kill()
    broker.start()          # on the same port
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from paho.mqtt.client import Client, MQTTMessage, SubscribeOptions
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.wire.schemas import misfits

HOST = "127.0.0.1"
WHERE = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # Debian: not in a user's PATH


def needs(program: str, package: str) -> str:
    """The path of a program, or a skipped test that says how to get it."""
    found = shutil.which(program, path=WHERE)
    if found is None:
        pytest.skip(f"{program} is not installed: apt install {package}")
    return found


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class Broker:
    """One mosquitto process, that may die and come back on the same port.

    `config` goes behind its `listener` line, so it may hold options of the listener (TLS) and global ones (passwords,
    ACL). Without any word on who may connect, everybody may.
    """

    def __init__(self, folder: Path, config: str = "", *, port: int | None = None) -> None:
        self.host, self.port = HOST, port or free_port()
        self.log_file = folder / f"mosquitto-{self.port}.log"
        self._program = needs("mosquitto", "mosquitto")
        self._config_file = folder / f"mosquitto-{self.port}.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    def configure(self, config: str) -> None:
        """Sets the configuration that the next `start` uses."""
        who = "" if "allow_anonymous" in config or "password_file" in config else "allow_anonymous true\n"
        user = pwd.getpwuid(os.getuid()).pw_name  # as root it would become `mosquitto` and not read the test's files
        self._config_file.write_text(f"user {user}\nlistener {self.port} {HOST}\n{config}\n{who}")

    @property
    def log(self) -> str:
        """What mosquitto has said so far."""
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        """Starts it and waits until it accepts connections."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-v", "-c", self._config_file], stderr=log, stdout=log)
        until_s = time.monotonic() + 20
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > until_s:
                pytest.fail(f"mosquitto does not come up:\n{self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it politely: clients get a DISCONNECT."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once: clients get a reset."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops it and starts it again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Makes it a black hole: connections stand, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen one go on."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Makes it read passwords and ACL anew."""
        self._signal(signal.SIGHUP)

    def _accepts(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((HOST, self.port)) == 0

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def running_broker(folder: Path, config: str = "", *, port: int | None = None) -> Iterator[Broker]:
    """A broker that is up, and gone afterwards whatever happened to it."""
    broker = Broker(folder, config, port=port)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@dataclass(frozen=True)
class Heard:
    """One message as a subscriber got it. `expiry_s` is what is left of its validity."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    received_ns: int
    expiry_s: int | None = None
    content_type: str | None = None
    payload_format: int | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The payload, parsed."""
        return json.loads(self.payload)


class Listener:
    """Subscribes with QoS 1 and remembers all it hears, in order, in `heard`. `received_ns` is CLOCK_MONOTONIC.

    `retain` of a message is true when the broker had it before the subscription. It comes back by itself when the broker
    does, and subscribes anew.

    In the end each message below `…/vision/` must fit its schema in `docs/schemas/`, or the test fails. Only what a
    listener of this process said itself, with `publish`, may be anything.
    """

    _said: ClassVar[set[tuple[str, bytes]]] = set()

    def __init__(
        self,
        port: int,
        topics: str | Sequence[str] = "#",
        *,
        username: str | None = None,
        password: str | None = None,
        client_id: str = "",
    ) -> None:
        self.heard: list[Heard] = []
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(username, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = self._hear
        self._client.connect(HOST, port, keepalive=10)
        self._client.loop_start()
        if not self._subscribed.wait(20):
            self.close()
            pytest.fail(f"the listener on port {port} got no subscription")

    def __enter__(self) -> "Listener":  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribes and disconnects; fails the test where it heard what does not fit its schema."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.__del__()  # closes its last sockets now: the collector may come in the middle of another test
        others = [heard for heard in self.heard if (heard.topic, heard.payload) not in self._said]
        if wrong := [words for heard in others for words in misfits(heard.topic, heard.payload)]:
            pytest.fail("\n".join(words[:300] for words in wrong[:10]))

    def wait_until_back(self, timeout: float = 20) -> None:
        """Until it is subscribed again, after the broker was away."""
        if not self._subscribed.wait(timeout):
            pytest.fail(f"the listener has no subscription after {timeout} s")

    def wait_for(self, predicate: Callable[[Heard], bool], timeout: float = 20) -> Heard:
        """The first message, heard already or yet to come, that the predicate holds for."""
        return self.wait_for_count(predicate, 1, timeout)[0]

    def wait_for_count(self, predicate: Callable[[Heard], bool], count: int, timeout: float = 20) -> list[Heard]:
        """The messages that the predicate holds for, once there are `count` of them."""
        with self._news:
            if not self._news.wait_for(lambda: sum(bool(predicate(heard)) for heard in self.heard) >= count, timeout):
                pytest.fail(f"{count} such messages did not come in {timeout} s; heard: {self._summary()}")
            return [heard for heard in self.heard if predicate(heard)]

    def on(self, topic_end: str) -> list[Heard]:
        """What was heard so far on topics with that end: `on("verdict/top")`."""
        with self._news:
            return [heard for heard in self.heard if heard.topic.endswith(topic_end)]

    def hear_out(self, topic: str = "factory/last") -> None:
        """Until it has heard all that the broker had before: what this one says itself comes behind that, and is not kept."""
        payload = str(time.monotonic_ns()).encode()
        self.publish(topic, payload)
        last = self.wait_for(lambda heard: (heard.topic, heard.payload) == (topic, payload))
        with self._news:
            self.heard.remove(last)

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        wait: bool = True,
    ) -> None:
        """Says something itself, and waits until the broker has it, unless it is not to wait."""
        self._said.add((topic, payload))
        properties = Properties(PacketTypes.PUBLISH)
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        said = self._client.publish(topic, payload, qos, retain, properties)
        if wait:
            said.wait_for_publish(10)

    def _subscribe(self, client: Client, *_: object) -> None:
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._topics])

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received_ns = time.monotonic_ns()
        said = message.properties.json() if message.properties else {}
        heard = Heard(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            received_ns,
            said.get("MessageExpiryInterval"),
            said.get("ContentType"),
            said.get("PayloadFormatIndicator"),
            said,
        )
        with self._news:
            self.heard.append(heard)
            self._news.notify_all()

    def _summary(self) -> str:
        return ", ".join(f"{heard.topic} {heard.payload[:60]!r}" for heard in self.heard[-20:]) or "nothing"
