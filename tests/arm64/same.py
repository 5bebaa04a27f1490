"""Whether two machines see the same: the lines of `edge-agent detect --json` of both, compared."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Found = dict[str, Any]
IOU_LEAST = 0.95
SCORE_MOST = {"tflite": 0.05, "onnx": 0.01}
"""Scores may differ by so much: the engines round differently on each processor, whole numbers the more."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one model on one picture. `iou` is the worst, `score` the largest difference, of those that are paired."""

    picture: str
    here: int
    there: int
    iou: float
    score: float
    complaints: tuple[str, ...]


def compare(here: str, there: str) -> list[Comparison]:
    """The output of both, line by line. Raises `AssertionError` where they are not of the same pictures."""
    pairs = list(zip(_lines(here), _lines(there), strict=True))
    assert pairs, "no picture was looked at"
    return [_compare(one, other) for one, other in pairs]


def _lines(text: str) -> list[Found]:
    return [json.loads(line) for line in text.splitlines()]


def _compare(one: Found, other: Found, conf: float = 0.25) -> Comparison:
    name = Path(one["source"]).name
    assert Path(other["source"]).name == name, f"{name} here, {other['source']} there"
    assert one["backend"] == other["backend"], f"{one['backend']} here, {other['backend']} there"
    tolerance = SCORE_MOST[one["backend"]]
    left: list[Found] = list(other["detections"])
    ious, scores, complaints = [1.0], [0.0], []
    for detection in one["detections"]:
        partner = max(left, key=lambda it, by=detection: _likeness(by, it), default=None)
        if partner is None or _likeness(detection, partner) < IOU_LEAST:
            if detection["score"] > conf + tolerance:  # one at the threshold may be found on one machine only
                complaints.append(f"only here: {_words(detection)}")
            continue
        left.remove(partner)
        ious.append(_iou(detection["box"], partner["box"]))
        scores.append(abs(detection["score"] - partner["score"]))
    complaints += [f"only there: {_words(it)}" for it in left if it["score"] > conf + tolerance]
    if max(scores) > tolerance:
        complaints.append(f"a score differs by {max(scores):.3f}")
    sizes = len(one["detections"]), len(other["detections"])
    return Comparison(name, *sizes, min(ious), max(scores), tuple(complaints))


def _likeness(one: Found, other: Found) -> float:
    return _iou(one["box"], other["box"]) if one["label"] == other["label"] else 0.0


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Of boxes xyxy in pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared else 0.0


def _words(detection: Found) -> str:
    return f"{detection['label']} {detection['score']:.2f} at {detection['box']}"


def table(rows: Sequence[tuple[str, Comparison]]) -> str:
    """A line for each model and picture."""
    lines = [f"{'model, processor':<42}{'picture':<20}{'here':>5}{'arm64':>6}{'least IoU':>11}{'most score':>12}"]
    for model, row in rows:
        lines.append(f"{model:<42}{row.picture:<20}{row.here:>5}{row.there:>6}{row.iou:>11.4f}{row.score:>12.4f}")
    return "\n".join(lines)
