"""What makes a part, and which detections belong to it. One inspector per camera, used by the pipeline thread alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_agent.core.datatypes import Array, Detections, FloatArray, Frame
from edge_agent.core.lines import Direction, Segment, crosses, distances_to, heading_of
from edge_agent.core.matching import alike, as_rows, centres, contains
from edge_agent.core.parts import Decision, Ledger, Part, combine
from edge_agent.core.ports import Observation, Rule
from edge_agent.core.track import Track
from edge_agent.core.tracker import MOST_BOXES, Tracker
from edge_agent.runtime.mailbox import Token

MakeRule = Callable[[], Rule]
GAP_S = 0.5  # without a frame a part has moved on meanwhile, and may be taken for its neighbour,
GAP_INTERVALS = 4  # but where frames are rare that is usual
SAME_THING_IOU = 0.45  # two labels on one object; touching parts overlap far less


@dataclass(frozen=True, slots=True)
class Judged:
    """A part and what all its frames say."""

    part: Part
    decision: Decision
    frames: int


class Dossier:
    """The evidence on one part: its own rules, and how many frames they saw."""

    def __init__(self, rules: Sequence[MakeRule]) -> None:
        self._rules = [make() for make in rules]
        self.frames = 0
        self.has_gap = False  # between two of its frames: what was seen before may be of a neighbour
        self._unfit = 0
        self._last_is_fit = True

    def add(self, seen: Observation, *, is_fit: bool = True) -> None:
        """One more frame. What is seen on an unfit one counts too, but what is not seen there says nothing."""
        self.frames += 1
        self._unfit += not is_fit
        self._last_is_fit = is_fit
        for rule in self._rules:
            rule.update(seen)

    def decide(self) -> Decision:
        """What all rules say together. Without good sight in the last frame, and in most, nothing can pass; nor after a gap."""
        decisions = [rule.decide() for rule in self._rules]
        if not self._last_is_fit or 2 * self._unfit >= max(1, self.frames):
            decisions.append(Decision.unknown("camera_unhealthy"))
        if self.has_gap:
            decisions.append(Decision.unknown("stale_frame"))
        return combine(decisions)


class Inspector(Protocol):
    """`rules` may be replaced between two frames; parts that are under way keep theirs."""

    rules: Sequence[MakeRule]

    def begin(self, frame: Frame, token: Token | None = None) -> Part | None:
        """Before the engine runs: the part that stands or falls with this frame; `token` is who asked for it."""
        ...

    def finish(self, frame: Frame, part: Part | None, detections: Detections, *, is_fit: bool = True) -> list[Judged]:
        """After it: the parts whose evidence closes with this frame; one that is not fit shows too little to pass."""
        ...


class FrameInspector:
    """Every frame is a part, and the whole frame belongs to it."""

    def __init__(self, camera: str, ledger: Ledger, labels: Sequence[str], rules: Sequence[MakeRule]) -> None:
        self._camera, self._ledger, self._labels = camera, ledger, labels
        self.rules = rules

    def begin(self, frame: Frame, token: Token | None = None) -> Part | None:  # noqa: ARG002 - the port's
        """The frame is the part."""
        return self._ledger.open(self._camera, frame.captured_ns)

    def finish(
        self,
        frame: Frame,  # noqa: ARG002 - the port's
        part: Part | None,
        detections: Detections,
        *,
        is_fit: bool = True,
    ) -> list[Judged]:
        """One frame is all the evidence there is."""
        if part is None:
            return []
        dossier = Dossier(self.rules)
        dossier.add(_observation(detections, self._labels), is_fit=is_fit)
        return [Judged(part, dossier.decide(), dossier.frames)]


class LineInspector:
    """A tracked part whose centre crosses the line is a part, once; its evidence are all frames until then."""

    def __init__(
        self,
        camera: str,
        ledger: Ledger,
        labels: Sequence[str],
        rules: Sequence[MakeRule],
        *,
        parts: Sequence[str],
        line: Segment,
        direction: Direction,
    ) -> None:
        self._camera, self._ledger, self._labels = camera, ledger, labels
        self.rules = rules
        self._part_classes = {index for index, label in enumerate(labels) if label in parts}
        self._line, self._direction = line, direction
        self._tracker = Tracker(heading=heading_of(direction))
        self._dossiers: dict[int, Dossier | None] = {}  # None: judged already
        self._last_ns: int | None = None
        self._interval_ns = 0.0

    def begin(self, frame: Frame, token: Token | None = None) -> None:
        """No part is known before its crossing was seen."""

    def finish(
        self,
        frame: Frame,
        part: Part | None,  # noqa: ARG002 - the port's
        detections: Detections,
        *,
        is_fit: bool = True,
    ) -> list[Judged]:
        """Follows the parts, gathers what is found on them, and judges those that crossed with this frame."""
        self._look_for_gap(frame.captured_ns)
        parts, others = self._split(detections)
        if len(parts) > MOST_BOXES:
            parts = self._nearest_first(parts, frame)
        tracks, gone = self._tracker.update(parts, frame.captured_ns, frame.seq)
        tracks = [track for track in tracks if not track.is_shadow]
        for track_id in gone:
            self._dossiers.pop(track_id, None)
        self._gather(tracks, others, is_fit=is_fit)
        width, height = frame.size
        crossed = [track for track in tracks if self._crosses(track, width, height)]
        if len(crossed) > 1:  # who counts parts needs them as they came: the foremost first
            away = self._away_from_line(np.stack([track.box for track in crossed]), frame)
            crossed = [crossed[index] for index in np.argsort(-away, kind="stable")]
        return [judged for track in crossed if (judged := self._judge(track, frame))]

    def _look_for_gap(self, captured_ns: int) -> None:
        before_ns, self._last_ns = self._last_ns, captured_ns
        if before_ns is None:
            return
        gap_ns, usual_ns = captured_ns - before_ns, self._interval_ns or captured_ns - before_ns
        if gap_ns > max(GAP_S * 1e9, GAP_INTERVALS * usual_ns):
            for dossier in self._dossiers.values():
                if dossier is not None:
                    dossier.has_gap = True
        self._interval_ns = usual_ns + (min(gap_ns, 2 * usual_ns) - usual_ns) / 8  # one stall says little of the rate

    def _split(self, detections: Detections) -> tuple[Detections, Detections]:
        """Parts, and all else. Of several part labels on the same thing the best is the part, the others are found on it.

        Two of one label are two parts: the decoder has suppressed what it takes for the same.
        """
        known = [class_id in self._part_classes for class_id in detections.classes.tolist()]
        if len(self._part_classes) <= 1 and all(known):
            return detections, Detections.empty()
        is_part = np.array(known, bool)
        if len(self._part_classes) > 1:
            found = np.flatnonzero(is_part)
            is_part[found[_found_on_others(detections.boxes[found], detections.classes[found])]] = False
        return detections[is_part], detections[~is_part]

    def _nearest_first(self, parts: Detections, frame: Frame) -> Detections:
        """By their distance to the line: of more than the tracker follows, those near it are the ones that matter."""
        return parts[np.argsort(self._away_from_line(parts.boxes, frame), kind="stable")]

    def _away_from_line(self, boxes: FloatArray, frame: Frame) -> Array:
        """`(N,)` pixels from the line to the middle of each box."""
        width, height = frame.size
        (ax, ay), (bx, by) = self._line
        return distances_to(((ax * width, ay * height), (bx * width, by * height)), centres(boxes))

    def _gather(self, tracks: list[Track], others: Detections, *, is_fit: bool) -> None:
        labels = self._labels
        found = [[(labels[track.class_id], track.score)] for track in tracks]
        owners = owners_of(others.boxes, tracks)
        for owner, class_id, score in zip(owners, others.classes.tolist(), others.scores.tolist(), strict=True):
            if owner >= 0:
                found[owner].append((labels[class_id], score))
        for track, on_it in zip(tracks, found, strict=True):
            if track.id not in self._dossiers:
                self._dossiers[track.id] = Dossier(self.rules)
            dossier = self._dossiers[track.id]
            if dossier is not None:
                dossier.add(Observation(tuple(on_it)), is_fit=is_fit)

    def _crosses(self, track: Track, width: int, height: int) -> bool:
        if track.previous is None or self._dossiers.get(track.id) is None:
            return False
        before = (track.previous[0] / width, track.previous[1] / height)
        now = (track.centre[0] / width, track.centre[1] / height)
        return crosses(self._line, self._direction, before, now)

    def _judge(self, track: Track, frame: Frame) -> Judged | None:
        dossier = self._dossiers[track.id]
        if dossier is None:
            return None
        self._dossiers[track.id] = None
        part = self._ledger.open(self._camera, frame.captured_ns)
        return Judged(part, dossier.decide(), dossier.frames)


def owners_of(boxes: FloatArray, tracks: list[Track]) -> list[int]:
    """For each box `(N, 4)` the index of the part that contains its centre, the nearest of several; -1 for none."""
    owners = [-1] * len(boxes)
    if not tracks or not owners:
        return owners
    middles = centres(boxes)
    holders, held = np.nonzero(contains(as_rows([track.box for track in tracks]), middles))
    points, nearest = middles.tolist(), [math.inf] * len(boxes)
    for part, index in zip(holders.tolist(), held.tolist(), strict=True):
        away = math.dist(points[index], tracks[part].centre)
        if away < nearest[index]:
            owners[index], nearest[index] = part, away
    return owners


def _found_on_others(boxes: FloatArray, classes: Array) -> list[int]:
    """Which of the boxes, best score first, are on the same thing as a better one of another class that is not."""
    if len(boxes) < 2 or classes.min() == classes.max():  # noqa: PLR2004 - a pair
        return []
    pairs = alike(boxes, SAME_THING_IOU)
    pairs = pairs[classes[pairs[:, 0]] != classes[pairs[:, 1]]]
    found: set[int] = set()
    for worse, better in pairs.tolist():
        if better not in found:
            found.add(worse)
    return list(found)


def _observation(detections: Detections, labels: Sequence[str]) -> Observation:
    return Observation(
        tuple(
            (labels[class_id], score)
            for class_id, score in zip(detections.classes.tolist(), detections.scores.tolist(), strict=True)
        )
    )
