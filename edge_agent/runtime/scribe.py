"""What every message has in common: who speaks, and the number that is next on each topic."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import ModelSpec
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics

MODEL_NAME_BYTES = 48
UNKNOWN_CLOCK = wire.Clock(synced=None, max_error_ms=None)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the same in every message of a session, but for what a reload may change."""

    device: str
    agent_version: str
    python: str
    board: str
    profile: str
    config_sha256: str
    cameras: tuple[wire.CameraInfo, ...]
    on_unknown: wire.Action
    on_agent_loss: wire.Action
    deadline_ms: float
    valid_ms: float
    session: str


class Scribe:
    """Numbers and dates messages. `read_wall_clock` is asked for every verdict, so it must be quick. `engine`, `model` and `labels` are known once the engine is loaded."""

    def __init__(
        self,
        identity: Identity,
        topics: Topics,
        clock: Clock = SYSTEM,
        read_wall_clock: Callable[[], wire.Clock] = lambda: UNKNOWN_CLOCK,
    ) -> None:
        self.identity = identity
        self.topics = topics
        self.clock = clock
        self._read_wall_clock = read_wall_clock
        self.engine: wire.Engine | None = None
        self.model: wire.Model | None = None
        self.labels: Sequence[str] = ()
        self._lock = threading.Lock()
        self._seqs: dict[str, int] = {}
        self._topic_locks: dict[str, threading.Lock] = {}

    def introduce(self, engine: wire.Engine, model: ModelSpec) -> None:
        """From now on messages name this engine and this model."""
        self.engine, self.labels = engine, tuple(wire.cut(label) for label in model.labels)
        version = model.version and wire.cut(model.version, MODEL_NAME_BYTES)
        self.model = wire.Model(name=wire.cut(model.name, MODEL_NAME_BYTES), version=version, sha256=model.sha256)

    @property
    def wall_clock(self) -> wire.Clock:
        """What the kernel says of the wall clock now: its bound on the error grows by half a millisecond a second."""
        return self._read_wall_clock()

    @contextmanager
    def page(self, topic: str) -> Iterator[dict[str, Any]]:
        """The common fields of the next message of a topic; its number is used up.

        Whoever holds the page is alone on its topic, so that messages go out in the order of their numbers.
        """
        with self._lock:
            lock = self._topic_locks.setdefault(topic, threading.Lock())
        with lock:
            seq = self._seqs[topic] = self._seqs.get(topic, 0) + 1
            yield self.head(seq)

    def head(self, seq: int) -> dict[str, Any]:
        """The common fields, now, with a number that uses up none."""
        who, now_ns = self.identity, self.clock.mono_ns()
        return {"device": who.device, "session": who.session, "seq": seq, "at": self.clock.utc_of(now_ns)}
