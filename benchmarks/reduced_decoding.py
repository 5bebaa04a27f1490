"""What `reduced_decoding` saves of a camera's JPEGs, and what it does to detections.

    python -m benchmarks.reduced_decoding [--model FILE ...] [--rounds N] [--json]

The time is that of `Preprocessor.prepare`, which decodes; both ways take turns. Detections of above 0.3 on photos, scaled to
the size of the frames and compressed as cameras do, are matched with those of the whole picture by class and overlap. What
makes the difference readable stands beside it: the whole picture again, moved by one pixel to the right and down. Photos
and models are those of the shared fixtures, where they are there, else the examples.

Example: python -m benchmarks.reduced_decoding --rounds 50
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.table import Table

from benchmarks import rig
from benchmarks.arguments import at_least, existing_file
from benchmarks.peers import line
from edge_agent.app.engine import open_engine
from edge_agent.app.engine_choice import EngineRequest
from edge_agent.cameras.opencv.pixels import decoder
from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Detections, Image, Later, Thresholds
from edge_agent.runtime.engine import Engine
from tests.fixtures import REPO, SHARED

SIZES = (1280, 720), (1920, 1080)
CAMERA_LIKE = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
SEEN, TOLD, SAME = 0.1, 0.3, 0.5  # scores from which on they are looked for, and counted; overlap of the same object
WAYS = ("reduced", "moved by a pixel")


@dataclass(slots=True)
class Difference:
    """Of detections from those of the whole picture: scores, overlaps, and the scores of those that only one has."""

    scores: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    def add(self, whole: Detections, other: Detections) -> None:
        """One picture more."""
        for found, where in ((whole, other), (other, whole)):
            pairs = iou(found.boxes, where.boxes) * (found.classes[:, None] == where.classes[None])
            for number in np.flatnonzero(found.scores > TOLD):
                best = int(pairs[number].argmax()) if len(where) else -1
                if best < 0 or pairs[number, best] < SAME:
                    (self.lost if found is whole else self.new).append(float(found.scores[number]))
                elif found is whole:
                    self.scores.append(abs(float(found.scores[number] - where.scores[best])))
                    self.overlaps.append(float(pairs[number, best]))

    def facts(self) -> dict[str, Any]:
        """In numbers."""
        return {
            "matched": len(self.scores),
            "score_mean": round(statistics.fmean(self.scores), 3),
            "score_most": round(max(self.scores), 3),
            "overlap_p5": round(float(np.percentile(self.overlaps, 5)), 3),
            "lost": [round(score, 2) for score in self.lost],
            "new": [round(score, 2) for score in self.new],
        }


def scenes(size: tuple[int, int]) -> Iterator[Image]:
    """The photos, as large as they fit."""
    folder = SHARED / "fixtures" / "images" if SHARED.is_dir() else REPO / "examples" / "photos"
    for path in sorted(folder.iterdir()):
        image = line.read(path)
        ratio = min(size[0] / image.shape[1], size[1] / image.shape[0])
        how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
        scaled = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=how)[: size[1], : size[0]]
        canvas = np.full((*size[::-1], 3), 90, np.uint8)
        top, left = (size[1] - scaled.shape[0]) // 2, (size[0] - scaled.shape[1]) // 2
        canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
        yield canvas


def given(image: Image, *, halves: bool) -> Later:
    """As the camera would give it."""
    decode = decoder("MJPG", (image.shape[1], image.shape[0]), halves=halves)
    assert decode is not None  # noqa: S101 - it is ours
    return decode(cv2.imencode(".jpg", image, CAMERA_LIKE)[1].reshape(1, -1))


def differences(engine: Engine, size: tuple[int, int]) -> dict[str, Difference]:
    """Of the ways, over all scenes."""
    found = {way: Difference() for way in WAYS}
    for scene in scenes(size):
        whole = engine.look(given(scene, halves=False))[0]
        found["reduced"].add(whole, engine.look(given(scene, halves=True))[0])
        moved = engine.look(given(np.roll(scene, (1, 1), (0, 1)), halves=False))[0]
        found["moved by a pixel"].add(whole, Detections(moved.boxes - 1, moved.scores, moved.classes))
    return found


def times(engine: Engine, size: tuple[int, int], rounds: int) -> dict[str, rig.Spread]:
    """Of `prepare`, in ms."""
    pictures = list(scenes(size))
    spent: dict[str, list[float]] = {"whole": [], "reduced": []}
    for number in range(rounds):
        for halves in (False, True) if number % 2 else (True, False):
            picture = given(pictures[number % len(pictures)], halves=halves)
            begin_ns = time.perf_counter_ns()
            engine.preprocessor.prepare(picture)
            spent["reduced" if halves else "whole"].append((time.perf_counter_ns() - begin_ns) / 1e6)
    return {way: rig.spread(values) for way, values in spent.items()}


def measure(model: Path, rounds: int, begin: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """One row per size of frames."""
    labels = model.with_suffix(".txt")
    request = EngineRequest(
        model, ("tflite", "onnx"), labels if labels.exists() else None, thresholds=Thresholds(conf=SEEN)
    )
    engine = open_engine(request)
    for size in SIZES:
        begin(f"{model.name} {size[0]}x{size[1]}")
        changed = {way: found.facts() for way, found in differences(engine, size).items()}
        prepared = {way: asdict(spread) for way, spread in times(engine, size, rounds).items()}
        yield {"model": model.name, "size": list(size), "prepare_ms": prepared, "changed": changed}
    engine.backend.close()


def table(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    shown = Table(
        "model", "frames", "whole ms", "reduced ms", "", "matched", "score: mean", "most", "overlap p5", "lost", "new"
    )
    for row in rows:
        whole, reduced = (f"{row['prepare_ms'][way]['p50']:.2f}" for way in ("whole", "reduced"))
        for way, found in row["changed"].items():
            numbers = [str(found[key]) for key in ("matched", "score_mean", "score_most", "overlap_p5")]
            first = [row["model"], "x".join(map(str, row["size"])), whole, reduced] if way == WAYS[0] else [""] * 4
            shown.add_row(*first, way, *numbers, *(" ".join(map(str, found[key])) for key in ("lost", "new")))
    return shown


def main() -> None:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fixtures = SHARED / "fixtures" / "models"
    known = sorted([*fixtures.glob("yolo*.tflite"), *fixtures.glob("yolox*.onnx")])
    parser.add_argument(
        "--model", type=existing_file, nargs="+", default=known or [REPO / "examples/models/yolox_nano_416_coco.onnx"]
    )
    parser.add_argument("--rounds", type=at_least(2), default=60, help="of each way, for the times")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    with rig.steps(len(wish.model) * len(SIZES)) as begin:
        rows = [row for model in wish.model for row in measure(model, wish.rounds, begin)]
    if wish.json:
        print(rig.as_json("reduced_decoding", {"rounds": wish.rounds}, {"rows": rows}))
    else:
        rig.show(rig.words(rig.machine()), table(rows))


if __name__ == "__main__":
    rig.run(main)
