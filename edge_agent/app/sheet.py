"""The score sheet: what a line did with the parts of which the truth is known, in figures and in one sentence."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

RIGHT_AT_LEAST = 0.95
"""Of the parts: a line that does worse has not done its job. One slip is always forgiven: a short run has few parts."""

MISSED_AT_MOST = 0.01
"""Of the parts may have a defect that was missed: that is what the line is there for. One is forgiven, too."""


@dataclass(frozen=True, slots=True)
class Late:
    """Verdicts that came too late. `executed`: those that the arm acted on when their validity had ended."""

    deadline_missed: int
    sent: int
    executed: int


@dataclass(frozen=True, slots=True)
class LatencyMs:
    """How long it takes `to` something; None where nothing was timed."""

    to: str
    p50: float | None
    p99: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class DefectScore:
    """Parts with one kind of defect, and those of them that were judged right."""

    parts: int
    right: int


@dataclass(frozen=True, slots=True)
class FaultScore:
    """One thing that was done to the line on purpose, and what the agent said of it.

    `expected` is what it has to say, None where it has to say nothing. Times count from the fault's begin and end.
    """

    kind: str
    camera: str
    expected: str | None
    said: tuple[str, ...]
    noticed_ms: float | None
    recovered_ms: float | None
    lasted_s: float | None

    @property
    def is_well(self) -> bool:
        """Whether the right thing was said, and taken back."""
        if self.expected is None:
            return self.noticed_ms is None
        return self.expected in self.said and (self.recovered_ms is not None or self.lasted_s is None)


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """Every part that counts is one of `right`, `missed_defects`, `false_rejects`, `unknown` and `no_verdict`.

    `unknown`: by reason. `extra`: verdicts for which there was no part. `camera_fault`: outcomes of parts that passed while the camera
    was disturbed on purpose; they do not count. `latency_ms`: from the capture of the deciding frame to the `arm`, or to the `decision` where
    there is none. `lag_ms`: from the crossing to that `capture`. `arm`: its actions; `dropped`: what it did not act on, by reason.
    """

    parts: int
    right: int
    missed_defects: int
    false_rejects: int
    unknown: Mapping[str, int]
    no_verdict: int
    twice: int
    extra: int
    late: Late
    at_the_end: int
    camera_fault: Mapping[str, int]
    defects: Mapping[str, DefectScore]
    latency_ms: LatencyMs
    lag_ms: LatencyMs
    arm: Mapping[str, int]
    dropped: Mapping[str, int]
    not_at_arm: int
    parts_per_min: float | None
    belt_stops: int
    faults: tuple[FaultScore, ...]
    unread_lines: int

    @property
    def right_share(self) -> float:
        """Of the parts; NaN without any."""
        return self.right / self.parts if self.parts else float("nan")

    @property
    def complaints(self) -> list[str]:
        """Why the line did not do its job; empty where it did."""
        return list(_complaints(self))

    @property
    def is_well(self) -> bool:
        """Whether the line did its job."""
        return not self.complaints

    @property
    def sentence(self) -> str:
        """What is to be said about the run."""
        if complaints := self.complaints:
            return f"The line did not do its job: {'; '.join(complaints)}."
        if self.latency_ms.to == "arm":
            executed = "none was executed late"
        else:
            executed = "whether one was executed late needs an arm"
        noticed = "; every fault was noticed and is over" if any(fault.expected for fault in self.faults) else ""
        uncounted = sum(self.camera_fault.values())
        passed = f"; {uncounted} more passed while the camera was disturbed, and do not count" if uncounted else ""
        return (
            f"The line did its job: {_count(self.parts, 'part')}, one verdict each, {self.right_share:.1%} right, "
            f"{executed}{noticed}{passed}."
        )

    def as_json(self) -> dict[str, Any]:
        """The sheet as one document."""
        return {**asdict(self), "ok": self.is_well, "sentence": self.sentence}


def _complaints(sheet: ScoreSheet) -> Iterator[str]:
    if not sheet.parts:
        yield "no part passed that counts"
        return
    if sheet.no_verdict:
        yield f"{_count(sheet.no_verdict, 'part')} got no verdict"
    if sheet.twice:
        yield f"{_count(sheet.twice, 'part')} got more than one verdict"
    if sheet.extra:
        yield f"{_count(sheet.extra, 'verdict')} came where no part was"
    if sheet.late.executed:
        yield f"{_count(sheet.late.executed, 'verdict')} {_were(sheet.late.executed)} executed late"
    yield from _too_many(sheet)
    for fault in sheet.faults:
        if not fault.is_well:
            yield _unwell(fault)


def _too_many(sheet: ScoreSheet) -> Iterator[str]:
    """What is forgiven as long as it is seldom."""
    if sheet.missed_defects > max(1, MISSED_AT_MOST * sheet.parts):
        yield f"{_count(sheet.missed_defects, 'defect')} were missed, more than {MISSED_AT_MOST:.0%} of the parts"
    verdicts = sheet.not_at_arm + sum(sheet.arm.values())
    if (lost := sheet.not_at_arm + sum(sheet.dropped.values())) > max(1, (1 - RIGHT_AT_LEAST) * verdicts):
        why = ", ".join([*sheet.dropped, *(["never came"] if sheet.not_at_arm else [])])
        yield f"the arm did not act on {lost} of {verdicts} verdicts ({why})"
    if sheet.parts - sheet.right > max(1, (1 - RIGHT_AT_LEAST) * sheet.parts):
        missed = sheet.late.deadline_missed
        late = f" ({missed} missed the deadline: this machine is too slow, or too busy)" if missed else ""
        yield f"{sheet.right_share:.1%} of the parts were judged right{late}, at least {RIGHT_AT_LEAST:.0%} should be"


def _unwell(fault: FaultScore) -> str:
    said = f"said {', '.join(fault.said)}" if fault.said else "said nothing"
    if fault.expected is None:
        return f"{said} at the {fault.kind}, which is no fault"
    if fault.expected not in fault.said:
        return f"the agent {said} of the fault {fault.kind}, and should have said {fault.expected}"
    return f"the agent did not recover from the fault {fault.kind}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
