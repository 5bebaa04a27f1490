"""Hears what the agent says: as a subscriber at the broker, or in the agent's standard output."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_agent.app.demo.children import Tail
from edge_agent.broker import Config, in_words, new_client
from edge_agent.errors import ConfigError, PublisherLostError
from edge_agent.wire.topics import Topics

if TYPE_CHECKING:
    from paho.mqtt.client import Client

NAMES = ("verdict", "state", "heartbeat", "event")
_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One message: `name` is its kind, `received_ns` CLOCK_MONOTONIC."""

    name: str
    payload: str
    received_ns: int


class Ear(Protocol):
    """Where messages come from."""

    def take(self) -> list[Heard]:
        """What came since the last call."""
        ...

    def close(self) -> None:
        """Listens no more."""
        ...


class OutputEar:
    """Reads the agent's standard output from a file. It has it a moment later: `received_ns` is when it was read."""

    def __init__(self, path: Path, topics: Topics) -> None:
        self._tail, self._root = Tail(path), topics.of("")

    def take(self) -> list[Heard]:
        """What came since the last call."""
        return list(self._read())

    def close(self) -> None:
        """Nothing to let go of."""

    def _read(self) -> Iterator[Heard]:
        for line in self._tail.lines():
            with suppress(ValueError, KeyError, TypeError):  # the agent's own words, whole: anything else is no message
                told = json.loads(line)
                name = _name_of(told["topic"], self._root)
                if name in NAMES:
                    yield Heard(name, json.dumps(told["payload"]), time.monotonic_ns())


class BrokerEar:
    """Subscribes to one device with the settings of `[mqtt]`; a thread of paho's receives.

    Opening it waits for the broker's consent.

    Raises:
        ConfigError: the password or a TLS file cannot be used.
        PublisherLostError: the broker cannot be reached, or refuses the connection or the subscription.
    """

    def __init__(self, config: Config, topics: Topics) -> None:
        self._where, self._root = f"{config.host}:{config.port}", topics.of("")
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._answered, self._refusal = threading.Event(), ""
        self._wanted = [topics.of(name, "+" if name == "verdict" else "") for name in NAMES]
        self._client = self._connected(config, topics.device)
        self._client.loop_start()
        if not self._answered.wait(_ANSWER_S):
            self._refusal = f"no answer within {_ANSWER_S:.0f} s"
        if self._refusal:
            self.close()
            raise PublisherLostError(f"{self._where}: {self._refusal}")

    def take(self) -> list[Heard]:
        """What came since the last call."""
        heard = []
        with suppress(queue.Empty):
            while True:
                heard.append(self._heard.get_nowait())
        return heard

    def close(self) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, config: Config, device: str) -> "Client":
        client = new_client(config, f"ea-{device}-score")
        client.on_connect = lambda _c, _u, _f, reason, _p: self._subscribe(str(reason), is_failure=reason.is_failure)
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._consent([str(r) for r in reasons if r.is_failure])
        client.on_message = lambda _c, _u, message: self._hear(message.topic, bytes(message.payload))
        try:
            client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, UnicodeError) as error:
            raise PublisherLostError(f"{self._where}: {in_words(error)}") from error
        return client

    def _subscribe(self, reason: str, *, is_failure: bool) -> None:
        if is_failure:
            self._refusal = f"the broker refuses the connection: {reason}"
            self._answered.set()
        else:
            self._client.subscribe([(topic, 1) for topic in self._wanted])

    def _consent(self, refusals: list[str]) -> None:
        if refusals:
            self._refusal = f"the broker refuses the subscription to {self._wanted[0]}: {refusals[0]}"
        self._answered.set()

    def _hear(self, topic: str, payload: bytes) -> None:
        heard = Heard(_name_of(topic, self._root), payload.decode("utf-8", "replace"), time.monotonic_ns())
        self._heard.put(heard)


def open_ear(publisher: tuple[str, Config], topics: Topics, output: Path) -> Ear:
    """The ear that fits where the agent's messages go. Raises as `BrokerEar`."""
    kind, table = publisher
    if kind == "stdout":
        return OutputEar(output, topics)
    if kind == "mqtt":
        return BrokerEar(table, topics)
    raise ConfigError(f"messages that go to {kind!r} cannot be scored")


def _name_of(topic: str, root: str) -> str:
    """Below the device's root, `verdict/top` is a verdict."""
    return topic.removeprefix(root).split("/")[0]
