"""Boxes, names and lines drawn into a copy of a picture, for people on this device."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_agent.core.datatypes import Detections, Image
from edge_agent.core.lines import Direction, Segment, normal_along
from edge_agent.errors import UsageError

_COLOURS = ((66, 133, 244), (52, 168, 83), (0, 140, 255), (180, 70, 200), (200, 180, 0), (80, 80, 230))


_RED = (0, 0, 255)


def annotate(
    image: Image,
    detections: Detections,
    labels: Sequence[str],
    line: Segment | None = None,
    direction: Direction = "any",
) -> Image:
    """A copy with each detection's box, name and score; `line` is in fractions of the frame, with an arrow across it."""
    picture: Image = np.ascontiguousarray(image).copy()
    draw_on(picture, detections, labels, line, direction)
    return picture


def draw_on(
    picture: Image,
    detections: Detections,
    labels: Sequence[str],
    line: Segment | None = None,
    direction: Direction = "any",
) -> None:
    """As `annotate`, into the picture itself."""
    import cv2

    height, width = picture.shape[:2]
    stroke = max(1, round(max(height, width) / 640))
    if line is not None:
        _draw_line(picture, line, direction, 2 * stroke)
    surest_last = detections[::-1]  # on top of all others
    for box, score, class_id in zip(
        surest_last.boxes.tolist(), surest_last.scores.tolist(), surest_last.classes.tolist(), strict=True
    ):
        x1, y1, x2, y2 = (round(side) for side in box)
        colour = _COLOURS[class_id % len(_COLOURS)]
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2 * stroke)
        _write_label(picture, f"{labels[class_id]} {score:.2f}", (x1, y1), colour, stroke)


def _draw_line(picture: Image, line: Segment, direction: Direction, stroke: int) -> None:
    """The line, and from its middle an arrow the way parts cross it; both ways for `any`."""
    import cv2

    height, width = picture.shape[:2]
    start, end = ((x * width, y * height) for x, y in line)
    cv2.line(picture, _rounded(start), _rounded(end), _RED, stroke)
    normal = normal_along((start, end), direction)
    if normal is None:
        return
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    length = 0.08 * max(width, height) / (math.hypot(*normal) or 1)
    for way in (length, -length) if direction == "any" else (length,):
        tip = _rounded((x + way * normal[0], y + way * normal[1]))
        cv2.arrowedLine(picture, _rounded((x, y)), tip, _RED, stroke, tipLength=0.3)


def _rounded(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _write_label(picture: Image, text: str, corner: tuple[int, int], colour: tuple[int, int, int], stroke: int) -> None:
    """Black on the box's colour, above its corner, or inside where there is no room above."""
    import cv2

    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * stroke
    (width, height), below = cv2.getTextSize(text, font, scale, stroke)
    x, y = max(0, min(corner[0], picture.shape[1] - width)), max(corner[1], height + below)
    cv2.rectangle(picture, (x, y - height - below), (x + width, y), colour, cv2.FILLED)
    cv2.putText(picture, text, (x, y - below // 2), font, scale, (0, 0, 0), stroke, cv2.LINE_AA)


class CopyNames:
    """A file name of its own for every annotated frame, the same in every run with the same sources.

    `stem.jpg` of a picture, `stem-000012.jpg` of a frame of a video; where another frame has that name already, with
    `-2`, `-3`, ... after the stem.
    """

    def __init__(self) -> None:
        self._stems: dict[Path, str] = {}
        self._taken_stems: set[str] = set()
        self._taken: set[str] = set()

    def of(self, source: Path, number: int | None) -> str:
        """For a picture `number` is None, for a frame of a video its place in it."""
        stem = self._stems.get(source)
        if stem is None:
            stem = self._stems[source] = _free(source.stem, self._taken_stems)
        return _free(stem if number is None else f"{stem}-{number:06d}", self._taken) + ".jpg"


def _free(wanted: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it another than all before; it is taken from now on."""
    names = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def write_picture(path: Path, picture: Image) -> None:
    """Writes it as the suffix says.

    Raises:
        UsageError: OpenCV cannot write such a file, or there is no place for it.
    """
    import cv2

    try:
        ok, encoded = cv2.imencode(path.suffix or ".jpg", picture)
    except cv2.error:
        ok = False
    if not ok:
        raise UsageError(f"{path}: cannot be written as a {path.suffix or 'picture'}; use .jpg or .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
