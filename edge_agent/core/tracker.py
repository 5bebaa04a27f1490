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
    as_rows,
    best_pairs,
    centred,
    centres,
    contains,
    explained,
    overlaps_after,
    shifts_between,
    sizes,
)
from edge_agent.core.track import FADE, SPEED_FROM, Point, Sighting, Track, lift_shadows, sightings_of

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
        boxes, sightings = _by_place(detections[:MOST_BOXES])
        guesses, pairs = self._match(boxes, captured_ns)
        for track in self._tracks:
            track.missed_frames += 1
        for row, sighting in self._seen_again(guesses, boxes, sightings, pairs):
            self._tracks[row].move(sighting, captured_ns, self._picture)
        seen = [track for track in self._tracks if not track.missed_frames]
        self._learn_flow(seen)
        known = {column for _, column in pairs}
        seen += [self._start(found, captured_ns) for column, found in enumerate(sightings) if column not in known]
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
        last = as_rows([track.box for track in self._tracks])
        velocity = np.array([track.velocity * 2 for track in self._tracks], np.float32)
        unseen = np.array([[self._picture - track.path[-1][0]] for track in self._tracks], np.float32)
        guesses = [last + velocity * (unseen + np.float32(count)) for count in counts]
        still, *moved = iou(np.concatenate([last, *guesses]), boxes).reshape(-1, len(last), len(boxes))
        chosen = 0
        if len(counts) > 1:
            likelier, other = (float(overlap.max(axis=1).sum()) for overlap in moved)
            chosen = int(other > likelier + self.settings.gain_iou)
        self._picture += counts[chosen]
        guess, overlap = self._corrected(guesses[chosen], boxes, moved[chosen])
        least, claim = np.array([(self._least_overlap(track), track.claim) for track in self._tracks]).T[..., None]
        return guess, best_pairs(np.where(overlap > 0, 1 + overlap, still * (still >= least)) * claim)

    def _corrected(self, guesses: FloatArray, boxes: FloatArray, overlap: Array) -> tuple[FloatArray, Array]:
        """Guesses and their overlaps with the boxes; moved all alike where that explains much more.

        So is the speed of the first parts found, and so a belt that stops, starts or turns at once. What never moved
        and is where it was has no part in it.
        """
        still_iou, best = self.settings.still_iou, overlap.max(axis=1).tolist()
        known = list(zip(self._tracks, best, strict=True))
        standing = [track.hits >= SPEED_FROM and not track.moved and share >= still_iou for track, share in known]
        told = [
            share
            for (track, share), is_standing in zip(known, standing, strict=True)
            if not is_standing and not (self._knows_flow and track.missed_frames)
        ]
        if not told or (self._knows_flow and min(told) >= still_iou):
            return guesses, overlap
        stands = np.array(standing)
        free = (overlap[stands] < still_iou).all(axis=0)
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

    def _seen_again(
        self, guesses: FloatArray, boxes: FloatArray, sightings: list[Sighting], pairs: Pairs
    ) -> list[tuple[int, Sighting]]:
        """Each with its track's index.

        Of objects that touch a detector may make one box. Where a box looks more like several tracks together than
        like the one it was paired with, all of them were seen: where they should be, but around the box's centre.
        """
        again = [(row, sightings[column]) for row, column in pairs]
        paired = {row for row, _ in pairs}
        lost = [i for i, t in enumerate(self._tracks) if i not in paired and t.hits > 1 and not t.is_shadow]
        if not again or not lost:
            return again
        are_lost, is_lost = np.array(lost), np.ones(len(lost), bool)
        inside = contains(boxes[[column for _, column in pairs]], centres(guesses[are_lost]))
        for index in np.flatnonzero(inside.any(axis=1)).tolist():
            (row, (box, _, _, class_id, score)), held = again[index], inside[index]
            group = [row, *are_lost[held & is_lost].tolist()]
            if len(group) > 1 and self._looks_like_all(box, guesses[group]):
                parts = centred(guesses[group], box)
                seen = sightings_of(parts, [class_id] * len(group), [score] * len(group))
                again[index], *others = zip(group, seen, strict=True)
                again += others
                is_lost &= ~held
        return again

    def _looks_like_all(self, box: FloatArray, guesses: FloatArray) -> bool:
        likeness = iou(np.concatenate([around(guesses)[None], guesses]), box[None])[:, 0]
        return bool(likeness[0] > likeness[1:].max() + self.settings.gain_iou)

    def _start(self, sighting: Sighting, now_ns: int) -> Track:
        box, centre, _, class_id, score = sighting
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
        if gone:
            self._tracks = [track for track in self._tracks if track.id not in ids]
        return ids

    def _is_gone(self, track: Track, now_ns: int) -> bool:
        missed_ms = (now_ns - track.seen_ns) / 1e6
        return track.missed_frames >= self.settings.max_gap_frames and missed_ms >= self.settings.max_gap_ms


def _by_place(detections: Detections) -> tuple[FloatArray, list[Sighting]]:
    """The boxes `(N, 4)`, from the top left to the bottom right by their far corners, and what was seen of each."""
    boxes, classes, scores = detections.boxes, detections.classes.tolist(), detections.scores.tolist()
    corners = boxes.tolist()
    order = sorted(range(len(boxes)), key=lambda index: corners[index][::-1])
    boxes = boxes[order]
    return boxes, sightings_of(boxes, [classes[index] for index in order], [scores[index] for index in order])
