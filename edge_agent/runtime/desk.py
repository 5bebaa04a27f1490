"""The desk sends one verdict per part, knows what became of it, and writes the record."""

import math
import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog
from pydantic import ValidationError

from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision, Part
from edge_agent.core.ports import Message, Receipt
from edge_agent.runtime.engine import Lap
from edge_agent.runtime.outbox import Kind
from edge_agent.runtime.scribe import Scribe
from edge_agent.runtime.unsent import Unsent
from edge_agent.wire import messages as wire

log = structlog.get_logger()
MAX_DETECTIONS = 100
LATE_DECISION_S = 5.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What the pipeline saw of a part; empty where it never came to that."""

    frame: Frame | None = None
    detections: Detections | None = None
    lap: Lap | None = None
    frames: int = 0


NOTHING_SEEN = Sight()


@dataclass(frozen=True, slots=True)
class Sent:
    """A verdict that used `seq`; `in_time` where it was handed to a live connection while it was valid."""

    part: Part
    decision: Decision
    seq: int
    in_time: bool
    latency: wire.Latency


class Line(Protocol):
    """Where verdicts go: `Link`, or what stands in for it."""

    connections: int

    def send(self, message: Message) -> bool:
        """Writes the message now. False: it was not sent and never will be."""
        ...


class Records(Protocol):
    """Where results and events go: `Outbox`, or what stands in for it."""

    def put(self, kind: Kind, message: Message) -> None:
        """Keeps the message until it can be sent."""
        ...


class Desk:
    """Whoever closed a part reports it here, once. Any thread."""

    def __init__(self, scribe: Scribe, link: Line, outbox: Records, *, results: str | float) -> None:
        self._scribe, self._link, self._outbox = scribe, link, outbox
        self._clock = scribe.clock
        self.results = results
        self.unsent = Unsent()
        self.refused: set[str] = set()  # cameras whose last verdict the broker did not take
        self.unheard: set[str] = set()  # cameras whose last verdict nobody had subscribed to
        self.last_overdue_ns: int | None = None
        self.verdicts: dict[str, int] = {}
        self.last_seq = {camera.id: 0 for camera in scribe.identity.cameras}
        self._lock = threading.Lock()
        self._unconfirmed: dict[int, tuple[int, Sent]] = {}  # with the number of the connection it went out on
        self._overdue: dict[str, Sent] = {}
        self._hasty: dict[str, tuple[Part, Decision, Sight]] = {}  # too late, but before the verdict was out
        self._tokens = 0

    # ---- what the pipeline and the timer report

    def judged(self, part: Part, decision: Decision, sight: Sight = NOTHING_SEEN) -> None:
        """Publishes the verdict, then records the result."""
        self._record(self._send(part, decision, sight.lap), sight)

    def overdue(self, part: Part) -> None:
        """Publishes `unknown(deadline_missed)`; the result waits a while for what the engine may still say."""
        self.last_overdue_ns = self._clock.mono_ns()
        sent = self._send(part, Decision.unknown("deadline_missed"), None)
        with self._lock:
            hasty = self._hasty.pop(part.id, None)
            if hasty is None:
                self._overdue[part.id] = sent
        if hasty is not None:
            self._record(sent, hasty[2], _late(hasty[1]))

    def too_late(self, part: Part, decision: Decision, sight: Sight) -> None:
        """Records what the engine made of a part whose verdict is out already."""
        with self._lock:
            sent = self._overdue.pop(part.id, None)
            if sent is None:
                self._hasty[part.id] = (part, decision, sight)
        if sent is not None:
            self._record(sent, sight, _late(decision))

    def settle_overdue(self, *, everything: bool = False) -> None:
        """Records the overdue parts for which nothing came any more."""
        limit_ns = self._clock.mono_ns() - int(LATE_DECISION_S * 1e9)
        with self._lock:
            parts = [part_id for part_id, s in self._overdue.items() if everything or s.part.deadline_ns < limit_ns]
            settled = [self._overdue.pop(part_id) for part_id in parts]
            self._hasty = {part_id: h for part_id, h in self._hasty.items() if h[0].deadline_ns >= limit_ns}
        for sent in settled:
            self._record(sent, NOTHING_SEEN)

    # ---- what the connection reports

    @property
    def deadline_ms(self) -> float:
        """The deadline that new parts get."""
        return self._scribe.identity.deadline_ms

    @property
    def nobody_listens(self) -> bool:
        """Whether the verdicts of a camera reach nobody."""
        return bool(self.unheard)

    def confirm(self, receipt: Receipt) -> None:
        """What the broker said of a verdict."""
        with self._lock:
            _, sent = self._unconfirmed.pop(receipt.token, (0, None))
        if sent is None:
            return
        if receipt.accepted:
            self.refused.discard(sent.part.camera)
        if not receipt.accepted:
            self.refused.add(sent.part.camera)
            self.unsent.add(sent.part.camera, "refused", sent.seq)
        elif receipt.nobody_listens:
            self.unheard.add(sent.part.camera)
        else:
            self.unheard.discard(sent.part.camera)

    def has_overdue_confirmation(self, now_ns: int) -> bool:
        """Whether a verdict stayed without a PUBACK while it was valid."""
        with self._lock:
            return any(sent.part.valid_until_ns < now_ns for _, sent in self._unconfirmed.values())

    def give_up_unconfirmed(self, connection: int | None = None) -> None:
        """The connection broke: what was not confirmed counts as not delivered, and is never sent again.

        With the number of a connection, what went out on a later one is left alone.
        """
        with self._lock:
            tokens = [t for t, (number, _) in self._unconfirmed.items() if connection is None or number <= connection]
            given_up = [self._unconfirmed.pop(token)[1] for token in tokens]
        for sent in given_up:
            self.unsent.add(sent.part.camera, "unconfirmed", sent.seq)

    # ----

    def _send(self, part: Part, decision: Decision, lap: Lap | None) -> Sent:
        topic = self._scribe.topics.of("verdict", part.camera)
        with self._scribe.page(topic) as head:
            sent = Sent(part, decision, head["seq"], in_time=False, latency=self._latency(part, lap))
            self._count(decision)
            obstacle = self._hand_over(topic, head, sent)
            self.last_seq[part.camera] = sent.seq
            if obstacle is None:
                return replace(sent, in_time=True)
            self.unsent.add(part.camera, obstacle, sent.seq)
            return sent

    def _hand_over(self, topic: str, head: dict[str, object], sent: Sent) -> str | None:
        """Writes the verdict to the connection; why not, where that cannot be."""
        remaining_ns = sent.part.valid_until_ns - self._clock.mono_ns()
        if remaining_ns <= 0:
            return "stale"
        try:
            payload = self._verdict(sent, head).payload()
        except ValidationError:
            log.exception("verdict_not_written", part=sent.part.id)
            return "internal_error"
        token = self._await(sent)
        expiry_s = math.ceil(remaining_ns / 1e9)
        if self._link.send(Message(topic, payload, qos=1, expiry_s=expiry_s, token=token)):
            return None
        with self._lock:
            self._unconfirmed.pop(token, None)
        return "no_connection"

    def _await(self, sent: Sent) -> int:
        with self._lock:
            self._tokens += 1
            self._unconfirmed[self._tokens] = (self._link.connections, sent)
            return self._tokens

    def _verdict(self, sent: Sent, head: dict[str, object]) -> wire.Verdict:
        part, decision = sent.part, sent.decision
        captured_at = self._clock.utc_of(part.captured_ns)
        valid_for = timedelta(microseconds=(part.valid_until_ns - part.captured_ns) / 1e3)
        facts = {
            "camera": part.camera,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": decision.verdict,
            "reasons": _reasons(decision),
            "captured_at": captured_at,
            "valid_until": captured_at + valid_for,
            "sent_mono_ms": self._clock.mono_ns() / 1e6,
            "clock": self._scribe.wall_clock,
            "latency_ms": sent.latency,
            "model": self._scribe.model,
            "config_sha256": self._scribe.identity.config_sha256,
        }
        return wire.Verdict.model_validate({**head, **facts})

    def _record(self, sent: Sent, sight: Sight, late: wire.Late | None = None) -> None:
        if not self._is_recorded(sent):
            return
        part, who = sent.part, self._scribe.identity
        detections = sight.detections or Detections.empty()
        topic = self._scribe.topics.of("result", part.camera)
        facts = {
            "camera": part.camera,
            "verdict_seq": sent.seq,
            "sent": sent.in_time,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": sent.decision.verdict,
            "reasons": _reasons(sent.decision),
            "late": late,
            "captured_at": self._clock.utc_of(part.captured_ns),
            "clock": self._scribe.wall_clock,
            "latency_ms": self._latency(part, sight.lap) if late else sent.latency,
            "frame": _frame_info(sight.frame),
            "detections": self._found(detections[:MAX_DETECTIONS]),
            "detections_total": len(detections),
            "frames": sight.frames,
            "model": self._scribe.model,
            "config_sha256": who.config_sha256,
            "profile": who.profile,
            "agent_version": who.agent_version,
        }
        with self._scribe.page(topic) as head:
            payload = wire.Result.model_validate({**head, **facts}).payload()
            self._outbox.put("result", Message(topic, payload, qos=1))

    def _is_recorded(self, sent: Sent) -> bool:
        """A fraction takes every n-th part, by its number, so that a replay records the same ones."""
        if isinstance(self.results, str):
            return self.results == "all" or sent.decision.verdict != "pass"
        number = sent.part.number
        return int(number * self.results) > int((number - 1) * self.results)

    def _found(self, detections: Detections) -> list[wire.Found]:
        rows = zip(detections.classes.tolist(), detections.scores.tolist(), detections.boxes.tolist(), strict=True)
        labels = self._scribe.labels
        return [
            wire.Found(label=labels[class_id], class_id=class_id, score=score, box=(box[0], box[1], box[2], box[3]))
            for class_id, score, box in rows
        ]

    def _latency(self, part: Part, lap: Lap | None) -> wire.Latency:
        now_ns = self._clock.mono_ns()
        total = (now_ns - part.captured_ns) / 1e6
        if lap is None:
            return wire.Latency.model_validate({"total": total})
        return wire.Latency(
            queue=(lap.started_ns - part.captured_ns) / 1e6,
            preprocess=lap.preprocess_ms,
            infer=lap.infer_ms,
            decide=(now_ns - lap.inferred_ns) / 1e6,
            total=total,
        )

    def _count(self, decision: Decision) -> None:
        """By word, and unknown ones by their code too. Called by whoever holds the camera's page."""
        keys: list[str] = [decision.verdict]
        keys += [f"unknown.{reason.code}" for reason in decision.reasons[:1] if reason.code]
        with self._lock:
            for key in keys:
                self.verdicts[key] = self.verdicts.get(key, 0) + 1


def _reasons(decision: Decision) -> tuple[wire.Reason, ...]:
    return tuple(
        wire.Reason.model_validate(
            {"code": r.code, "rule": r.rule, "label": r.label and wire.cut(r.label), "score": r.score}
        )
        for r in decision.reasons
    )


def _late(decision: Decision) -> wire.Late:
    return wire.Late(verdict=decision.verdict, reasons=_reasons(decision))


def _frame_info(frame: Frame | None) -> wire.FrameInfo | None:
    if frame is None:
        return None
    width, height = frame.size
    return wire.FrameInfo(seq=frame.seq, width=width, height=height, source=frame.source[-200:])
