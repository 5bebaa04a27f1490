"""What verdicts and results say: from a part and what was seen of it to the words of a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision, Part
from edge_agent.runtime.engine import Lap
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire

MAX_DETECTIONS = 100


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
    captured_ns: int
    latency: wire.Latency


@dataclass(frozen=True, slots=True)
class Fire:
    """When a part is at the arm, on a belt of one speed, and how exact the wall clock must be to say so."""

    after_ms: float
    tolerance_ms: float

    def may_be_told(self, clock: wire.Clock) -> bool:
        """Whether the clock's error, at its worst, leaves half of the tolerance to the arm."""
        return bool(clock.synced) and clock.max_error_ms is not None and clock.max_error_ms <= self.tolerance_ms / 2


class Forms:
    """Fills in verdicts and results. `fire`, by camera, may be replaced between two messages. Any thread."""

    def __init__(self, scribe: Scribe, fire: Mapping[str, Fire] | None = None) -> None:
        self._scribe, self._clock = scribe, scribe.clock
        self.fire = fire or {}

    @property
    def has_unsure_clock(self) -> bool:
        """Whether a camera's verdicts should say `fire_at`, and cannot now."""
        fires = self.fire.values()
        return bool(fires) and not all(fire.may_be_told(self._scribe.wall_clock) for fire in fires)

    def sent(self, part: Part, decision: Decision, seq: int, sight: Sight) -> Sent:
        """What is known of a verdict before it is sent."""
        captured_ns = sight.frame.captured_ns if sight.frame else part.since_ns
        return Sent(part, decision, seq, False, captured_ns, self._latency(part, sight.lap))

    def verdict(self, head: Mapping[str, object], sent: Sent) -> wire.Verdict:
        """Raises `ValidationError`."""
        part, clock = sent.part, self._scribe.wall_clock
        facts = {
            "camera": part.camera,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": sent.decision.verdict,
            "reasons": _reasons(sent.decision),
            "captured_at": self._clock.utc_of(sent.captured_ns),
            "valid_until": self._clock.utc_of(part.valid_until_ns),
            "fire_at": self._fire_at(part, clock),
            "sent_mono_ms": self._clock.mono_ns() / 1e6,
            "clock": clock,
            "latency_ms": sent.latency,
            "model": self._scribe.model,
            "config_sha256": self._scribe.identity.config_sha256,
        }
        return wire.Verdict.model_validate({**head, **facts})

    def result(self, head: Mapping[str, object], sent: Sent, sight: Sight, late: Decision | None) -> wire.Result:
        """The record of a verdict. `late` is what the engine said after the deadline."""
        part, who = sent.part, self._scribe.identity
        detections = sight.detections or Detections.empty()
        facts: dict[str, Any] = {
            "camera": part.camera,
            "verdict_seq": sent.seq,
            "sent": sent.in_time,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": sent.decision.verdict,
            "reasons": _reasons(sent.decision),
            "late": late and wire.Late(verdict=late.verdict, reasons=_reasons(late)),
            "captured_at": self._clock.utc_of(sight.frame.captured_ns if sight.frame else sent.captured_ns),
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
        return wire.Result.model_validate({**head, **facts})

    def _fire_at(self, part: Part, clock: wire.Clock) -> datetime | None:
        fire = self.fire.get(part.camera)
        if fire is None or not fire.may_be_told(clock):
            return None
        return self._clock.utc_of(part.since_ns) + timedelta(milliseconds=fire.after_ms)

    def _found(self, detections: Detections) -> list[wire.Found]:
        rows = zip(detections.classes.tolist(), detections.scores.tolist(), detections.boxes.tolist(), strict=True)
        labels = self._scribe.labels
        return [
            wire.Found(label=labels[class_id], class_id=class_id, score=score, box=(box[0], box[1], box[2], box[3]))
            for class_id, score, box in rows
        ]

    def _latency(self, part: Part, lap: Lap | None) -> wire.Latency:
        now_ns = self._clock.mono_ns()
        total = (now_ns - part.since_ns) / 1e6
        if lap is None:
            return wire.Latency.model_validate({"total": total})
        return wire.Latency(
            queue=(lap.started_ns - part.since_ns) / 1e6,
            preprocess=lap.preprocess_ms,
            infer=lap.infer_ms,
            decide=(now_ns - lap.inferred_ns) / 1e6,
            total=total,
        )


def _reasons(decision: Decision) -> tuple[wire.Reason, ...]:
    return tuple(
        wire.Reason.model_validate(
            {"code": r.code, "rule": r.rule, "label": r.label and wire.cut(r.label), "score": r.score}
        )
        for r in decision.reasons
    )


def _frame_info(frame: Frame | None) -> wire.FrameInfo | None:
    if frame is None:
        return None
    width, height = frame.size
    return wire.FrameInfo(seq=frame.seq, width=width, height=height, source=frame.source[-200:])
