"""From detections in single frames to objects that move. Pure: time comes with the frame.

Cameras take pictures evenly, but a time stamp taken on arrival may be late by a whole interval. So the tracker counts
pictures: speeds are in pixels per picture, and time stamps only tell when pictures are missing that `seq` does not know.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Array, Detections, FloatArray
from edge_agent.core.matching import (
    around,
    best_pairs,
    centred,
    centres,
    contains,
    explained,
    overlaps_after,
    shifts_between,
    sizes,
)
from edge_agent.core.track import FADE, SPEED_FROM, Point, Track, centre_of, lift_shadows

Pairs = list[tuple[int, int]]

# The numbers below are from simulated belts: late stamps, missed frames, lost pictures, parts 0.01 to 1.5 widths apart.
USUAL_FROM, USUAL_OF = 8, 15  # intervals whose median is the usual one; with fewer it is not known
LATE_AT_MOST = 0.95  # intervals: after one the next picture would come first; less, because clocks are not exact
TREMBLE = 0.1  # of an object's size: as far a box may jump back on a belt that goes on, or stands
UNLIKELY = 0.5  # objects that something unlikely must explain more
NEVER = -9.0  # the likelihood of what cannot be
MOST_BOXES = 64  # followed in one frame, which bounds what a frame may cost
MOST_TRACKS = 2 * MOST_BOXES  # with those that are missed
SHIFTED_AT_MOST = 24  # tracks asked for one common shift
SHIFTS_OF = 10_000  # overlaps looked at for one common shift, about 2 ms at most: 100 shifts of 10 objects to 10 boxes


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When two sightings are the same object, and when an object is gone.

    An object is gone once it was missed for `max_gap_ms` and in `max_gap_frames` frames: the first keeps a fast camera
    from giving up within a blink, the second a slow one.
    """

    still_iou: float = 0.5  # with its last box, for an object that is not where it should be; less takes the next part
    first_reach: float = 0.5  # gap in box sizes, per picture, that objects may jump before any speed is known
    gain_iou: float = 0.3  # what is less likely (another count of pictures, another speed) must explain so much more
    max_gap_ms: float = 500
    max_gap_frames: int = 6  # five missed in a row are common where something hides a part


@dataclass(slots=True)
class Tracker:
    """Follows objects by their overlap with where they should be, else with where they were; the best pairs first.

    A new object is expected to move as the others do: parts on one belt move alike. Ids are never used again.
    """

    settings: TrackerSettings = field(default_factory=TrackerSettings)
    heading: Point | None = None  # the way the belt is expected to go; tells a fast row from a slow one going back
    _tracks: list[Track] = field(default_factory=list)
    _next_id: int = 1
    _flow: Point | None = None  # how objects move here, pixels per picture
    _knows_flow: bool = False  # it was measured on what did move; before, it is a guess
    _picture: float = 0.0  # the clock: pictures taken until `_settled_ns`, those that never came included
    _settled_ns: int = 0
    _frames: int = 0  # pictures since then, as far as `seq` knows
    _last: tuple[int, int] | None = None  # seq and time stamp of the last frame
    _intervals_ns: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL_OF))

    def update(self, detections: Detections, captured_ns: int, seq: int | None = None) -> tuple[list[Track], list[int]]:
        """One frame. Returns the tracks seen in it, and the ids of those given up.

        `seq` counts the camera's pictures, those that were lost included; without it every picture is taken to come.
        Of more than `MOST_BOXES` the first are followed: what matters most comes first. Else their order does not matter:
        they are sorted by place, so that of equally good pairs always the same one wins.
        """
        self._count(captured_ns, seq)
        detections = detections[:MOST_BOXES]
        detections = detections[np.lexsort(detections.boxes.T)]
        guesses, pairs = self._match(detections.boxes, captured_ns)
        for track in self._tracks:
            track.missed_frames += 1
        for row, box, column in self._sightings(guesses, detections.boxes, pairs):
            self._tracks[row].move(box, detections, column, captured_ns, self._picture)
        seen = [track for track in self._tracks if not track.missed_frames]
        self._learn_flow(seen)
        known = {column for _, column in pairs}
        seen += [self._start(detections, i, captured_ns) for i in range(len(detections)) if i not in known]
        lift_shadows(seen)
        return sorted(seen, key=attrgetter("id")), self._give_up(captured_ns)

    def _count(self, now_ns: int, seq: int | None) -> None:
        """Pictures since the last frame, and how long each took."""
        if self._last is None:
            taken = 1
        else:
            last_seq, last_ns = self._last
            taken = 1 if seq is None else max(seq - last_seq, 1)
            self._intervals_ns.append((now_ns - last_ns) / taken)
        self._last, self._frames = (seq or 0, now_ns), self._frames + taken

    def _match(self, boxes: FloatArray, now_ns: int) -> tuple[FloatArray, Pairs]:
        """Where each track should be, `(N, 4)`, and pairs of a track's and a box's index.

        Sets the clock by the count of pictures that explains the boxes best.
        """
        if self._tracks and not len(boxes):
            return boxes, []
        counts = self._counts(now_ns)
        self._frames, self._settled_ns = 0, now_ns
        if not self._tracks:
            self._picture += counts[0]
            return boxes, []
        last = np.stack([track.box for track in self._tracks])
        velocity = np.array([track.velocity * 2 for track in self._tracks], np.float32)
        unseen = np.array([[self._picture - track.path[-1][0]] for track in self._tracks], np.float32)
        guesses = [last + velocity * (unseen + np.float32(count)) for count in counts]
        still, *moved = iou(np.concatenate([last, *guesses]), boxes).reshape(-1, len(last), len(boxes))
        sums = [float(overlap.max(axis=1).sum()) for overlap in moved]
        chosen = int(sums[-1] > sums[0] + self.settings.gain_iou)
        self._picture += counts[chosen]
        guess, overlap = self._corrected(guesses[chosen], boxes, moved[chosen])
        least = np.array([[self._least_overlap(track)] for track in self._tracks])
        affinity = np.where(overlap > 0, 1 + overlap, np.where(still >= least, still, 0))
        return guess, best_pairs(affinity * np.array([[track.claim] for track in self._tracks]))

    def _corrected(self, guesses: FloatArray, boxes: FloatArray, overlap: Array) -> tuple[FloatArray, Array]:
        """Guesses and their overlaps with the boxes; moved all alike where that explains much more.

        So is the speed of the first parts found, and so a belt that stops, starts or turns at once. What never moved
        and is where it was has no part in it.
        """
        best = overlap.max(axis=1)
        stands = np.array([track.hits >= SPEED_FROM and not track.moved for track in self._tracks])
        stands &= best >= self.settings.still_iou
        seen = ~stands & [not (self._knows_flow and track.missed_frames) for track in self._tracks]
        if not seen.any() or (self._knows_flow and best[seen].min() >= self.settings.still_iou):
            return guesses, overlap
        free = (overlap[stands] < self.settings.still_iou).all(axis=0)
        rows = self._best_known(np.flatnonzero(~stands))
        shift = self._shift(guesses[rows], boxes[free], overlap[rows][:, free], rows)
        if shift is None:
            return guesses, overlap
        for row in np.flatnonzero(~stands):
            track = self._tracks[row]
            track.path = deque([track.path[-1]], SPEED_FROM)
            track.velocity = (track.velocity[0] + float(shift[0]), track.velocity[1] + float(shift[1]))
        guesses = guesses + np.where(stands[:, None], 0, np.tile(shift, 2))
        return guesses, iou(guesses, boxes)

    def _best_known(self, rows: Array) -> Array:
        """Of many tracks those that tell most about a motion that all share: seen of late, and often."""
        tracks = self._tracks
        return np.array(sorted(rows, key=lambda row: (tracks[row].missed_frames, -tracks[row].hits))[:SHIFTED_AT_MOST])

    def _shift(self, guesses: FloatArray, boxes: FloatArray, overlap: Array, rows: Array) -> FloatArray | None:
        """`(2,)` pixels by which the guesses `(N, 4)` for the tracks in `rows` are all wrong; None if they are right."""
        tracks = [self._tracks[row] for row in rows]
        size = sizes(guesses)[:, None]
        shifts = shifts_between(guesses, boxes)
        pace = np.array([[track.velocity] for track in tracks], np.float32) / size
        missed = np.array([[track.missed_frames] for track in tracks], np.float32)
        likelihood = self._likelihood(shifts / size, pace, missed)
        likely = likelihood > NEVER
        if not likely.any() or likely.size > SHIFTS_OF:
            return None
        likeliest = np.argsort(-likelihood[likely], kind="stable")[: SHIFTS_OF // likely.size]
        candidates, claims = shifts[likely][likeliest], FADE**missed
        worth = explained(overlaps_after(candidates, guesses, boxes) * claims) + likelihood[likely][likeliest]
        worth_now = explained(overlap * claims)
        if self.heading is not None and not self._knows_flow:  # new parts do not come in ahead of all others
            ahead = (centres(boxes) @ self.heading).max() - (centres(guesses) @ self.heading).max()
            room = float(size.mean()) / 2
            worth = worth - UNLIKELY * (ahead - candidates @ self.heading > room)
            worth_now -= UNLIKELY * (ahead > room)
        best = int(worth.argmax())
        return candidates[best] if worth[best] > worth_now else None

    def _likelihood(self, shifts: Array, pace: Array, missed: Array) -> Array:
        """`(N, M)` of shifts `(N, M, 2)` from guesses that were made with a pace `(N, 1, 2)`, all in sizes; 0 is best.

        A belt whose speed is known may stop at once, but neither turns within one picture nor goes sideways, nor does
        it jump further than a part is long. One that was never seen to move goes the way that is expected.
        """
        far = np.abs(shifts).max(axis=2)
        trembles = far <= 2 * TREMBLE  # both boxes may
        way = np.array(self.heading or (0, 0))
        if not self._knows_flow:
            reach = 1 + self.settings.first_reach + missed
            back = ((shifts + pace) * way).sum(axis=2) < -TREMBLE
            return np.where(
                (far > reach) | trembles, NEVER, -self.settings.gain_iou * (1 + far / reach) - UNLIKELY * back
            )
        ahead, speed = shifts + pace, np.hypot(pace[..., 0], pace[..., 1])
        onward = (ahead * pace).sum(axis=2) / np.maximum(speed, TREMBLE)
        sideways = np.abs(ahead[..., 0] * pace[..., 1] - ahead[..., 1] * pace[..., 0]) / np.maximum(speed, TREMBLE)
        trusted = (speed > TREMBLE) & ((pace * way).sum(axis=2) >= 0)
        other_way = trusted & ((onward < -TREMBLE) | (sideways > TREMBLE))
        too_far = np.abs(ahead).max(axis=2) > np.maximum(1, np.abs(pace).max(axis=2))
        too_far &= far > self.settings.first_reach  # it may go faster, by and by
        never = other_way | too_far | trembles | (missed > 0)
        return np.where(never, NEVER, -self.settings.gain_iou * (1 + far))

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

    def _sightings(self, guesses: FloatArray, boxes: FloatArray, pairs: Pairs) -> list[tuple[int, FloatArray, int]]:
        """A track's index, its box and a detection's index each.

        Of objects that touch a detector may make one box. Where a box looks more like several tracks together than
        like the one it was paired with, all of them were seen: where they should be, but around the box's centre.
        """
        paired = {row for row, _ in pairs}
        lost = np.array([i for i, t in enumerate(self._tracks) if i not in paired and t.hits > 1 and not t.is_shadow])
        if not pairs or not len(lost):
            return [(row, boxes[column], column) for row, column in pairs]
        sightings = []
        is_lost = np.ones(len(lost), bool)
        inside = contains(boxes[[column for _, column in pairs]], centres(guesses[lost]))
        for (row, column), held in zip(pairs, inside, strict=True):
            box, group = boxes[column], [row, *lost[held & is_lost].tolist()]
            if len(group) > 1 and self._looks_like_all(box, guesses[group]):
                sightings += [(i, part, column) for i, part in zip(group, centred(guesses[group], box), strict=True)]
                is_lost &= ~held
            else:
                sightings.append((row, box, column))
        return sightings

    def _looks_like_all(self, box: FloatArray, guesses: FloatArray) -> bool:
        likeness = iou(np.concatenate([around(guesses)[None], guesses]), box[None])[:, 0]
        return bool(likeness[0] > likeness[1:].max() + self.settings.gain_iou)

    def _start(self, detections: Detections, index: int, now_ns: int) -> Track:
        box = detections.boxes[index]
        class_id, score, centre = int(detections.classes[index]), float(detections.scores[index]), centre_of(box)
        track = Track(self._next_id, box, class_id, score, centre, now_ns, start=centre)
        track.velocity = self._flow or (0.0, 0.0)
        track.path.append((self._picture, centre))
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _learn_flow(self, seen: list[Track]) -> None:
        """The upper median by speed: not all on a belt need to go on, and none goes faster than the belt."""
        steady = [track.velocity for track in seen if track.moved and track.hits >= SPEED_FROM]
        self._knows_flow = self._knows_flow or bool(steady)
        if not self._knows_flow:
            steady = [track.velocity for track in seen if track.hits > 1 and (track.moved or track.hits < SPEED_FROM)]
        if steady:
            self._flow = sorted(steady, key=lambda velocity: math.hypot(*velocity))[len(steady) // 2]

    def _give_up(self, now_ns: int) -> list[int]:
        """Forgets what is gone, and of too many tracks those that were missed longest; returns their ids."""
        gone = [track for track in self._tracks if self._is_gone(track, now_ns)]
        if len(self._tracks) - len(gone) > MOST_TRACKS:
            gone = sorted(self._tracks, key=attrgetter("missed_frames"))[MOST_TRACKS:]
        ids = [track.id for track in gone]
        self._tracks = [track for track in self._tracks if track not in gone]
        return ids

    def _is_gone(self, track: Track, now_ns: int) -> bool:
        missed_ms = (now_ns - track.seen_ns) / 1e6
        return track.missed_frames >= self.settings.max_gap_frames and missed_ms >= self.settings.max_gap_ms
