"""One object that moves through the picture: where it was last, how fast it goes, and whether it is one at all."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from edge_agent.core.datatypes import Array, Detections, FloatArray
from edge_agent.core.matching import shares_under

Point = tuple[float, float]

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

    def move(self, box: FloatArray, detections: Detections, index: int, now_ns: int, picture: float) -> None:
        """Takes the box as the newest sighting, and label and score from the detection."""
        self.box = box
        self.previous, self.centre = self.centre, centre_of(box)
        self.class_id, self.score = int(detections.classes[index]), float(detections.scores[index])
        self.seen_ns, self.hits, self.missed_frames = now_ns, self.hits + 1, 0
        self.path.append((picture, self.centre))
        width, height = box[2] - box[0], box[3] - box[1]
        way = (abs(self.centre[0] - self.start[0]), abs(self.centre[1] - self.start[1]))
        self.moved = self.moved or bool(way[0] > width / 2 or way[1] > height / 2)
        then, (x, y) = self.path[0]
        self.velocity = ((self.centre[0] - x) / (picture - then), (self.centre[1] - y) / (picture - then))

    @property
    def claim(self) -> float:
        """What its overlap with a box counts; that of a shadow less than of any object that should be there."""
        return float(FADE**self.missed_frames * (0.5 if self.is_shadow else 1))


def centre_of(box: FloatArray) -> Point:
    """In pixels."""
    return (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)


def lift_shadows(seen: list[Track]) -> None:
    """Marks new tracks under others as shadows, and ends it for those that stand on their own ground now."""
    doubtful = [index for index, track in enumerate(seen) if track.hits == 1 or track.is_shadow]
    if not doubtful:
        return
    boxes = np.stack([track.box for track in seen])
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
