"""What is compared: models and pictures, and who works on them, each a process of its own with a subscriber outside."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks import rig
from benchmarks.peers.line import Image, read
from benchmarks.verdicts import Ear
from edge_agent.app.demo import toml
from edge_agent.app.demo.children import Child, own_command
from edge_agent.app.tether import tied
from edge_agent.models.bundled import TFLITE
from tests.fixtures import REPO, SHARED

NAMES = ("edge-agent", "plain loop", "ultralytics")
SIZES = {"1280x720": (1280, 720), "1920x1080": (1920, 1080)}
FRAMES = 4
STRETCH_S = 1.0
FIRST_S = 60.0  # a message must have come by then
LATE_MS = 10_000.0  # our deadline: everything is to be measured, however busy the machine is


Span = tuple[float, float]
"""From when until when; milliseconds, monotonic."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model; `head` is what comes out of it. ultralytics cannot run all of them."""

    path: Path
    head: str
    label: str
    photos: Path
    labels: Path | None = None
    has_ultralytics: bool = True


MODELS = SHARED / "fixtures" / "models"
PHOTOS = SHARED / "fixtures" / "images"
BELT = TFLITE.parent / "golden"  # simulated
SUBJECTS = {
    "yolo11n_640_int8": Subject(MODELS / "yolo11n_640_int8.tflite", "yolo", "bus", PHOTOS),
    "yolo11n_416_int8_full": Subject(MODELS / "yolo11n_416_int8_full.tflite", "yolo", "bus", PHOTOS),
    "yolov8n_320_int8_nms": Subject(MODELS / "yolov8n_320_int8_nms.tflite", "nms", "bus", PHOTOS),
    "yolox_nano_416": Subject(
        MODELS / "yolox_nano_416_coco.onnx",
        "yolox",
        "bus",
        PHOTOS,
        MODELS / "yolox_nano_416_coco.txt",
        has_ultralytics=False,
    ),
    "bottles": Subject(TFLITE, "yolo", "crack", BELT),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One message at the subscriber. Milliseconds: when it came (monotonic), and lengths of time."""

    received_ms: float
    infer_ms: float | None  # None: it was not judged
    to_result_ms: float  # from the frame until it is known what is in it
    to_subscriber_ms: float
    found: int | None  # where it says so

    @property
    def began_ms(self) -> float:
        """When the frame was there."""
        return self.received_ms - self.to_subscriber_ms

    @property
    def done_ms(self) -> float:
        """When it was known what is in it."""
        return self.began_ms + self.to_result_ms


@dataclass(frozen=True, slots=True)
class Window:
    """What one process did while it was looked at."""

    cold_start_s: float
    rss_mb: float
    seen: list[Seen]
    pauses: list[Span]  # in which it was not allowed to run

    def intervals(self) -> list[tuple[float, Seen]]:
        """Milliseconds from one message to the next, with the latter; without those in which there was a pause."""
        pairs = itertools.pairwise(self.seen)
        return [(it.received_ms - before.received_ms, it) for before, it in pairs if not self._paused(before, it)]

    def _paused(self, before: Seen, it: Seen) -> bool:
        return any(span[0] < it.received_ms and before.received_ms < span[1] for span in self.pauses)


def write_frames(folder: Path, size: tuple[int, int], photos: Path) -> Path:
    """Four of the photos as bitmaps of this size: quick to read, and whole before the first is looked at. The folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(photos.glob("*.jpg"))[:FRAMES]:
        cv2.imwrite(str(folder / f"{path.stem}.bmp"), filled(read(path), size))
    return folder


def filled(image: Image, size: tuple[int, int]) -> Image:
    """The middle of a picture, as large as fits the shape, scaled."""
    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    inner = round(size[0] / scale), round(size[1] / scale)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return cv2.resize(image[top : top + inner[1], left : left + inner[0]], size)


def read_peer(received_ns: int, payload: bytes) -> Seen:
    """What `benchmarks.peers.line` says."""
    said, received_ms = json.loads(payload), received_ns / 1e6
    began_ms = said["frame_ms"]
    return Seen(received_ms, said["infer_ms"], said["done_ms"] - began_ms, received_ms - began_ms, len(said["found"]))


def read_verdict(received_ns: int, payload: bytes) -> Seen:
    """`sent_mono_ms` is taken some 0.07 ms after `latency_ms.total` (docs/operations.md); that is in neither."""
    said, received_ms = json.loads(payload), received_ns / 1e6
    latency = said["latency_ms"]
    total_ms = latency["total"]
    return Seen(received_ms, latency.get("infer"), total_ms, total_ms + received_ms - said["sent_mono_ms"], None)


class Bare:
    """The engine alone, in a process that works only when it is told to."""

    def __init__(self, subject: Subject, frames: Path, threads: int) -> None:
        words: list[str | Path] = [
            "--model",
            subject.path,
            "--head",
            subject.head,
            "--frames",
            frames,
            "--threads",
            str(threads),
        ]
        self._process = subprocess.Popen(
            tied([sys.executable, "-m", "benchmarks.peers.bare", *words]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPO,
        )  # fmt: skip

    def run(self, seconds: float) -> list[float]:
        """Milliseconds of each run."""
        wishes, answers = self._process.stdin, self._process.stdout
        if wishes is None or answers is None or self._process.poll() is not None:
            raise rig.BenchmarkError("the bare engine has ended by itself; try benchmarks.peers.bare by hand")
        print(seconds, file=wishes, flush=True)
        line = answers.readline()
        if not line:
            raise rig.BenchmarkError("the bare engine gave no answer; try benchmarks.peers.bare by hand")
        runs_ms: list[float] = json.loads(line)
        return runs_ms

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


class Peer(Child):
    """A process that is compared."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The kernel does not let it run meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def rss_mb(self) -> float:
        """Its resident memory now."""
        return rig.resident_mb(self._process.pid)


def _watch(child: Peer, seconds: float, pause: Callable[[], None] | None) -> list[Span]:
    """Lets it run for so long; when it could not."""
    spans = []
    for _ in range(max(1, round(seconds / STRETCH_S))):
        time.sleep(STRETCH_S)
        if pause is not None:
            began_ms = time.monotonic_ns() / 1e6
            with child.paused():
                pause()
            spans.append((began_ms, time.monotonic_ns() / 1e6))
    return spans


@dataclass(frozen=True, slots=True)
class Course:
    """What all get: the same model, pictures, number of threads and broker. `peers` is the Python of ultralytics."""

    subject: Subject
    frames: Path
    threads: int
    port: int
    folder: Path
    peers: Path | None

    def measure(
        self, name: str, fps: float, settle_s: float, seconds: float, pause: Callable[[], None] | None = None
    ) -> Window:
        """A fresh process, looked at for some seconds, some time after its first message.

        With `pause`, which is called after each second, it does not run while that does.
        """
        folder = self.folder / f"{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        topic, reader = f"{rig.ROOT}/verdict/top", read_verdict
        if name != "edge-agent":
            topic, reader = "peer", read_peer
        ear = Ear(self.port, topic, reader)
        began_ms = time.monotonic_ns() / 1e6
        child = self._start(name, folder, fps, topic)
        try:
            if not rig.wait_until(lambda: ear.count > 0 or child.exit_code is not None, FIRST_S) or not ear.count:
                raise rig.BenchmarkError(f"{name} gave no result within {FIRST_S:.0f} s{child.log_end()}")
            time.sleep(settle_s)
            from_ms = time.monotonic_ns() / 1e6
            pauses = _watch(child, seconds, pause)
            child.check()
            until_ms, used_mb = time.monotonic_ns() / 1e6, child.rss_mb
        finally:
            child.stop()
            seen: list[Seen] = ear.end()
        inside = [it for it in seen if from_ms <= it.received_ms <= until_ms]
        return Window((seen[0].received_ms - began_ms) / 1e3, used_mb, inside, pauses)

    def _start(self, name: str, folder: Path, fps: float, topic: str) -> Peer:
        if name == "edge-agent":
            return Peer(name, self._agent(folder, fps), folder)
        python, module = sys.executable, "plain_loop"
        words = ["--head", self.subject.head]
        if name == "ultralytics":
            python, module, words = str(self.peers), "ultralytics_predict", []
        told = {"model": self.subject.path, "frames": self.frames, "fps": fps, "threads": self.threads}
        for key, value in (told | {"port": self.port, "topic": topic}).items():
            words += [f"--{key}", str(value)]
        return Peer(name, [python, "-m", f"benchmarks.peers.{module}", *words], folder)

    def _agent(self, folder: Path, fps: float) -> list[str | Path]:
        config: dict[str, Any] = rig.agent_config(self.port, self.subject.path, folder, fps=fps)
        camera = config["cameras"][0]
        camera["source"] = self.frames
        camera["rules"] = [{"kind": "defect", "reject": [self.subject.label], "min_score": 0.5}]
        config["hardware"] = {"threads": self.threads}
        config["verdict"] = {"deadline_ms": LATE_MS, "valid_ms": 2 * LATE_MS}
        if self.subject.labels is not None:
            config["model"]["labels"] = self.subject.labels
        path = folder / "agent.toml"
        path.write_text(toml.document(config))
        state = f"XDG_STATE_HOME={folder / 'state'}"
        return ["env", state, *own_command("run", "--config", path)]
