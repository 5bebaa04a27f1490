"""One-off detection: the same engine as the daemon's, on files."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import plugins
from edge_agent.app.annotate import CopyNames, annotate, write_picture
from edge_agent.app.engine import open_engine
from edge_agent.app.engine_build import EngineBuilder
from edge_agent.app.engine_choice import TENSORRT, EngineRequest, blueprint, build_request
from edge_agent.cameras import replay
from edge_agent.config import AgentConfig, dotted
from edge_agent.config.lines import KeyPath, TOMLDecodeError, parse
from edge_agent.config.problems import faults
from edge_agent.core.datatypes import Detections, Frame, Thresholds
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, EndOfStreamError, UsageError
from edge_agent.hardware import probe
from edge_agent.hardware.profile import choose, load_all
from edge_agent.models import bare
from edge_agent.runtime.engine import Engine


@dataclass(frozen=True, slots=True)
class Request:
    """What the command was asked for."""

    model: Path
    backend: str = "auto"
    labels: Path | None = None
    threads: int | None = None
    thresholds: Thresholds = Thresholds()
    annotate_into: Path | None = None
    decoder: Any = None


class Job:
    """One call of the command: `records` does it, and the attributes say how far it is.

    Attributes:
        source: what it looks at.
        done: frames of the source that are dealt with.
        total: frames that the source has; None: not known.
        complaints: sentences for the user, about pictures that could not be read.
    """

    def __init__(self, request: Request, sources: list[Path]) -> None:
        self.source = ""
        self.done = 0
        self.total: int | None = None
        self.complaints: list[str] = []
        self._request = request
        self._sources = sources
        self._names = CopyNames()

    @property
    def is_long(self) -> bool:
        """Whether there is a folder or a video among the sources."""
        return any(source.is_dir() or _is_video(source) for source in self._sources)

    def builder(self) -> EngineBuilder | None:
        """Builds TensorRT's engine, where that was asked for by name and is not there yet; to be run before `records`.

        Raises:
            ConfigError: the model cannot be used, or no engine can be built here.
        """
        if self._request.backend != TENSORRT:
            return None
        plan = blueprint(bare.identify(self._request.model), _engine_request(self._request))
        return EngineBuilder(plan.build) if plan and plan.built() is None else None

    def records(self) -> Iterator[dict[str, Any]]:
        """A record per frame of every source, in their order.

        Raises:
            ConfigError: the model cannot be used, or a source is neither picture, folder nor video.
            UsageError: a source cannot be read; of a folder, none of its pictures.
        """
        for source in self._sources:
            replay.verify(replay.Config(source=source))
            self._refuse_to_overwrite(source)
        engine = open_engine(_engine_request(self._request))
        with closing(engine.backend):
            for source in self._sources:
                yield from self._look_at(engine, source)

    def _refuse_to_overwrite(self, source: Path) -> None:
        """Copies never go where originals lie."""
        into, folder = self._request.annotate_into, source if source.is_dir() else source.parent
        if into is not None and into.resolve().is_relative_to(folder.resolve()) and _holds_pictures(into):
            raise UsageError(f"--annotate {into}: there are pictures of {source} in it; name another folder")

    def _look_at(self, engine: Engine, source: Path) -> Iterator[dict[str, Any]]:
        try:
            with closing(replay.ReplayCamera(replay.Config(source=source))) as camera:
                self.source, self.done, self.total = replay.printable(source), 0, camera.length
                for number, frame in enumerate(_frames(camera)):
                    record = self._look(engine, source, number, frame)
                    self.done = number + 1 + camera.skipped
                    yield record
        except CameraLostError as error:
            raise UsageError(str(error)) from None
        if camera.skipped:
            self.complaints.append(_complaint(self.source, camera))

    def _look(self, engine: Engine, source: Path, number: int, frame: Frame) -> dict[str, Any]:
        detections, lap = engine.look(frame.image)
        path = source / frame.source if source.is_dir() else source
        if self._request.annotate_into is not None:
            name = self._names.of(path, number if _is_video(source) else None)
            write_picture(self._request.annotate_into / name, annotate(frame.image, detections, engine.model.labels))
        height, width = frame.image.shape[:2]
        return {
            "source": replay.printable(path),
            "frame": number,
            "width": width,
            "height": height,
            "backend": engine.backend_kind,
            "timings_ms": {
                "preprocess": round(lap.preprocess_ms, 3),
                "infer": round(lap.infer_ms, 3),
                "decode": round(lap.decode_ms, 3),
            },
            "detections": _rows(detections, engine.model.labels),
        }


def decoder_of(text: str) -> Any:
    """The decoder's configuration from the lines of a `[model.decoder]` table, with commas between them.

    Raises:
        UsageError: they are not TOML, or not what stands in such a table.
    """
    try:
        table = parse(f"decoder = {{ {text} }}")["decoder"]
    except TOMLDecodeError:
        problem = f'{text!r} is not TOML; write for example \'kind = "yolo", boxes = "pixels"\''
        raise UsageError(f"--decoder: {problem}") from None
    found: dict[KeyPath, str] = {}
    as_json = json.dumps({"model": {"path": ".", "decoder": table}}, default=str)
    try:
        AgentConfig.model_validate_json(as_json, strict=True)
    except ValidationError as error:  # always, for all else is missing
        found = {key: message for key, message in faults(error) if key[:2] == ("model", "decoder")}
    if found:
        raise UsageError("--decoder: " + "; ".join(f"{dotted(key[2:])}: {found[key]}" for key in found))
    return plugins.load("decoders", table["kind"]).Config(**table)


def _engine_request(request: Request) -> EngineRequest:
    profile = choose(probe.detect(), load_all()).profile
    return EngineRequest(
        request.model,
        profile.backends if profile else (),
        request.labels,
        request.backend,
        request.threads or (profile.threads if profile else None),
        decoder=request.decoder,
        thresholds=request.thresholds,
        build=build_request(request.model, profile),
    )


def _rows(detections: Detections, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True)
    return [
        {
            "label": labels[class_id],
            "class_id": class_id,
            "score": round(score, 5),
            "box": [round(side, 2) for side in box],
        }
        for box, score, class_id in rows
    ]


def _frames(camera: Camera) -> Iterator[Frame]:
    try:
        while True:
            yield camera.read(timeout_s=10.0)
    except EndOfStreamError:
        return


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in replay.PICTURES for path in folder.iterdir())


def _is_video(source: Path) -> bool:
    return not source.is_dir() and source.suffix.lower() not in replay.PICTURES


def _complaint(source: str, camera: replay.ReplayCamera) -> str:
    names = ", ".join(camera.unreadable) + (", ..." if camera.skipped > len(camera.unreadable) else "")
    return f"{source}: {camera.skipped} of {camera.length} pictures could not be read: {names}"
