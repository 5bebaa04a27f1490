"""What arms say they did: which verdicts were acknowledged, which were not, and whether the arm did as they say.

Each verdict that was expected ends as acknowledged, missing or forgotten; each ack as matched, late, duplicate or
unmatched. All is counted, and gathered into ranges for events.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge_agent.core.parts import Word
from edge_agent.runtime.recorder import Notes
from edge_agent.wire import messages as wire
from edge_agent.wire.inbound import Ack

KEPT = 1000  # settled verdicts of a camera that are remembered: an ack for one is late, or a duplicate;
KEPT_OF_ALL = 10_000  # but no more than this, shared by all cameras
MOST = 20_000  # verdicts of all cameras that wait, at about 300 bytes each; what is above is missing before its time
HEARING_NS = 100_000_000  # an ack that was received in time may still be on its way to `hear`
ROUND_TRIPS = 1000
MOST_WHYS = 16  # that are told apart: they are the arm's own words
WHY_BYTES = 48
OPPOSITES = (("pass", "reject"), ("pass", "stop"), ("reject", "pass"))  # a stop lets no reject through
COUNTED = ("acknowledged", "missing", "forgotten", "late", "duplicate", "unmatched", "not_done", "contradicts")

Code = Literal["acks_missing", "acks_late", "verdicts_not_done", "verdicts_contradicted"]
Outcome = Literal["matched", "late", "duplicate", "unmatched"]


@dataclass(slots=True)
class AckFinding:
    """Of verdicts `first_seq` to `last_seq` of a camera, `count` have this in common."""

    code: Code
    camera: str
    facts: dict[str, str]
    first_seq: int
    last_seq: int
    count: int = 0

    def data(self) -> dict[str, str | int]:
        """The facts, for an event."""
        span = {"first_seq": self.first_seq, "last_seq": self.last_seq, "count": self.count}
        return {"camera": self.camera, **span, **self.facts}


@dataclass(slots=True)
class _Verdict:
    camera: str
    seq: int
    trigger_id: str | None
    word: Word
    at_ns: int
    fate: Literal["open", "acknowledged", "missing", "forgotten"] = "open"
    is_heard: bool = False


@dataclass(slots=True)
class _Camera:
    """Both tables by `seq`, the oldest first."""

    open: OrderedDict[int, _Verdict] = field(default_factory=OrderedDict)
    settled: OrderedDict[int, _Verdict] = field(default_factory=OrderedDict)
    triggers: dict[str, int] = field(default_factory=dict)
    missed_seq: int = 0  # the newest whose ack was due, and had not come
    heard_seq: int = 0  # the newest with an ack


class Acks:
    """Any thread; nothing here waits. Times are CLOCK_MONOTONIC.

    Attributes:
        within_ms: from sending a verdict until its ack is missing. May change while running, also for those that wait.
        recorder: keeps each ack on the device, where there is one.
    """

    def __init__(self, cameras: Iterable[str], within_ms: float, session: str) -> None:
        self.within_ms = within_ms
        self.recorder: Notes | None = None
        self._session = session
        self._cameras = {camera: _Camera() for camera in cameras}
        shares = max(1, len(self._cameras))
        self._most, self._kept = MOST // shares, min(KEPT, KEPT_OF_ALL // shares)
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTED, 0)
        self._findings: dict[str, dict[tuple[str, ...], AckFinding]] = {camera: {} for camera in self._cameras}
        self._round_trips_ms: deque[float] = deque(maxlen=ROUND_TRIPS)
        self.contradicted_ns: dict[str, int] = {}  # by camera: when an arm did last what its verdict forbids

    def expect(self, camera: str, seq: int, trigger_id: str | None, verdict: Word, at_ns: int) -> None:
        """A verdict is about to be written: its ack may be heard before the writer goes on."""
        with self._lock:
            known = self._cameras[camera]
            known.open[seq] = _Verdict(camera, seq, trigger_id, verdict, at_ns)
            if trigger_id is not None:
                known.triggers[trigger_id] = seq
            if len(known.open) > self._most:
                self._miss(known, next(iter(known.open.values())))

    def forget(self, camera: str, seq: int) -> None:
        """It was not delivered for certain, and is told as such: no ack is missing. It may have arrived all the same."""
        with self._lock:
            known = self._cameras[camera]
            if (verdict := known.open.get(seq)) is not None:
                self._settle(known, verdict, "forgotten")

    def hear(self, ack: Ack, received_ns: int) -> Outcome:
        """What an arm says of a verdict, once for each that it got."""
        with self._lock:
            known = self._cameras.get(ack.camera)
            if known is None or (verdict := self._find(known, ack)) is None:
                return self._count("unmatched")
            if verdict.is_heard:
                return self._count("duplicate")
            verdict.is_heard = True
            self._round_trips_ms.append(max(0, received_ns - verdict.at_ns) / 1e6)
            if verdict.fate == "open" and received_ns - verdict.at_ns > self.within_ms * 1e6:
                self._miss(known, verdict)
            known.heard_seq = max(known.heard_seq, verdict.seq)
            took_ms = round((received_ns - verdict.at_ns) / 1e6, 3)
            self._note_down("ack", verdict, action=ack.action, why=ack.why, ms=took_ms)
            self._compare(verdict, ack, received_ns)
            return self._acknowledge(known, verdict)

    def tick(self, now_ns: int) -> None:
        """Acks that are overdue are missing. To be called several times a second."""
        due_ns = now_ns - HEARING_NS - int(self.within_ms * 1e6)
        with self._lock:
            for known in self._cameras.values():
                while known.open and (oldest := next(iter(known.open.values()))).at_ns < due_ns:
                    self._miss(known, oldest)

    @property
    def missing_now(self) -> tuple[str, ...]:
        """Cameras with a verdict whose ack is missing, and none that is newer and has one."""
        return tuple(camera for camera, known in self._cameras.items() if known.missed_seq > known.heard_seq)

    @property
    def counts(self) -> dict[str, int]:
        """For health: what became of verdicts and acks since the start; `waiting` verdicts are not due yet."""
        with self._lock:
            return {**self._counts, "waiting": sum(len(known.open) for known in self._cameras.values())}

    def round_trip(self) -> wire.LatencyHealth | None:
        """From sending a verdict until its ack was heard, over the last 1000, late ones too; None where none came."""
        with self._lock:
            times_ms = list(self._round_trips_ms)
        if not times_ms:
            return None
        p50, p99 = np.percentile(times_ms, [50, 99])
        return wire.LatencyHealth(p50=float(p50), p99=float(p99), max=max(times_ms))

    def take(self, camera: str) -> list[AckFinding]:
        """What is to be told of a camera, since the last call."""
        with self._lock:
            findings, self._findings[camera] = self._findings[camera], {}
        return list(findings.values())

    # ---- with the lock held

    def _find(self, known: _Camera, ack: Ack) -> _Verdict | None:
        """By number, or by trigger. What else the ack names must be the verdict's too."""
        if ack.session not in (None, self._session):
            return None
        seq = ack.seq if ack.session is not None and ack.seq is not None else None
        if seq is None:
            seq = known.triggers.get(ack.trigger_id or "", 0)
        verdict = known.open.get(seq) or known.settled.get(seq)
        if verdict is None or ack.seq not in (None, verdict.seq):
            return None
        if None in (ack.trigger_id, verdict.trigger_id) or ack.trigger_id == verdict.trigger_id:
            return verdict
        return None

    def _miss(self, known: _Camera, verdict: _Verdict) -> None:
        self._settle(known, verdict, "missing")
        known.missed_seq = max(known.missed_seq, verdict.seq)
        self._note("acks_missing", verdict)
        self._note_down("ack_missing", verdict, within_ms=self.within_ms)

    def _acknowledge(self, known: _Camera, verdict: _Verdict) -> Outcome:
        if verdict.fate == "missing":
            self._note("acks_late", verdict)
            return self._count("late")
        if verdict.fate == "open":
            self._settle(known, verdict, "acknowledged")
        else:  # it arrived, though the broker did not confirm it
            verdict.fate = "acknowledged"
            self._counts["forgotten"] -= 1
            self._counts["acknowledged"] += 1
        return "matched"

    def _settle(self, known: _Camera, verdict: _Verdict, fate: Literal["acknowledged", "missing", "forgotten"]) -> None:
        del known.open[verdict.seq]
        verdict.fate = fate
        self._counts[fate] += 1
        known.settled[verdict.seq] = verdict
        if len(known.settled) > self._kept:
            _, oldest = known.settled.popitem(last=False)
            if oldest.trigger_id is not None and known.triggers.get(oldest.trigger_id) == oldest.seq:
                del known.triggers[oldest.trigger_id]

    def _compare(self, verdict: _Verdict, ack: Ack, received_ns: int) -> None:
        """Doing nothing about a pass is what a pass asks for; about `unknown` the arm's own settings decide."""
        if ack.action == "none" and verdict.word != "pass":
            why = wire.cut(ack.why or "not_said", WHY_BYTES)
            kinds = [key for key in self._counts if key.startswith("not_done.")]
            if f"not_done.{why}" not in kinds and len(kinds) >= MOST_WHYS:
                why = "other"
            self._counts["not_done"] += 1
            self._counts[f"not_done.{why}"] = self._counts.get(f"not_done.{why}", 0) + 1
            self._note("verdicts_not_done", verdict, why=why)
        elif (verdict.word, ack.action) in OPPOSITES:
            self._counts["contradicts"] += 1
            self.contradicted_ns[verdict.camera] = received_ns
            self._note("verdicts_contradicted", verdict, verdict=verdict.word, action=ack.action)

    def _note(self, code: Code, about: _Verdict, /, **facts: str) -> None:
        key, seq = (code, *facts.values()), about.seq
        finding = self._findings[about.camera].setdefault(key, AckFinding(code, about.camera, facts, seq, seq))
        finding.first_seq, finding.last_seq = min(finding.first_seq, seq), max(finding.last_seq, seq)
        finding.count += 1

    def _note_down(self, kind: str, about: _Verdict, **facts: object) -> None:
        if self.recorder:
            self.recorder.note(kind, {"camera": about.camera, "seq": about.seq, **facts})

    def _count(self, outcome: Literal["late", "duplicate", "unmatched"]) -> Outcome:
        self._counts[outcome] += 1
        return outcome
