"""From detections in single frames to objects that move. Pure: time comes with the frame."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Detections, FloatArray

Point = tuple[float, float]
SPEED_OVER = (
    4  # sightings: one time stamp that is late by an interval changes the speed by a third, not many times over
)
INTERVALS = 15  # of which the median is the usual one


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When two sightings are the same object, and when an object is gone.

    An object is gone once it was missed for `max_gap_ms` and in `max_gap_frames` frames: the first keeps a fast camera
    from giving up within a blink, the second a slow one.
    """

    min_iou: float = 0.1
    max_jump: float = 0.75  # distance between centres over the box's own diagonal, where boxes do not overlap
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
    velocity: Point = (0.0, 0.0)  # pixels per second, over the sightings in `path`
    hits: int = 1
    missed_frames: int = 0
    path: deque[tuple[int, Point]] = field(default_factory=lambda: deque(maxlen=SPEED_OVER))

    def predicted(self, after_ns: float) -> FloatArray:
        """Where its box should be so long after it was seen, at constant speed: `(4,)` xyxy in frame pixels."""
        dx, dy = self.velocity[0] * after_ns / 1e9, self.velocity[1] * after_ns / 1e9
        return self.box + np.array([dx, dy, dx, dy], np.float32)


@dataclass(slots=True)
class Tracker:
    """Follows objects by predicted overlap, then by distance; the best pairs first. Ids are never used again."""

    settings: TrackerSettings = field(default_factory=TrackerSettings)
    _tracks: list[Track] = field(default_factory=list)
    _next_id: int = 1
    _last_ns: int | None = None
    _intervals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=INTERVALS))

    def update(self, detections: Detections, captured_ns: int) -> tuple[list[Track], list[int]]:
        """One frame. Returns the tracks seen in it, and the ids of those given up.

        The order of the detections does not matter: they are sorted by place, so that of equally good pairs always the
        same one wins.
        """
        if self._last_ns is not None:
            self._intervals_ns.append(captured_ns - self._last_ns)
        self._last_ns = captured_ns
        detections = detections[np.lexsort(detections.boxes.T)]
        pairs = self._match(detections, captured_ns)
        for track_index, detection_index in pairs:
            _move(self._tracks[track_index], detections, detection_index, captured_ns)
        matched_tracks = {track for track, _ in pairs}
        matched_detections = {detection for _, detection in pairs}
        for index, track in enumerate(self._tracks):
            track.missed_frames = 0 if index in matched_tracks else track.missed_frames + 1
        seen = [self._tracks[index] for index, _ in pairs]
        seen += [self._start(detections, i, captured_ns) for i in range(len(detections)) if i not in matched_detections]
        gone = [track.id for track in self._tracks if self._is_gone(track, captured_ns)]
        self._tracks = [track for track in self._tracks if track.id not in gone]
        return sorted(seen, key=lambda track: track.id), gone

    def _match(self, detections: Detections, now_ns: int) -> list[tuple[int, int]]:
        if not self._tracks or not len(detections):
            return []
        affinity = np.max([self._affinity(places, detections.boxes) for places in self._places(now_ns)], axis=0)
        pairs: list[tuple[int, int]] = []
        while affinity.size and (best := int(affinity.argmax())) >= 0:
            row, column = divmod(best, affinity.shape[1])
            if affinity[row, column] <= 0:
                break
            pairs.append((row, column))
            affinity[row, :] = 0
            affinity[:, column] = 0
        return pairs

    def _places(self, now_ns: int) -> list[FloatArray]:
        """Where the tracks may be, `(tracks, 4)` each: by the clock, by the count of frames, and where they were.

        A time stamp taken on arrival may be late by a whole interval, and the next one seems to follow at once: then the
        count tells better. A part that stops is where it was.
        """
        usual_ns = sorted(self._intervals_ns)[len(self._intervals_ns) // 2]
        return [
            np.stack([track.predicted(now_ns - track.seen_ns) for track in self._tracks]),
            np.stack([track.predicted(usual_ns * (track.missed_frames + 1)) for track in self._tracks]),
            np.stack([track.box for track in self._tracks]),
        ]

    def _affinity(self, places: FloatArray, boxes: FloatArray) -> FloatArray:
        """1 to 2 for boxes that overlap, below 1 for those that are near: `(tracks, detections)`."""
        overlap = iou(places, boxes)
        affinity: FloatArray = np.where(overlap >= self.settings.min_iou, 1 + overlap, self._nearness(places, boxes))
        return affinity

    def _nearness(self, predicted: FloatArray, boxes: FloatArray) -> FloatArray:
        """1 for the same centre, 0 from `max_jump` diagonals on: `(tracks, detections)`."""
        centres_a, centres_b = (predicted[:, :2] + predicted[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2
        distance = np.linalg.norm(centres_a[:, None] - centres_b[None], axis=2)
        diagonal = np.linalg.norm(predicted[:, 2:] - predicted[:, :2], axis=1)[:, None]
        near: FloatArray = np.maximum(0, 1 - distance / np.maximum(diagonal * self.settings.max_jump, 1e-6))
        return near

    def _start(self, detections: Detections, index: int, now_ns: int) -> Track:
        box = detections.boxes[index]
        track = Track(
            self._next_id, box, int(detections.classes[index]), float(detections.scores[index]), _centre(box), now_ns
        )
        track.path.append((now_ns, track.centre))
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _is_gone(self, track: Track, now_ns: int) -> bool:
        settings = self.settings
        missed_ms = (now_ns - track.seen_ns) / 1e6
        return track.missed_frames >= settings.max_gap_frames and missed_ms >= settings.max_gap_ms


def _move(track: Track, detections: Detections, index: int, now_ns: int) -> None:
    """Takes the detection as the track's newest sighting."""
    track.previous, track.box = track.centre, detections.boxes[index]
    track.centre, track.seen_ns, track.hits = _centre(track.box), now_ns, track.hits + 1
    track.class_id, track.score = int(detections.classes[index]), float(detections.scores[index])
    track.path.append((now_ns, track.centre))
    then_ns, then = track.path[0]
    if now_ns > then_ns:
        dt_s = (now_ns - then_ns) / 1e9
        track.velocity = ((track.centre[0] - then[0]) / dt_s, (track.centre[1] - then[1]) / dt_s)


def _centre(box: FloatArray) -> Point:
    return (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
