"""From detections in single frames to objects that move. Pure: time comes with the frame.

Cameras take pictures evenly, but a time stamp taken on arrival may be late by a whole interval. So the tracker counts
pictures: speeds are in pixels per picture, and time stamps only tell when pictures are missing in between.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Array, Detections, FloatArray

Point = tuple[float, float]

# The numbers below are from simulated belts: late stamps, missed frames, lost pictures, parts 0.3 widths apart.
SPEED_FROM = 3  # sightings: fewer do not average a bad box, more lag behind a belt that speeds up
USUAL_FROM, USUAL_OF = 8, 15  # intervals whose median is the usual one; with fewer it is not known
FADE = 0.9  # of an object's claim, per frame it was missed: it may have left, and the next one be in its place
LATE_AT_MOST = 0.95  # intervals: after one the next picture would come first; less, because clocks are not exact


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When two sightings are the same object, and when an object is gone.

    An object is gone once it was missed for `max_gap_ms` and in `max_gap_frames` frames: the first keeps a fast camera
    from giving up within a blink, the second a slow one.
    """

    still_iou: float = 0.5  # with its last box, for an object that is not where it should be; less takes the next part
    first_reach: float = 0.5  # gap in box sizes, per picture, that objects may jump before any speed is known
    gain_iou: float = 0.3  # the less likely count of pictures must explain the boxes so much better in sum
    max_gap_ms: float = 500
    max_gap_frames: int = 3


@dataclass(slots=True)
class Track:
    """One object. `centre` and `previous` are in frame pixels; `previous` is None in its first frame."""

    id: int
    box: FloatArray  # (4,) xyxy in frame pixels
    class_id: int
    score: float
    centre: Point
    seen_ns: int
    previous: Point | None = None
    velocity: Point = (0.0, 0.0)  # pixels per picture
    hits: int = 1
    missed_frames: int = 0
    path: deque[tuple[float, Point]] = field(default_factory=lambda: deque(maxlen=SPEED_FROM))  # picture, centre


@dataclass(slots=True)
class Tracker:
    """Follows objects by their overlap with where they should be, else with where they were; the best pairs first.

    A new object is expected to move as the others do: parts on one belt move alike. Ids are never used again.
    """

    settings: TrackerSettings = field(default_factory=TrackerSettings)
    _tracks: list[Track] = field(default_factory=list)
    _next_id: int = 1
    _flow: Point | None = None  # how objects move here, pixels per picture
    _picture: float = 0.0  # the clock: pictures taken until `_settled_ns`, those that never came included
    _settled_ns: int = 0
    _frames: int = 0  # since then
    _last_ns: int | None = None
    _intervals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=USUAL_OF))

    def update(self, detections: Detections, captured_ns: int) -> tuple[list[Track], list[int]]:
        """One frame. Returns the tracks seen in it, and the ids of those given up.

        The order of the detections does not matter: they are sorted by place, so that of equally good pairs always the
        same one wins.
        """
        if self._last_ns is not None:
            self._intervals_ns.append(captured_ns - self._last_ns)
        self._last_ns, self._frames = captured_ns, self._frames + 1
        detections = detections[np.lexsort(detections.boxes.T)]
        pairs = self._match(detections.boxes, captured_ns)
        for track in self._tracks:
            track.missed_frames += 1
        for row, column in pairs:
            _move(self._tracks[row], detections, column, captured_ns, self._picture)
        seen = [self._tracks[row] for row, _ in pairs]
        self._flow = _flow_of(seen) or self._flow
        known = {column for _, column in pairs}
        seen += [self._start(detections, i, captured_ns) for i in range(len(detections)) if i not in known]
        gone = [track.id for track in self._tracks if self._is_gone(track, captured_ns)]
        self._tracks = [track for track in self._tracks if track.id not in gone]
        return sorted(seen, key=attrgetter("id")), gone

    def _match(self, boxes: FloatArray, now_ns: int) -> list[tuple[int, int]]:
        """Pairs of a track's and a box's index; sets the clock by the count of pictures that explains the boxes best."""
        if self._tracks and not len(boxes):
            return []
        counts = self._counts(now_ns)
        self._frames, self._settled_ns = 0, now_ns
        if not self._tracks:
            self._picture += counts[0]
            return []
        last = np.stack([track.box for track in self._tracks])
        velocity = np.array([track.velocity * 2 for track in self._tracks], np.float32)
        unseen = np.array([[self._picture - track.path[-1][0]] for track in self._tracks], np.float32)
        guesses = [last + velocity * (unseen + np.float32(count)) for count in counts]
        still, *moved = iou(np.concatenate([last, *guesses]), boxes).reshape(-1, len(last), len(boxes))
        sums = [float(overlap.max(axis=1).sum()) for overlap in moved]
        chosen = int(sums[-1] > sums[0] + self.settings.gain_iou)
        self._picture += counts[chosen]
        least = np.array([[self._least_overlap(track)] for track in self._tracks])
        affinity = np.where(moved[chosen] > 0, 1 + moved[chosen], np.where(still >= least, still, 0))
        if self._flow is None:
            affinity = np.maximum(affinity, self._nearness(last, boxes))
        return _best_pairs(affinity * np.array([[FADE**track.missed_frames] for track in self._tracks]))

    def _counts(self, now_ns: int) -> tuple[float, ...]:
        """How many pictures the camera took since the clock was set, the likelier number first.

        As many as there were frames, unless the stamps are further apart: then either this one is late, or pictures
        are missing.
        """
        known = len(self._intervals_ns) >= USUAL_FROM
        usual_ns = max(sorted(self._intervals_ns)[len(self._intervals_ns) // 2], 1) if known else math.inf
        missing = (now_ns - self._settled_ns) / usual_ns - self._frames
        if missing < 0.5:  # noqa: PLR2004 - rounds to none
            return (self._frames,)
        both = (self._frames, self._frames + missing)
        return both[::-1] if missing > LATE_AT_MOST else both

    def _least_overlap(self, track: Track) -> float:
        """With its last box, where an object is not found where it should be.

        Any will do for one whose speed is but a guess. No overlap will do (2 cannot be reached) for one that was missed
        when it had just come in: what is in its place now is the next part.
        """
        if track.missed_frames and track.hits < SPEED_FROM:
            return 2.0
        return self.settings.still_iou if track.hits > 1 else 1e-6

    def _nearness(self, last: FloatArray, boxes: FloatArray) -> Array:
        """1 for boxes that touch, 0 from `first_reach` on, for objects seen once."""
        gap = np.maximum(last[:, None, :2] - boxes[None, :, 2:], boxes[None, :, :2] - last[:, None, 2:])
        size = np.maximum(last[:, None, 2:] - last[:, None, :2], boxes[None, :, 2:] - boxes[None, :, :2])
        reach = np.array([[track.missed_frames + self.settings.first_reach] for track in self._tracks])
        once = np.array([[track.hits == 1] for track in self._tracks])
        return np.where(once, np.clip(1 - (gap / np.maximum(size, 1e-6)).max(axis=2) / reach, 0, 1), 0)

    def _start(self, detections: Detections, index: int, now_ns: int) -> Track:
        box = detections.boxes[index]
        class_id, score, centre = int(detections.classes[index]), float(detections.scores[index]), _centre(box)
        track = Track(self._next_id, box, class_id, score, centre, now_ns, velocity=self._flow or (0.0, 0.0))
        track.path.append((self._picture, centre))
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _is_gone(self, track: Track, now_ns: int) -> bool:
        missed_ms = (now_ns - track.seen_ns) / 1e6
        return track.missed_frames >= self.settings.max_gap_frames and missed_ms >= self.settings.max_gap_ms


def _move(track: Track, detections: Detections, index: int, now_ns: int, picture: float) -> None:
    """Takes the detection as the track's newest sighting."""
    track.box = detections.boxes[index]
    track.previous, track.centre = track.centre, _centre(track.box)
    track.class_id, track.score = int(detections.classes[index]), float(detections.scores[index])
    track.seen_ns, track.hits, track.missed_frames = now_ns, track.hits + 1, 0
    track.path.append((picture, track.centre))
    then, (x, y) = track.path[0]
    track.velocity = ((track.centre[0] - x) / (picture - then), (track.centre[1] - y) / (picture - then))


def _flow_of(tracks: list[Track]) -> Point | None:
    """The upper median by speed, so that one thing that stands still beside the belt does not count for the belt."""
    steady = [track.velocity for track in tracks if track.hits >= SPEED_FROM]
    return sorted(steady, key=lambda velocity: math.hypot(*velocity))[len(steady) // 2] if steady else None


def _best_pairs(affinity: Array) -> list[tuple[int, int]]:
    """Rows and columns, each at most once, greedily from the greatest affinity down; 0 is no pair."""
    pairs: list[tuple[int, int]] = []
    while affinity.flat[best := int(affinity.argmax())] > 0:
        row, column = divmod(best, affinity.shape[1])
        pairs.append((row, column))
        affinity[row, :] = affinity[:, column] = 0
    return pairs


def _centre(box: FloatArray) -> Point:
    return (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
