"""Records what a real detector finds on a belt: cut-outs of photos are moved through a picture as the scenes say.

    python scripts/record_sequences.py MODEL PHOTO LABEL [LABEL...] --into FOLDER [--only NAME]

The best LABEL in PHOTO is cut out and becomes the part; all LABELs are taken for parts, as detectors mix up some. Where
a scene says that a part is missed, a grey board hides it; a reflection is the same cut-out, left to right and weaker, as in a pane of glass.
Only what was found is written, no pixel. MODEL is anything that `edge-agent detect` runs.
"""

import argparse
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.core.datatypes import Image, Thresholds
from edge_agent.runtime.engine import Engine
from tests.belts import FRAME_MS, HIGH, RECORDED, WIDE, Scene, Sequence, Shot, box_of, tall

BELT, BOARD = (96, 104, 100), (70, 70, 70)
MIRROR = 0.6  # of the cut-out's strength


def main() -> None:
    """Records each scene that is meant for a real detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("labels", nargs="+")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    engine = open_engine(EngineRequest(arguments.model, ("tflite", "onnx"), thresholds=Thresholds(0.25, 0.7)))
    arguments.into.mkdir(parents=True, exist_ok=True)
    with closing(engine.backend):
        part = cut_out(engine, arguments.photo, arguments.labels[0])
        how = f"{arguments.model.stem} on cut-outs of {arguments.photo.name}"
        for name, (about, make) in RECORDED.items():
            if arguments.only in name:
                sequence = record(engine, tall(make()), part, replace(EMPTY, about=about, how=how), arguments.labels)
                sequence.save(arguments.into / f"{name}.jsonl")
                print(f"{name}: {len(sequence.shots)} frames, {len(sequence.crossings)} parts")


EMPTY = Sequence("", "", (), ())


def cut_out(engine: Engine, photo: Path, label: str) -> Image:
    """`(H, W, 4)` BGR and alpha of the best LABEL in the photo."""
    picture = cv2.imread(str(photo))
    if picture is None:
        raise SystemExit(f"{photo} is no picture that can be read")
    found, _ = engine.look(picture)
    boxes = [box for box, c in zip(found.boxes, found.classes, strict=True) if engine.model.labels[c] == label]
    if not boxes:
        raise SystemExit(f"the model finds no {label} in {photo}")
    left, top, right, bottom = (int(edge) for edge in boxes[0])
    mask = np.zeros(picture.shape[:2], np.uint8)
    rect = (left, top, right - left, bottom - top)
    cv2.grabCut(picture, mask, rect, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_RECT)
    alpha = cv2.GaussianBlur(np.where(mask & 1, 255, 0).astype(np.uint8), (5, 5), 0)
    return np.dstack([picture, alpha])[top:bottom, left:right]


def record(engine: Engine, scene: Scene, part: Image, head: Sequence, labels: list[str]) -> Sequence:
    """What the engine finds in each picture of the scene."""
    random, shots, names = Random(0), [], list(labels)  # noqa: S311 - the same stamps each time
    for picture in range(scene.pictures):
        stamp_ns = int((picture + scene.late * random.random()) * FRAME_MS * 1e6)
        if picture in scene.lost:
            continue
        found, _ = engine.look(draw(scene, picture, part))
        rows = []
        for box, score, class_id in zip(found.boxes, found.scores, found.classes, strict=True):
            name = engine.model.labels[class_id]
            names += [name] if name not in names else []
            rows.append((names.index(name), round(float(score), 3), *(round(float(edge), 1) for edge in box)))
        shots.append(Shot(picture, stamp_ns, tuple(rows)))
    return replace(
        head,
        shots=tuple(shots),
        crossings=tuple(picture for _, picture in scene.crossings()),
        labels=tuple(names),
        parts=tuple(labels),
        line=scene.line,
        direction=scene.direction,
    )


def draw(scene: Scene, picture: int, part: Image) -> Image:
    """One picture of the scene."""
    noise = np.random.default_rng(picture).normal(0, 3, (HIGH, WIDE, 1))
    canvas = np.clip(np.array(BELT) + noise, 0, 255).astype(np.float32)
    for number, thing in enumerate(scene.things):
        if (place := thing.path[picture]) is None:
            continue
        cut = cv2.resize(part, (round(thing.width), round(thing.height)), interpolation=cv2.INTER_AREA)
        cut, strength = (cut[:, ::-1], MIRROR) if thing.mirrors is not None else (cut, 1.0)
        _paste(canvas, cut, place, strength)
        if (number, picture) in scene.missed and (box := box_of(thing, picture)):
            left, top, right, bottom = (round(edge) for edge in box)
            canvas[top:bottom, left:right] = BOARD
    return canvas.astype(np.uint8)


def _paste(canvas: np.ndarray, cut: Image, place: tuple[float, float], strength: float) -> None:
    height, width = cut.shape[:2]
    left, top = round(place[0] - width / 2), round(place[1] - height / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, WIDE), min(top + height, HIGH)
    if x1 <= x0 or y1 <= y0:
        return
    seen = cut[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    alpha = seen[..., 3:] / 255 * strength
    canvas[y0:y1, x0:x1] += alpha * (seen[..., :3] - canvas[y0:y1, x0:x1])


if __name__ == "__main__":
    main()
