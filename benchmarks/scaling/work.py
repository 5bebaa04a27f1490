"""Our own work on a frame as it grows: rules, detections, pixels. The engine is a recording that takes no time.

The real road, in this process: preprocessing, decoder, tracker, rules and messages, up to the connection. Time is
simulated, so that the tracker sees pictures that come evenly; how long the work takes is measured by the system's clock.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rig
from benchmarks.scaling.charts import Chart
from edge_agent.app.demo import toml
from edge_agent.app.engine import make_decoder
from edge_agent.app.lockstep import START_NS, START_UTC
from edge_agent.app.road import build_road
from edge_agent.backends import recorded
from edge_agent.clock import SimulatedClock
from edge_agent.config import load
from edge_agent.core.datatypes import Array, Frame, Image, TensorSpec, Thresholds
from edge_agent.core.ports import Message
from edge_agent.decoders import yolo
from edge_agent.runtime.mailbox import Taken

STEP_NS = 40_000_000  # 25 frames a second
STEPS = 5  # pictures in which a part moves on by the distance to the next: then the recording begins again
FILLED = 0.7  # of that distance is the part itself
BLOCK = 4 * STEPS  # frames of a case in a row
WARM = STEPS  # of them are not counted: they find the caches of the case before
LABELS = {"0": "part", "1": "defect"}
SIZES = {"1280x720": (1280, 720), "1920x1080": (1920, 1080), "3840x2160": (3840, 2160)}
NUMBERS = (1, 10, 100, 1000)


class Nowhere:
    """Stands in for both connections; the message is complete when it comes here."""

    connections = 1

    def send(self, message: Message) -> bool:  # noqa: ARG002 - the port's
        """A verdict."""
        return True

    def put(self, kind: str, message: Message) -> None:
        """A result or an event."""


@dataclass(frozen=True, slots=True)
class Case:
    """One point of a chart."""

    chart: Chart
    line: str
    x: object
    judge: Callable[[], None]
    means_ms: list[float] = field(default_factory=list)

    def run(self) -> None:
        """A block of frames. Their mean counts: where parts cross the line a frame costs more than the next."""
        for _ in range(WARM):
            self.judge()
        began_ns = time.perf_counter_ns()
        for _ in range(BLOCK - WARM):
            self.judge()
        self.means_ms.append((time.perf_counter_ns() - began_ns) / 1e6 / (BLOCK - WARM))

    def tell(self) -> None:
        """Into the chart: the median of the blocks, for the machine does other things too."""
        self.chart.add(self.line, self.x, statistics.median(self.means_ms))


class Station:
    """A road of its own: one camera, one recording, so many rules."""

    def __init__(self, folder: Path, model: Path, image: Image, **camera: Any) -> None:
        folder.mkdir()
        config = rig.agent_config(1883, model, folder, fps=0)
        config["cameras"] = [{**config["cameras"][0], **camera}]
        config["verdict"] = {"deadline_ms": 1000, "valid_ms": 2000}
        path = folder / "agent.toml"
        path.write_text(toml.document(config))
        self._clock = SimulatedClock(START_NS, START_UTC)
        self._road = build_road(load(path), Nowhere(), Nowhere(), session="5ca1e", clock=self._clock)
        self._engine = self._road.pipeline.open()
        decoder = yolo.Config(head="end2end", boxes="normalised")
        self._road.pipeline.tune(lambda spec: make_decoder(decoder, spec, Thresholds(max_detections=max(NUMBERS))))
        self._image, self._seq = image, 0

    @property
    def verdicts(self) -> dict[str, int]:
        """By word."""
        return self._road.desk.verdicts

    def judge(self) -> None:
        """The next frame."""
        self._seq += 1
        self._clock.go_to(START_NS + self._seq * STEP_NS)
        frame = Frame(self._image, self._seq, self._clock.mono_ns())
        self._road.pipeline.judge(self._engine, Taken(0, frame, None))


def belt(parts: int, finds: int = 0) -> Iterator[Array]:
    """`(N, 6)` of each picture: rows of parts that go to the right and come in again on the left, with finds on them."""
    columns = round(np.ceil(np.sqrt(parts * 16 / 9)))
    pitch = np.array([1 / columns, 1 / -(-parts // columns)])
    index = np.arange(parts)
    start = np.stack([index % columns, index // columns], axis=1) + 0.5
    for step in range(STEPS):
        places = start + np.array([step / STEPS, 0])
        places[:, 0] %= columns
        boxes = _boxes(places * pitch, pitch * FILLED)
        found = np.arange(finds) % parts
        marks = _boxes(places[found] * pitch, pitch * FILLED / 8)
        scores = np.linspace(0.9, 0.6, parts + finds)
        classes = np.repeat([0, 1], [parts, finds])
        yield np.column_stack([np.concatenate([boxes, marks]), scores, classes]).astype(np.float32)


def _boxes(middles: Array, extent: Array) -> Array:
    boxes: Array = np.concatenate([middles - extent / 2, middles + extent / 2], axis=1).clip(0, 1)
    return boxes


def recording(path: Path, pictures: Sequence[Array], side: int = 64) -> Path:
    """A model that finds that, in pictures of so many pixels a side; what is padded there is added here."""
    image = TensorSpec("images", (1, side, side, 3), np.dtype(np.float32))
    padded = [
        found * np.array([1, 9 / 16, 1, 9 / 16, 1, 1]) + np.array([0, 7 / 32, 0, 7 / 32, 0, 0]) for found in pictures
    ]
    metadata = {"task": "detect", "stride": 32, "names": LABELS, "end2end": True}
    recorded.save(path, [image], [[found[None].astype(np.float32)] for found in padded], metadata)
    return path


LINE = {"kind": "line", "parts": ["part"], "line": [[0.5, 0.0], [0.5, 1.0]], "direction": "right"}
FRAME = {"kind": "frame"}


def rules(number: int) -> list[dict[str, Any]]:
    """So many, of each kind in turn; none of them rejects."""
    kinds: list[dict[str, Any]] = [
        {"kind": "defect", "reject": ["defect"], "min_score": 0.99, "unsure_score": 0.99},
        {"kind": "count", "label": "part", "min": 0},
        {"kind": "presence", "require": ["part"]},
    ]
    return [{**kinds[index % 3], "name": f"rule {index}"} for index in range(number)]


def detections(folder: Path) -> Iterator[Case]:
    """More and more in a frame, for both triggers."""
    chart = Chart("detections", "Detections in a frame", "detections", "ms a frame, without the engine", log=True)
    image = np.zeros((720, 1280, 3), np.uint8)
    for number in NUMBERS:
        all_parts = recording(folder / f"parts-{number}.npz", list(belt(number)))
        finds = recording(folder / f"finds-{number}.npz", list(belt(min(number, 8), max(number - 8, 0))))
        for line, model, trigger in (
            ("frame trigger", all_parts, FRAME),
            ("line trigger, all of them parts", all_parts, LINE),
            ("line trigger, 8 parts and what is found on them", finds, LINE),
        ):
            name = f"{line.replace(' ', '-')}-{number}"
            station = Station(folder / name, model, image, trigger=trigger, rules=rules(1))
            yield Case(chart, line, number, station.judge)


def many_rules(folder: Path) -> Iterator[Case]:
    """More and more of them."""
    chart = Chart("rules", "Rules", "rules", "ms a frame, without the engine", log=True)
    image = np.zeros((720, 1280, 3), np.uint8)
    for found in (1, 100):
        model = recording(folder / f"found-{found}.npz", list(belt(found)))
        line = f"{found} detection{'s' * (found > 1)}"
        for number in NUMBERS[:3]:
            station = Station(folder / f"{found}-{number}", model, image, trigger=FRAME, rules=rules(number))
            yield Case(chart, line, number, station.judge)


def sizes(folder: Path) -> Iterator[Case]:
    """Larger and larger frames, with and without the camera's health."""
    chart = Chart("frame size", "Size of the frame", "pixels", "ms a frame, without the engine")
    random = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        image = np.clip(random.normal(110, 40, (height, width, 3)), 0, 255).astype(np.uint8)
        for side, watched in ((320, False), (640, False), (640, True)):
            model = recording(folder / f"{name}-{side}-{watched}.npz", list(belt(4)), side)
            line = f"a {side} model{', camera health watched' * watched}"
            health = {"health": {"enabled": True}} if watched else {}
            own = folder / f"{name}-{side}-{watched}"
            station = Station(own, model, image, trigger=FRAME, rules=rules(1), **health)
            yield Case(chart, line, name, station.judge)


QUESTIONS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "rules": many_rules,
    "detections": detections,
    "frames": sizes,
}


def measure(question: str, folder: Path, rounds: int, begin: Callable[[str], None]) -> Chart:
    """All cases take turns, so that a machine that slows down favours none."""
    folder.mkdir()
    cases = list(QUESTIONS[question](folder))
    for number in range(rounds):
        begin(f"{question}, round {number + 1}")
        for case in cases[:: -1 if number % 2 else 1]:
            case.run()
    for case in cases:
        case.tell()
    return cases[0].chart
