"""What every message has in common: who speaks, and the number that is next on each topic."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import ModelSpec
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics

MODEL_NAME_BYTES = 48
UNKNOWN_CLOCK = wire.Clock(synced=None, max_error_ms=None)
CLOCK_FOR_NS = 1_000_000_000  # the kernel itself changes its bound on the error once a second
STEPPED = timedelta(milliseconds=1)  # twice what a clock that is slewed gains in that time, 500 ppm at most


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


class Page:
    """The next message of one topic: whoever holds it is alone there, so messages go out in the order of their numbers.

    Entering it uses up a number, and gives the common fields. A class, because a generator takes twice as long to enter.
    """

    def __init__(self, scribe: "Scribe") -> None:
        self._scribe = scribe
        self._lock = threading.Lock()
        self._seq = 0

    def __enter__(self) -> dict[str, Any]:
        self._lock.acquire()
        self._seq += 1
        try:
            return self._scribe.head(self._seq)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Scribe:
    """Numbers and dates messages. `engine`, `model` and `labels` are known once the engine is loaded."""

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
        self._lock = threading.Lock()  # of the pages
        self._pages: dict[str, Page] = {}
        self._clock_read: tuple[int, datetime, wire.Clock] | None = None  # when, by both clocks, and what it said

    def introduce(self, engine: wire.Engine, model: ModelSpec) -> None:
        """From now on messages name this engine and this model."""
        self.engine, self.labels = engine, tuple(wire.cut(label) for label in model.labels)
        version = model.version and wire.cut(model.version, MODEL_NAME_BYTES)
        self.model = wire.Model(name=wire.cut(model.name, MODEL_NAME_BYTES), version=version, sha256=model.sha256)

    @property
    def wall_clock(self) -> wire.Clock:
        """What the kernel says of the wall clock: its bound on the error grows by half a millisecond a second.

        Where the clock was set meanwhile, what was said before holds no more.
        """
        now_ns, read = self.clock.mono_ns(), self._clock_read
        if read is None or now_ns - read[0] >= CLOCK_FOR_NS or abs(self.clock.utc_of(read[0]) - read[1]) > STEPPED:
            read = self._clock_read = now_ns, self.clock.utc_of(now_ns), self._read_wall_clock()
        return read[2]

    def page(self, topic: str) -> Page:
        """To be entered (`with`): the common fields of the next message of a topic; its number is used up."""
        page = self._pages.get(topic)
        if page is None:
            with self._lock:
                page = self._pages.setdefault(topic, Page(self))
        return page

    def head(self, seq: int) -> dict[str, Any]:
        """The common fields, now, with a number that uses up none."""
        who, now_ns = self.identity, self.clock.mono_ns()
        return {"device": who.device, "session": who.session, "seq": seq, "at": self.clock.utc_of(now_ns)}
