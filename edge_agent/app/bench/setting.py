"""What is measured with: configurations, a broker, and the folder where all of it lies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from edge_agent import plugins
from edge_agent.app.bench.stand import FRAME, FULL, LINE
from edge_agent.app.demo import toml
from edge_agent.app.demo.children import Child, ChildDiedError, own_command
from edge_agent.app.demo.trial import write_arm
from edge_agent.app.engine import open_engine
from edge_agent.app.road import choose_profile, engine_request
from edge_agent.config import Loaded, load
from edge_agent.core.datatypes import Image
from edge_agent.errors import UsageError
from edge_agent.hardware.profile import Choice
from edge_agent.runtime.engine import Engine

DEVICE = {"site": "bench", "area": "bench", "line": "1", "cell": "bench"}
NO_END_MS = 60_000.0  # no verdict is to be late, whatever the engine takes: what is measured is how long it takes
PICTURE = "picture.jpg"
_ARM_S = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `size` is (width, height); `decoder` a table as in `[model.decoder]`."""

    model: Path
    backend: str = "auto"
    labels: Path | None = None
    decoder: Mapping[str, Any] | None = None
    threads: int | None = None
    size: tuple[int, int] = (1280, 720)
    source: Path | None = None
    jpeg: bool = False
    health: bool = False
    cameras: int = 1
    compare: str | None = None
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What runs. `part`: what the model sees most often in the frames; `defect`: what it sees least, so that most parts pass.

    `detections` are those of a frame, on average.
    """

    choice: Choice
    path: Path
    backend: str
    runtime: str
    decoder: str
    part: str
    defect: str
    detections: int


@dataclass(frozen=True, slots=True)
class Setting:
    """Where it is measured: `publisher` is the table that says where verdicts go."""

    wish: Wish
    folder: Path
    publisher: Mapping[str, Any]
    frames: Sequence[Image] = field(repr=False)

    def with_model(self, model: Path, backend: str) -> "Setting":
        """The same with another engine."""
        return replace(self, wish=replace(self.wish, model=model, backend=backend))

    def write_picture(self) -> None:
        """The frame that a process of its own looks at."""
        cv2.imwrite(str(self.folder / PICTURE), self.frames[0])

    def look(self) -> Subject:
        """Opens the model once, and closes it.

        Raises:
            ConfigError: it cannot be used.
        """
        config = self.load("look", [self._camera(FRAME)]).config
        _, choice = choose_profile(config)
        engine = open_engine(engine_request(config, choice), or_stand_in=True)
        with closing(engine.backend):
            found = [name for frame in self.frames for name in _names(engine, frame)]
            names = sorted(engine.model.labels, key=found.count)
            return Subject(
                choice,
                config.model.path,
                engine.backend_kind,
                engine.backend.runtime,
                engine.decoder_kind,
                names[-1],
                names[0],
                round(len(found) / len(self.frames)),
            )

    def agent(self, name: str, subject: Subject) -> Loaded:
        """The configuration of an agent on the stand."""
        line = {"kind": "line", "parts": [subject.part], "line": [[0.5, 0.0], [0.5, 1.0]]}
        rules = self._rules(subject)
        many = [f"{FRAME}-{number}" for number in range(1, self.wish.cameras + 1)] if self.wish.cameras > 1 else []
        cameras = [self._camera(one, rules=rules) for one in (FRAME, *many)]
        cameras += [self._camera(LINE, rules=rules, trigger=line), self._camera(FULL, rules=rules, fps=0.0)]
        return self.load(name, cameras)

    def process(self, name: str, subject: Subject, fps: float) -> Loaded:
        """The configuration of one that is started as a process of its own."""
        return self.load(name, [self._camera(FRAME, rules=self._rules(subject), fps=fps)])

    def load(self, name: str, cameras: Sequence[Mapping[str, Any]]) -> Loaded:
        """Writes the configuration and reads it.

        Raises:
            ConfigError: the wish cannot be fulfilled.
        """
        wish, path = self.wish, self.folder / f"{name}.toml"
        tables = {
            "device": {"id": f"bench-{name}", **DEVICE},
            "hardware": {"backend": wish.backend, "threads": wish.threads, "tensorrt": {"build": "before"}},
            "model": {"path": wish.model.absolute(), "labels": wish.labels and wish.labels.absolute()}
            | ({"decoder": wish.decoder} if wish.decoder else {}),
            "verdict": {"deadline_ms": NO_END_MS, "valid_ms": 10 * NO_END_MS, "unknown_in_row": 0, "reject_in_row": 0},
            "records": {"folder": self.folder / name},
            "cameras": cameras,
            "log": {"format": "json"},
            **self.publisher,
        }
        path.write_text(toml.document(tables), "utf-8")
        return load(path)

    def _camera(
        self,
        name: str,
        *,
        rules: Sequence[Mapping[str, Any]] = (),
        trigger: Mapping[str, Any] | None = None,
        fps: float = 1.0,
    ) -> dict[str, Any]:
        return {
            "id": name,
            "kind": "replay",
            "source": self.folder / PICTURE,
            "fps": fps,
            "loop": True,
            "trigger": trigger or {"kind": "frame"},
            "rules": rules,
            "health": {} if self.wish.health else None,
        }

    def _rules(self, subject: Subject) -> list[dict[str, Any]]:
        return [{"kind": "defect", "reject": [subject.defect]}]


def sibling(model: Path, backend: str) -> Path:
    """The model as that backend reads it: the same file, or one of the same name beside it.

    Raises:
        UsageError: there is no such backend, or no such file.
    """
    known = plugins.kinds("backends")
    if backend not in known:
        raise UsageError(f"--compare: there is no engine {backend!r}; there are {', '.join(known)}")
    suffixes = plugins.load("backends", backend).SUFFIXES
    if backend == "tensorrt":
        suffixes = (".onnx", *suffixes)
    for path in (model, *(model.with_suffix(suffix) for suffix in suffixes)):
        if path.suffix.lower() in suffixes and path.exists():
            return path
    raise UsageError(
        f"--compare: {backend} reads {', '.join(suffixes)} files: {model} is none, and beside it there is none of its name"
    )


def _names(engine: Engine, frame: Image) -> Iterator[str]:
    detections, _ = engine.look(frame)
    for index in detections.classes.tolist():
        yield engine.model.labels[index]


def start_arm(loaded: Loaded, folder: Path, started: list[Child]) -> None:
    """A reject arm that hears the verdicts, as on a line; returns when it listens.

    Raises:
        ChildDiedError: it ended by itself, or hears nothing.
    """
    own = folder / f"arm-{loaded.path.stem}"
    own.mkdir()
    path = write_arm(loaded.config, own, ack=False)
    arm = Child(own.name, own_command("reject-arm", "--config", path), own)
    started.append(arm)
    until_s = time.monotonic() + _ARM_S
    while "arm_connected" not in arm.log_file.read_text("utf-8", "replace"):
        arm.check()
        if time.monotonic() > until_s:
            raise ChildDiedError(f"the reject arm did not connect within {_ARM_S:.0f} s{arm.log_end()}")
        time.sleep(0.02)
