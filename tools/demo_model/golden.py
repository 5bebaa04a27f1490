"""The golden set: pictures, and what both files find in them, for tests of engines on other machines."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.core.datatypes import Detections, Image, Thresholds
from edge_agent.runtime.engine import Engine
from tools.demo_model.pictures import GOLDEN, hard, of_line, usual

PICTURES = 8
_CONF = 0.4
_CLEAR = 0.15  # no score is so near to the threshold that another rounding could add or take a detection
_TOLERANCES = {".onnx": {"box_px": 2.0, "score": 0.03}, ".tflite": {"box_px": 8.0, "score": 0.06}}
"""Other processors round otherwise; in int8 one step is 5 px of the frame's height or width, or 0.004 of a score."""

_TRIES = 400
_QUALITY = 90


def write(folder: Path, models: list[Path]) -> None:
    """`line-SEED.jpg` and `expected.json`, half of them of usual lines, half of hard ones.

    Raises:
        RuntimeError: too few pictures have clear detections only; the model is not good enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    expected: dict[str, Any] = {}
    with ExitStack() as stack:
        engines = [_open(model, stack) for model in models]
        for seed in range(GOLDEN, GOLDEN + _TRIES):
            if len(expected) == PICTURES:
                break
            jpeg = _jpeg(seed, is_hard=len(expected) >= PICTURES // 2)
            found = [engine.look(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[0] for engine in engines]
            if all(map(_is_clear, found)):
                name = f"line-{seed}.jpg"
                jpeg.tofile(folder / name)
                rows = [_rows(engine, detections) for engine, detections in zip(engines, found, strict=True)]
                expected[name] = {model.name: row for model, row in zip(models, rows, strict=True)}
    if len(expected) < PICTURES:
        raise RuntimeError(f"only {len(expected)} of {PICTURES} pictures have clear detections; train longer")
    tolerances = {model.name: _TOLERANCES[model.suffix] for model in models}
    document = {"conf": _CONF, "tolerances": tolerances, "pictures": expected}
    (folder / "expected.json").write_text(json.dumps(document, indent=1) + "\n")


def _open(model: Path, stack: ExitStack) -> Engine:
    engine = open_engine(EngineRequest(model, (), thresholds=Thresholds(conf=_CONF - _CLEAR)))
    stack.callback(engine.backend.close)
    return engine


def _jpeg(seed: int, *, is_hard: bool) -> Image:
    """The third picture of a line, as a file."""
    pictures = of_line((hard if is_hard else usual)(seed))
    frame = [next(pictures) for _ in range(3)][-1].frame
    return np.asarray(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _is_clear(found: Detections) -> bool:
    return bool(len(found)) and not (np.abs(found.scores - _CONF) < _CLEAR).any()


def _rows(engine: Engine, found: Detections) -> list[dict[str, Any]]:
    """What is found, best first, as `edge-agent detect --json` has it."""
    kept = found[found.scores > _CONF]
    return [
        {"label": engine.model.labels[number], "score": round(score, 3), "box": [round(side, 1) for side in box]}
        for box, score, number in zip(kept.boxes.tolist(), kept.scores.tolist(), kept.classes.tolist(), strict=True)
    ]
