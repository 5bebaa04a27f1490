"""What a line did with the parts of which the truth is known: its verdicts and the arm's actions against it. Pure.

A verdict belongs to the part that crossed the line just before its deciding frame was captured. Both are compared in
pixels of belt, so that a belt that stops confuses nothing.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge_agent.app.evidence import Acted, Key, Notice, Told, action_of, notice_of, verdict_of
from edge_agent.app.sheet import DefectScore, FaultScore, Late, LatencyMs, ScoreSheet
from edge_agent.app.truth import CAMERA_FAULTS, TrueFault, TruePart, Truth
from edge_agent.core.parts import Word, combine
from edge_agent.core.ports import Observation
from edge_agent.runtime.trigger import MakeRule

EARLY, LATE = 0.2, 0.7
"""How far from its part a verdict is, in widths of a part: less than one together, for parts may touch. A verdict comes
from the first frame after the crossing, so it is seldom early.
"""

REOPENING_S = 1.0
"""How long opening a camera again takes at least, after a pause that is no longer than its absence."""

Outcome = Literal["right", "missed_defect", "false_reject", "unknown", "no_verdict"]
FOREVER_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Judged:
    """A part and what became of it: `verdicts` in order, of which the first decides."""

    part: TruePart
    verdicts: tuple[Told, ...]
    outcome: Outcome

    @property
    def lag_ms(self) -> float | None:
        """From the crossing to the capture of the deciding frame; None without a verdict."""
        return (self.verdicts[0].captured_ns - self.part.crossed_ns) / 1e6 if self.verdicts else None


@dataclass(slots=True)
class CameraScorer:
    """One camera's truth and verdicts.

    `rules` are the user's own; `labels`: what their model calls what the simulator shows. `settle_s`: how long the
    agent may take, after a fault of the camera, to trust it again.
    """

    rules: Sequence[MakeRule]
    labels: Mapping[str, str] = field(default_factory=dict)
    settle_s: float = 2.5
    truth: Truth = field(default_factory=Truth)
    verdicts: list[Told] = field(default_factory=list)
    _words: dict[int, Word] = field(default_factory=dict)

    def judged(self) -> tuple[list[Judged], list[Told]]:
        """Every part in order of crossing, and the verdicts for which there was no part."""
        belt = self.truth.belt
        parts = sorted(self.truth.parts.values(), key=lambda part: part.crossed_ns)
        verdicts = sorted(self.verdicts, key=lambda verdict: (verdict.captured_ns, verdict.seq))
        owners = owners_of(
            [belt.run_px(verdict.captured_ns) for verdict in verdicts],
            [belt.run_px(part.crossed_ns) for part in parts],
            belt.part_width_px,
            belt.beyond_px,
        )
        owned: list[list[Told]] = [[] for _ in parts]
        extra: list[Told] = []
        for verdict, owner in zip(verdicts, owners, strict=True):
            (extra if owner is None else owned[owner]).append(verdict)
        both = zip(parts, owned, strict=True)
        return [Judged(part, tuple(told), self._outcome(part, told)) for part, told in both], extra

    def is_disturbed(self, from_ns: int, to_ns: int) -> bool:
        """Whether the camera was made unfit on purpose, or came back from it, between these moments."""
        faults = (fault for fault in self.truth.faults if fault.kind in CAMERA_FAULTS)
        return any(fault.on_ns <= to_ns and from_ns <= self.settled_ns(fault) for fault in faults)

    def settled_ns(self, fault: TrueFault) -> int:
        """When the agent has had time to recover: a camera that is away is tried again ever more seldom."""
        if fault.off_ns is None:
            return FOREVER_NS
        away_s = (fault.off_ns - fault.on_ns) / 1e9 if fault.kind == "disconnected" else -REOPENING_S
        return fault.off_ns + int((self.settle_s + away_s + REOPENING_S) * 1e9)

    def _outcome(self, part: TruePart, verdicts: Sequence[Told]) -> Outcome:
        if not verdicts:
            return "no_verdict"
        word = verdicts[0].word
        if word == self._right_word(part):
            return "right"
        if word == "unknown":
            return "unknown"
        return "missed_defect" if word == "pass" else "false_reject"

    def _right_word(self, part: TruePart) -> Word:
        """What these rules make of the part with a perfect model."""
        if part.number not in self._words:
            rules = [make() for make in self.rules]
            for rule in rules:
                rule.update(Observation(tuple((self.labels.get(label, label), 1.0) for label in part.found)))
            self._words[part.number] = combine([rule.decide() for rule in rules]).verdict
        return self._words[part.number]


class Scorer:
    """Takes verdicts, actions and notices as they come, in any order, and sums all up at any time.

    The truth goes into each camera's `truth`. `unread` counts what could not be read.
    """

    def __init__(self, cameras: Mapping[str, CameraScorer], *, deadline_ms: float, valid_ms: float) -> None:
        self.cameras = cameras
        self.unread = 0
        self.notices: list[Notice] = []
        self._deadline_ms, self._valid_ms = deadline_ms, valid_ms
        self._verdicts: dict[Key, Told] = {}
        self._actions: dict[Key, Acted] = {}

    def add_verdict(self, payload: bytes | str) -> Told | None:
        """A verdict as it came. None where it is unreadable, another camera's, or here already: QoS 1 may repeat it."""
        try:
            verdict = verdict_of(payload)
        except ValueError:
            self.unread += 1
            return None
        if verdict.camera not in self.cameras or verdict.key in self._verdicts:
            return None
        self._verdicts[verdict.key] = verdict
        self.cameras[verdict.camera].verdicts.append(verdict)
        return verdict

    def add_action(self, line: str) -> Acted | None:
        """What the arm says that it did with a verdict, of one that came twice, the first; None for all else it says."""
        try:
            acted = action_of(line)
        except ValueError:
            self.unread += 1
            return None
        return None if acted is None else self._actions.setdefault(acted.key, acted)

    def add_notice(self, name: str, payload: bytes | str, received_ns: int) -> Notice | None:
        """A `state` or an `event`; None where it cannot be read."""
        try:
            self.notices.append(notice_of(name, payload, received_ns))
        except ValueError:
            self.unread += 1
            return None
        return self.notices[-1]

    @property
    def not_at_arm(self) -> int:
        """How many verdicts the arm has said nothing of so far."""
        return len(self._verdicts.keys() - self._actions.keys())

    def sheet(self, until_ns: int | None = None, *, has_arm: bool = True) -> ScoreSheet:
        """All in figures. Parts that crossed after `until_ns` do not count: the line was being stopped."""
        counted, disturbed, at_the_end, extra = self._sorted(FOREVER_NS if until_ns is None else until_ns)
        outcomes = Counter(judged.outcome for judged in counted)
        drops = Counter(acted.why or "unknown" for acted in self._actions.values() if acted.action == "none")
        return ScoreSheet(
            parts=len(counted),
            right=outcomes["right"],
            missed_defects=outcomes["missed_defect"],
            false_rejects=outcomes["false_reject"],
            unknown=_unknown(counted),
            no_verdict=outcomes["no_verdict"],
            twice=sum(len(judged.verdicts) > 1 for judged in counted),
            extra=extra,
            late=self._late(),
            at_the_end=at_the_end,
            camera_fault=dict(Counter(judged.outcome for judged in disturbed)),
            defects=_by_defect(counted),
            latency_ms=self._latency(has_arm=has_arm),
            lag_ms=_spread("capture", [one.lag_ms for one in counted if one.lag_ms is not None]),
            arm=dict(Counter(acted.action for acted in self._actions.values())),
            dropped=dict(drops),
            not_at_arm=self.not_at_arm if has_arm else 0,
            parts_per_min=self._rate(),
            belt_stops=sum(camera.truth.belt.stops for camera in self.cameras.values()),
            faults=tuple(self._faults()),
            unread_lines=self.unread + sum(camera.truth.unread for camera in self.cameras.values()),
        )

    def _sorted(self, until_ns: int) -> tuple[list[Judged], list[Judged], int, int]:
        """Parts that count, parts of a disturbed camera, how many came at the end; and how many verdicts had none."""
        counted, disturbed, at_the_end, extra = list[Judged](), list[Judged](), 0, 0
        for camera in self.cameras.values():
            parts, strays = camera.judged()
            for judged in parts:
                if camera.is_disturbed(judged.part.entered_ns, judged.part.crossed_ns):
                    disturbed.append(judged)
                elif judged.part.crossed_ns > until_ns:
                    at_the_end += 1
                else:
                    counted.append(judged)
            extra += sum(not camera.is_disturbed(stray.captured_ns, stray.captured_ns) for stray in strays)
        return counted, disturbed, at_the_end, extra

    def _late(self) -> Late:
        verdicts = self._verdicts.values()
        overdue = ["deadline_missed" in verdict.codes for verdict in verdicts]
        over = [verdict.total_ms > self._deadline_ms for verdict in verdicts]
        sent = sum(was_over and not was_told for was_over, was_told in zip(over, overdue, strict=True))
        acted = (one for one in self._actions.values() if one.action != "none" and one.key in self._verdicts)
        executed = sum(one.acted_ms - self._captured_ms(one) > self._valid_ms for one in acted)
        return Late(deadline_missed=sum(overdue), sent=sent, executed=executed)

    def _captured_ms(self, acted: Acted) -> float:
        return self._verdicts[acted.key].captured_ns / 1e6

    def _latency(self, *, has_arm: bool) -> LatencyMs:
        if has_arm:
            known = (acted for acted in self._actions.values() if acted.key in self._verdicts)
            ages = [acted.received_ms - self._captured_ms(acted) for acted in known]
        else:
            ages = [verdict.total_ms for verdict in self._verdicts.values()]
        return _spread("arm" if has_arm else "decision", ages)

    def _rate(self) -> float | None:
        """Parts per minute over all cameras; None where too few passed to tell."""
        rates = []
        for camera in self.cameras.values():
            times = [part.crossed_ns for part in camera.truth.parts.values()]
            if len(times) > 1 and max(times) > min(times):
                rates.append(60e9 * (len(times) - 1) / (max(times) - min(times)))
        return round(sum(rates), 1) if rates else None

    def _faults(self) -> Iterator[FaultScore]:
        for name, camera in self.cameras.items():
            for fault in camera.truth.faults:
                yield _fault_score(name, camera, fault, self.notices)


def owners_of(verdicts: Sequence[float], parts: Sequence[float], width: float, beyond: float) -> list[int | None]:
    """For each verdict the index of its part, None where there is none; all are places on the belt, in rising order.

    First each goes to the part that has just crossed. What is left then goes to an earlier part that has none and is
    no more than `beyond` past the line, if the order of both stays the same; and so does the first of two from one
    frame, or of two of which the first came before the part had crossed.
    """
    owners = [_just_crossed(place, parts, width) for place in verdicts]
    for index in range(len(verdicts) - 1, -1, -1):
        owner, place = owners[index], verdicts[index]
        if owner is not None:
            is_last = index + 1 == len(verdicts) or _just_crossed(verdicts[index + 1], parts, width) != owner
            if is_last or parts[owner] <= place < verdicts[index + 1]:
                continue
        free = _free_before(index, owners, verdicts, parts)
        if free is not None and parts[free] >= place - beyond:
            owners[index] = free
    return owners


def _just_crossed(place: float, parts: Sequence[float], width: float) -> int | None:
    first = bisect_left(parts, place - LATE * width)
    return first if first < len(parts) and parts[first] <= place + EARLY * width else None


def _free_before(
    index: int, owners: Sequence[int | None], verdicts: Sequence[float], parts: Sequence[float]
) -> int | None:
    """The last part before that verdict that has none, and comes after those of earlier frames."""
    taken = {owner for owner in owners if owner is not None}
    earlier = owners[: bisect_left(verdicts, verdicts[index])]
    before = max((owner for owner in earlier if owner is not None), default=-1)
    last = bisect_left(parts, verdicts[index]) - 1
    return next((part for part in range(last, before, -1) if part not in taken), None)


def _spread(to: str, times_ms: Sequence[float]) -> LatencyMs:
    if not times_ms:
        return LatencyMs(to, None, None, None)
    p50, p99, most = (round(float(value), 3) for value in np.percentile(times_ms, (50, 99, 100)))
    return LatencyMs(to, p50, p99, most)


def _unknown(counted: Sequence[Judged]) -> dict[str, int]:
    """By the first code of each."""
    codes = Counter[str]()
    for judged in counted:
        if judged.outcome == "unknown":
            codes[next(iter(judged.verdicts[0].codes), "unknown")] += 1
    return dict(codes)


def _by_defect(counted: Sequence[Judged]) -> dict[str, DefectScore]:
    parts, right = Counter[str](), Counter[str]()
    for judged in counted:
        parts.update(judged.part.defects)
        right.update(judged.part.defects if judged.outcome == "right" else ())
    return {defect: DefectScore(parts[defect], right[defect]) for defect in sorted(parts)}


def _fault_score(name: str, camera: CameraScorer, fault: TrueFault, notices: Sequence[Notice]) -> FaultScore:
    until_ns = camera.settled_ns(fault)
    said = [
        (notice.received_ns, words)
        for notice in notices
        if fault.on_ns <= notice.received_ns <= until_ns and (words := notice.complaints(name))
    ]
    unfit = (verdict for verdict in camera.verdicts if "camera_unhealthy" in verdict.codes)
    times = [at_ns for at_ns, _ in said]
    times += [verdict.sent_ns for verdict in unfit if fault.on_ns <= verdict.captured_ns <= until_ns]
    back = (
        notice.received_ns
        for notice in notices
        if fault.off_ns is not None and notice.received_ns >= fault.off_ns and notice.says_well(name)
    )
    back_ns = next(back, None) if times else None
    return FaultScore(
        kind=fault.kind,
        camera=name,
        expected=CAMERA_FAULTS.get(fault.kind),
        said=tuple(sorted({word for _, words in said for word in words})),
        noticed_ms=round((min(times) - fault.on_ns) / 1e6, 1) if times else None,
        recovered_ms=None if back_ns is None or fault.off_ns is None else round((back_ns - fault.off_ns) / 1e6, 1),
        lasted_s=None if fault.off_ns is None else round((fault.off_ns - fault.on_ns) / 1e9, 3),
    )
