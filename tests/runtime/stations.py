"""A station of the line for tests: what the runtime is made of, around a connection or an engine of the test's own."""

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.backends import recorded
from edge_agent.core.datatypes import ModelSpec, TensorSpec
from edge_agent.core.parts import Ledger
from edge_agent.core.ports import Heard, Message, Publisher, Receipt
from edge_agent.decoders import yolo
from edge_agent.errors import PublisherLostError
from edge_agent.runtime.acks import Acks
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.forms import Fire
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import UNKNOWN_CLOCK, Identity, Scribe
from edge_agent.runtime.streaks import Streaks
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics

PATIENCE_S = 20
LABELS = ("bottle", "crack", "cap")
SIDE_PX = 64
WARM_UP_CALLS = 1
TOPICS = Topics("factory", "leon", "bottling", "3", "capper", "cap-01")
OUTBOX = {"max_rows": 1000, "max_mb": 8, "drain_per_s": 10_000}


def wait_for(claim: Callable[[], object]) -> None:
    """Waits until another thread has made it true."""
    until_s = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < until_s
        time.sleep(0.005)


class Wire:
    """A publisher whose other side is the test. It confirms with `code`, or not at all where that is None.

    While `may_return` is clear, `send` sends, but does not come back.
    """

    def __init__(self, code: int | None = 0) -> None:
        self.code = code
        self.sent: list[Message] = []
        self.may_return = threading.Event()
        self.may_return.set()
        self.aborted = False
        self.refused: dict[str, str] = {}
        self._broken: str | None = None
        self._news: queue.SimpleQueue[Receipt | Heard | None] = queue.SimpleQueue()

    def send(self, message: Message) -> None:
        if self._broken:
            raise PublisherLostError(self._broken)
        self.sent.append(message)
        assert self.may_return.wait(PATIENCE_S)
        if message.token is not None and self.code is not None:
            self.confirm(message.token, self.code)

    def poll(self, timeout_s: float) -> Sequence[Receipt | Heard]:
        if self._broken:
            raise PublisherLostError(self._broken)
        try:
            item = self._news.get(timeout=min(timeout_s, 0.02))  # so that tests end soon
        except queue.Empty:
            return []
        return [item] if item else []

    def close(self, *, abort: bool = False) -> None:
        self.aborted |= abort
        self.cut("closed")

    def confirm(self, token: int, code: int = 0) -> None:
        """Lets the receipt come now."""
        self._news.put(Receipt(token, code))

    def say(self, topic: str, payload: bytes, *, retained: bool = False, expiry_s: int | None = 10) -> None:
        """Lets a message come in now."""
        self._news.put(Heard(topic, payload, retained, expiry_s, time.monotonic_ns()))

    def cut(self, reason: str = "cut") -> None:
        """The connection breaks."""
        self._broken = self._broken or reason
        self._news.put(None)

    def on(self, topic_end: str) -> list[dict]:
        """What was sent on topics with that end, parsed."""
        return [json.loads(message.payload) for message in self.sent if message.topic.endswith(topic_end)]


def one_after_the_other(*wires: Wire) -> Callable[[], Publisher]:
    """Opens the first, then the second, …; afterwards nothing can be opened."""
    left = list(wires)

    def open_() -> Publisher:
        if not left:
            raise PublisherLostError("no more connections in this test")
        return left.pop(0)

    return open_


def make_identity(*cameras: str) -> Identity:
    return Identity(
        device="cap-01",
        agent_version="0.1.0",
        python="3.11.7",
        board="a board",
        profile="generic-x86_64",
        config_sha256="c" * 64,
        cameras=tuple(wire.CameraInfo(id=camera, kind="replay", trigger="frame") for camera in cameras),
        on_unknown="reject",
        on_agent_loss="stop",
        deadline_ms=100,
        valid_ms=5000,
        session="5f0c",
    )


def make_model(**others) -> ModelSpec:
    facts = {"name": "caps", "sha256": "a" * 64, "format": "recorded", "inputs": (), "outputs": (), "labels": LABELS}
    return ModelSpec(**{**facts, **others})


class Station:
    """A desk and a herald with both connections and an outbox. `with` starts what has threads, and stops it."""

    def __init__(
        self,
        open_line: Callable[[], Publisher],
        open_records: Callable[[], Publisher] | None = None,
        *,
        cameras: Sequence[str] = ("top",),
        deadline_ms: float = 100,
        valid_ms: float = 60_000,
        results: str | float = "all",
        will: bool = False,
        acks: Acks | None = None,
        fire: Mapping[str, Fire] | None = None,
        wall_clock: wire.Clock = UNKNOWN_CLOCK,
    ) -> None:
        self.scribe = Scribe(make_identity(*cameras), TOPICS, read_wall_clock=lambda: wall_clock)
        engine = wire.Engine(backend="recorded", runtime="a recording", decoder="yolo", reason="a test")
        self.scribe.introduce(engine, make_model())
        self.ledger = Ledger(deadline_ms, valid_ms)
        self.line = Link("line", open_line)
        self.records_wire = Wire()
        self.records = Link("records", open_records or one_after_the_other(self.records_wire))
        self.outbox = Outbox(self.records, **OUTBOX)
        self.streaks = Streaks(cameras, unknown_in_row=0, reject_in_row=0)
        self.desk = Desk(
            self.scribe, self.line, self.outbox, results=results, streaks=self.streaks, acks=acks, fire=fire
        )
        self.reporter = Reporter(self.scribe, self.outbox)
        self.herald = Herald(self.scribe, self.desk, self.line, self.reporter)

    def __enter__(self):
        self.line.start()
        self.records.start()
        self.outbox.start()
        wait_for(lambda: self.line.connected and self.records.connected)
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.stop(0.1)
        self.line.stop(5)
        self.records.stop(5)

    def open_part(self, camera: str = "top", ago_ms: float = 0):
        """A part captured just now, or a while ago."""
        return self.ledger.open(camera, time.monotonic_ns() - int(ago_ms * 1e6))

    def settled(self) -> None:
        """Waits until the broker of the records has everything."""
        wait_for(lambda: self.outbox.waiting() == 0)

    def results(self) -> list[dict]:
        """Every result so far."""
        self.settled()
        return self.records_wire.on("result/top")

    def events(self) -> list[dict]:
        """Every event so far."""
        self.settled()
        return self.records_wire.on("/event")


def record(path: Path, *frames: Sequence[tuple[int, float, tuple[float, float, float, float]]], **how) -> Path:
    """A recording that sees in each frame the detections `(class, score, box)` given, in pixels of 64 x 64 pictures.

    The first frame is what the first picture after warming up shows. `hang_after` counts from there, too.
    """
    calls = []
    for found in frames:
        rows = np.zeros((1, 10, 6), np.float32)
        for row, (class_id, score, box) in enumerate(found):
            rows[0, row] = (*box, score, class_id)
        calls.append([rows])
    turned = [calls[(number - WARM_UP_CALLS) % len(calls)] for number in range(len(calls))]
    if "hang_after" in how:
        how["hang_after"] += WARM_UP_CALLS
    image = TensorSpec("images", (1, 3, SIDE_PX, SIDE_PX), np.dtype(np.float32))
    metadata = {"task": "detect", "stride": 32, "names": dict(enumerate(LABELS)), "args": {"nms": True}}
    recorded.save(path, [image], turned, metadata, **how)
    return path


def engine_of(path: Path) -> Engine:
    """The engine that plays a recording, opened as the agent does it."""
    return open_engine(EngineRequest(path, order=(), decoder=yolo.Config(head="end2end", boxes="pixels")))
