"""What verdicts and results say: from a part and what was seen of it to the bytes of a message.

They are written as plain values, in the order of `wire.Verdict` and `wire.Result` and rounded as these do it: the same
bytes in a fifth of the time that the models take. Hardly anything is validated here: names come out of the configuration
and labels out of `Scribe.introduce`, which have looked at them, and words are our own. Codes are a rule's, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, get_args

from pydantic_core import to_json

from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision, Part, Reason
from edge_agent.runtime.engine import Lap
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire

MAX_DETECTIONS = 100
_CODES = frozenset(get_args(wire.UnknownCode))


@dataclass(frozen=True, slots=True)
class Sight:
    """What the pipeline saw of a part; empty where it never came to that."""

    frame: Frame | None = None
    detections: Detections | None = None
    lap: Lap | None = None
    frames: int = 0


NOTHING_SEEN = Sight()


class Latency(NamedTuple):
    """Where the time went, in milliseconds to the microsecond, as in `wire.Latency`; None where a stage did not run."""

    queue: float | None
    preprocess: float | None
    infer: float | None
    decide: float | None
    total: float


class Sent(NamedTuple):
    """A verdict that used `seq`; `in_time` where it was handed to a live connection while it was valid."""

    part: Part
    decision: Decision
    seq: int
    in_time: bool
    captured_ns: int
    latency: Latency


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
        self._last_found: tuple[Detections | None, list[dict[str, Any]]] = None, []  # replaced whole: for any thread

    @property
    def has_unsure_clock(self) -> bool:
        """Whether a camera's verdicts should say `fire_at`, and cannot now."""
        fires = self.fire.values()
        return bool(fires) and not all(fire.may_be_told(self._scribe.wall_clock) for fire in fires)

    def sent(self, part: Part, decision: Decision, seq: int, sight: Sight) -> Sent:
        """What is known of a verdict before it is sent."""
        captured_ns = sight.frame.captured_ns if sight.frame else part.since_ns
        return Sent(part, decision, seq, False, captured_ns, self._latency(part, sight.lap))

    def verdict(self, head: Mapping[str, Any], sent: Sent) -> bytes:
        """The payload of `wire.Verdict`. Raises `ValueError` where something in it cannot be written."""
        part, clock = sent.part, self._scribe.wall_clock
        facts = {
            "schema": "edge-agent/verdict/1",
            **head,
            "at": wire.utc_text(head["at"]),
            "camera": part.camera,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": sent.decision.verdict,
            "reasons": _reasons(sent.decision),
            "captured_at": self._utc(sent.captured_ns),
            "valid_until": self._utc(part.valid_until_ns),
            "fire_at": self._fire_at(part, clock),
            "sent_mono_ms": round(self._clock.mono_ns() / 1e6, 3),
            "clock": _clock(clock),
            "latency_ms": sent.latency._asdict(),
            "model": _model(self._scribe.model),
            "config_sha256": self._scribe.identity.config_sha256,
        }
        payload = to_json(facts, inf_nan_mode="null")
        if len(payload) <= wire.VERDICT_BYTES:
            return payload
        return wire.Verdict.model_validate_json(payload).payload()  # which leaves out what it can do without

    def result(self, head: Mapping[str, Any], sent: Sent, sight: Sight, late: Decision | None) -> bytes:
        """The payload of `wire.Result`, the record of a verdict. `late` is what the engine said after the deadline."""
        part, who = sent.part, self._scribe.identity
        detections = sight.detections or Detections.empty()
        facts = {
            "schema": "edge-agent/result/1",
            **head,
            "at": wire.utc_text(head["at"]),
            "camera": part.camera,
            "verdict_seq": sent.seq,
            "sent": sent.in_time,
            "trigger_id": part.trigger_id,
            "position": part.position,
            "part_id": part.id,
            "verdict": sent.decision.verdict,
            "reasons": _reasons(sent.decision),
            "late": late and {"verdict": late.verdict, "reasons": _reasons(late)},
            "captured_at": self._utc(sight.frame.captured_ns if sight.frame else sent.captured_ns),
            "clock": _clock(self._scribe.wall_clock),
            "latency_ms": (self._latency(part, sight.lap) if late else sent.latency)._asdict(),
            "frame": _frame(sight.frame),
            "detections": self._found(detections),
            "detections_total": len(detections),
            "frames": sight.frames,
            "model": _model(self._scribe.model),
            "config_sha256": who.config_sha256,
            "profile": who.profile,
            "agent_version": who.agent_version,
        }
        return to_json(facts, inf_nan_mode="null")

    def _utc(self, mono_ns: int) -> str:
        return wire.utc_text(self._clock.utc_of(mono_ns))

    def _fire_at(self, part: Part, clock: wire.Clock) -> str | None:
        fire = self.fire.get(part.camera)
        if fire is None or not fire.may_be_told(clock):
            return None
        return wire.utc_text(self._clock.utc_of(part.since_ns) + timedelta(milliseconds=fire.after_ms))

    def _found(self, detections: Detections) -> list[dict[str, Any]]:
        """The best of them, in pixels of the camera's frame. Parts that crossed in one frame share the list."""
        last, found = self._last_found
        if last is not detections:
            found = self._rows(detections)
            self._last_found = detections, found
        return found

    def _rows(self, detections: Detections) -> list[dict[str, Any]]:
        columns = detections.classes, detections.scores, detections.boxes
        rows = zip(*(column[:MAX_DETECTIONS].tolist() for column in columns), strict=True)
        labels = self._scribe.labels
        return [
            {
                "label": labels[number],
                "class_id": number,
                "score": round(score, 4),
                "box": (round(box[0], 1), round(box[1], 1), round(box[2], 1), round(box[3], 1)),
            }
            for number, score, box in rows
        ]

    def _latency(self, part: Part, lap: Lap | None) -> Latency:
        now_ns = self._clock.mono_ns()
        total = round((now_ns - part.since_ns) / 1e6, 3)
        if lap is None:
            return Latency(None, None, None, None, total)
        queue, decide = (lap.started_ns - part.since_ns) / 1e6, (now_ns - lap.inferred_ns) / 1e6
        return Latency(round(queue, 3), round(lap.preprocess_ms, 3), round(lap.infer_ms, 3), round(decide, 3), total)


def _reasons(decision: Decision) -> list[dict[str, Any]]:
    return [_reason(reason) for reason in decision.reasons]


def _reason(reason: Reason) -> dict[str, Any]:
    """Only what is set."""
    facts: dict[str, Any] = {}
    if reason.code is not None:
        if reason.code not in _CODES:
            raise ValueError(f"the reason's code {reason.code!r} is none of a verdict's: {', '.join(sorted(_CODES))}")
        facts["code"] = reason.code
    if reason.rule is not None:
        facts["rule"] = reason.rule
    if reason.label is not None:
        facts["label"] = wire.cut(reason.label)
    if reason.score is not None:
        facts["score"] = round(float(reason.score), 4)
    return facts


def _clock(clock: wire.Clock) -> dict[str, Any]:
    return {"synced": clock.synced, "max_error_ms": clock.max_error_ms}


def _model(model: wire.Model | None) -> dict[str, Any] | None:
    return None if model is None else {"name": model.name, "version": model.version, "sha256": model.sha256}


def _frame(frame: Frame | None) -> dict[str, Any] | None:
    if frame is None:
        return None
    width, height = frame.size
    return {"seq": frame.seq, "width": width, "height": height, "source": frame.source[-200:]}
