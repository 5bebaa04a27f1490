"""The pictures to train with, drawn once and kept in a file: drawing one costs as much as learning from it."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
from rich.progress import track

from edge_agent.core.datatypes import Array, FloatArray, IntArray
from tools.demo_model.net import HEIGHT, WIDTH
from tools.demo_model.pictures import LEAST_VISIBLE, PER_LINE, TRAINING, Shrink, hard, of_line

Truth = tuple[FloatArray, IntArray]
"""Of a picture: `(K, 4)` boxes, xyxy in pixels of the input, and `(K,)` classes."""


def cached(folder: Path, lines: int) -> tuple[Array, list[Truth]]:
    """`(lines * PER_LINE, HEIGHT, WIDTH, 3) uint8` RGB, in a file, and the truth of each. Goes on where it was cut off."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures, truths = folder / f"pictures-{lines}.bin", folder / f"truths-{lines}.jsonl"
    shape = (lines * PER_LINE, HEIGHT, WIDTH, 3)
    done = _read(truths)
    if not pictures.exists():
        done = {}
        truths.unlink(missing_ok=True)
        np.memmap(pictures, np.uint8, "w+", shape=shape)
    missing = [(pictures, shape, line) for line in range(lines) if line not in done]
    with multiprocessing.get_context("spawn").Pool() as pool, truths.open("a") as file:
        for line, rows in track(pool.imap_unordered(_draw, missing), "drawing pictures", len(missing)):
            done[line] = rows
            print(json.dumps([line, rows]), file=file, flush=True)
    both = [row for line in range(lines) for row in done[line]]
    found = [(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int32)) for boxes, classes in both]
    return np.memmap(pictures, np.uint8, "r", shape=shape), found


def _draw(job: tuple[Path, tuple[int, ...], int]) -> tuple[int, list[tuple[list[list[float]], list[int]]]]:
    """Draws one line's pictures into the file and gives their truth."""
    import cv2

    cv2.setNumThreads(1)
    path, shape, line = job
    into, shrink, rows = np.memmap(path, np.uint8, "r+", shape=shape), Shrink(), []
    for number, picture in enumerate(of_line(hard(TRAINING + line))):
        small, boxes = shrink(picture)
        into[line * PER_LINE + number] = small
        asked = picture.visible >= LEAST_VISIBLE
        rows.append((boxes[asked].round(2).tolist(), picture.classes[asked].tolist()))
    return line, rows


def _read(path: Path) -> dict[int, list[tuple[list[list[float]], list[int]]]]:
    if not path.exists():
        return {}
    return dict(json.loads(line) for line in path.read_text().splitlines() if line.endswith("]]"))
