"""One-off detection: the same engine as the daemon's, on files."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.app.annotate import annotate, write_picture
from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.cameras import replay
from edge_agent.core.datatypes import Frame, Thresholds
from edge_agent.errors import CameraLostError, EndOfStreamError, UsageError
from edge_agent.hardware import probe
from edge_agent.hardware.profile import choose, load_all
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


def detect_all(request: Request, sources: list[Path]) -> Iterator[dict[str, Any]]:
    """A record per frame of every source, in their order.

    Raises:
        ConfigError: the model cannot be used, or a source is neither picture, folder nor video.
        UsageError: a source cannot be read.
    """
    for source in sources:
        replay.verify(replay.Config(source=source))
    profile = choose(probe.detect(), load_all()).profile
    order = profile.backends if profile else ()
    wanted = EngineRequest(
        request.model,
        order,
        request.labels,
        request.backend,
        request.threads or (profile.threads if profile else None),
        thresholds=request.thresholds,
    )
    engine = open_engine(wanted)
    with closing(engine.backend):
        for source in sources:
            for number, frame in enumerate(_frames(source)):
                yield _look(engine, source, number, frame, request.annotate_into)


def _look(engine: Engine, source: Path, number: int, frame: Frame, annotate_into: Path | None) -> dict[str, Any]:
    detections, lap = engine.look(frame.image)
    labels = engine.model.labels
    name = source / frame.source if source.is_dir() else source
    if annotate_into is not None:
        picture = annotate_into / f"{name.stem}{f'-{number:06d}' if '#' in frame.source else ''}.jpg"
        write_picture(picture, annotate(frame.image, detections, labels))
    height, width = frame.image.shape[:2]
    rows = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True)
    return {
        "source": str(name),
        "frame": number,
        "width": width,
        "height": height,
        "backend": engine.backend_kind,
        "timings_ms": {
            "preprocess": round(lap.preprocess_ms, 3),
            "infer": round(lap.infer_ms, 3),
            "decode": round(lap.decode_ms, 3),
        },
        "detections": [
            {
                "label": labels[class_id],
                "class_id": class_id,
                "score": round(score, 5),
                "box": [round(side, 2) for side in box],
            }
            for box, score, class_id in rows
        ],
    }


def _frames(source: Path) -> Iterator[Frame]:
    try:
        with closing(replay.create(replay.Config(source=source))) as camera:
            for _ in itertools.count():
                yield camera.read(timeout_s=10.0)
    except EndOfStreamError:
        return
    except CameraLostError as error:
        raise UsageError(str(error)) from None
