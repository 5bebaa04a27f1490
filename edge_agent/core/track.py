"""One object that moves through the picture: where it was last, how fast it goes, and whether it is one at all."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray
from edge_agent.core.matching import as_rows, centres, shares_under

Point = tuple[float, float]
Sighting = tuple[FloatArray, Point, Point, int, float]
"""A box, its centre, its width and height, class and score: numbers for Python, which is slow with those of arrays."""

SPEED_FROM = 3  # sightings: fewer do not average a bad box, more lag behind a belt that speeds up
FADE = 0.9  # of an object's claim, per frame it was missed: it may have left, and the next one be in its place
_HIDDEN = 0.67  # share of a new box under another: more is the same object again; equal boxes with an IoU of 0.5
_FILLED = 0.9  # share of a new box under several others: more is these others once more, in one box


@dataclass(slots=True, eq=False)
class Track:
    """One object. `centre` and `previous` are in frame pixels; `previous` is None in its first frame."""

    id: int
    box: FloatArray  # (4,) xyxy in frame pixels
    class_id: int
    score: float
    centre: Point
    seen_ns: int
    previous: Point | None = None
    moved: bool = False  # by half its size at least, since it came
    is_shadow: bool = False  # began under others, and did not stand on ground of its own yet
    velocity: Point = (0.0, 0.0)  # pixels per picture
    hits: int = 1
    start: Point = (0.0, 0.0)
    missed_frames: int = 0
    path: deque[tuple[float, Point]] = field(default_factory=lambda: deque(maxlen=SPEED_FROM))  # picture, centre

    def move(self, sighting: Sighting, now_ns: int, picture: float) -> None:
        """Takes it as the newest one."""
        self.box, (x, y), (width, height), self.class_id, self.score = sighting
        self.previous, self.centre = self.centre, (x, y)
        self.seen_ns, self.hits, self.missed_frames = now_ns, self.hits + 1, 0
        self.path.append((picture, self.centre))
        way = (abs(x - self.start[0]), abs(y - self.start[1]))
        self.moved = self.moved or way[0] > width / 2 or way[1] > height / 2
        then, (x_then, y_then) = self.path[0]
        self.velocity = ((x - x_then) / (picture - then), (y - y_then) / (picture - then))

    @property
    def claim(self) -> float:
        """What its overlap with a box counts; that of a shadow less than of any object that should be there."""
        return float(FADE**self.missed_frames * (0.5 if self.is_shadow else 1))


def sightings_of(boxes: FloatArray, classes: Sequence[int], scores: Sequence[float]) -> list[Sighting]:
    """Of each of the boxes `(N, 4)` with its class and score."""
    extents = [(right - left, bottom - top) for left, top, right, bottom in boxes.tolist()]
    return list(zip(boxes, map(tuple, centres(boxes).tolist()), extents, classes, scores, strict=True))


def lift_shadows(seen: list[Track]) -> None:
    """Marks new tracks under others as shadows, and ends it for those that stand on their own ground now."""
    doubtful = [index for index, track in enumerate(seen) if track.hits == 1 or track.is_shadow]
    if not doubtful:
        return
    boxes = as_rows([track.box for track in seen])
    under = dict(zip(doubtful, shares_under(boxes[doubtful], boxes), strict=True))
    for index, shares in under.items():
        shares[index] = 0  # under itself
    is_solid = np.ones(len(seen), bool)
    is_solid[doubtful] = False
    for index in sorted(doubtful, key=lambda index: (_is_several(under[index]), -seen[index].score)):
        track, shares = seen[index], under[index][is_solid]
        hidden = bool(shares.max(initial=0) > _HIDDEN) or _is_several(shares)
        was_shadow, track.is_shadow = track.is_shadow, hidden
        if not hidden:
            is_solid[index] = True
            track.previous = None if was_shadow else track.previous


def _is_several(shares: Array) -> bool:
    """Whether a box that lies so far under each of others, `(N,)`, is these others once more."""
    return bool(shares.max(initial=0) <= _HIDDEN and shares.sum() > _FILLED)
