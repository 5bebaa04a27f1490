"""Verdicts and results are written without their models: the bytes must be those that the models give."""

from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SimulatedClock
from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision, Part, Reason
from edge_agent.runtime.engine import Lap
from edge_agent.runtime.forms import MAX_DETECTIONS, Fire, Forms, Sight
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire
from tests.runtime.stations import LABELS, TOPICS, make_identity, make_model

ENGINE = wire.Engine(backend="recorded", runtime="a recording", decoder="yolo", reason="a test")
PICTURE = np.zeros((720, 1280, 3), np.uint8)
MOST_NS = 10**18

ns = st.integers(0, MOST_NS)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
codes = st.sampled_from(["overload", "stale_frame", "internal_error"])
scores = st.floats(0, 1, width=32)
reasons = st.builds(Reason, st.none() | texts, st.none() | texts, st.none() | scores, st.none() | codes)
decisions = st.builds(
    Decision, st.sampled_from(["pass", "reject", "unknown"]), st.lists(reasons, max_size=4).map(tuple)
)
parts = st.builds(
    Part, st.just("top"), st.integers(1, 10**9), ns, ns, ns, st.none() | texts, st.none() | st.floats(allow_nan=True)
)
clocks = st.builds(
    lambda synced, error: wire.Clock(synced=synced, max_error_ms=error),
    st.none() | st.booleans(),
    st.none() | st.floats(0, 1e20),
)
moments = st.lists(ns, min_size=4, max_size=4).map(sorted)
coordinates = st.floats(-0.0, 4000, width=32)


@st.composite
def found(draw):
    n = draw(st.integers(0, 4)) + draw(st.sampled_from([0, 0, 0, MAX_DETECTIONS]))
    boxes = [[draw(coordinates) for _ in range(4)] for _ in range(min(n, 4))] + [[1.25, 2, 3, 4]] * max(0, n - 4)
    classes = np.arange(n, dtype=np.int32) % len(LABELS)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(n, draw(scores), np.float32), classes)


frames = st.builds(Frame, st.just(PICTURE), st.integers(0, 10**9), ns, texts | st.just("x" * 250))
sights = st.builds(
    Sight, st.none() | frames, st.none() | found(), st.none() | moments.map(lambda of: Lap(*of)), st.integers(0, 99)
)


def rig(clock, now_ns, fire=None, *, is_introduced=True):
    """Forms at a moment at which nothing moves on."""
    time = SimulatedClock(now_ns, datetime(2026, 11, 22, 4, 5, 6, 789_012, timezone.utc))
    scribe = Scribe(make_identity("top"), TOPICS, time, lambda: clock)
    if is_introduced:
        scribe.introduce(ENGINE, make_model())
    return scribe, Forms(scribe, {"top": fire} if fire else None)


def latency(part, lap, now_ns):
    total = (now_ns - part.since_ns) / 1e6
    if lap is None:
        return wire.Latency(total=total)
    stages = {"preprocess": lap.preprocess_ms, "infer": lap.infer_ms, "decide": (now_ns - lap.inferred_ns) / 1e6}
    return wire.Latency(queue=(lap.started_ns - part.since_ns) / 1e6, **stages, total=total)


def why(decision):
    given = [{"code": r.code, "rule": r.rule, "label": r.label, "score": r.score} for r in decision.reasons]
    facts = [{**facts, "label": facts["label"] and wire.cut(facts["label"])} for facts in given]
    return tuple(wire.Reason.model_validate(each) for each in facts)


def judged(scribe, part, decision, captured_ns):
    return {
        "camera": "top",
        "trigger_id": part.trigger_id,
        "position": part.position,
        "part_id": part.id,
        "verdict": decision.verdict,
        "reasons": why(decision),
        "captured_at": scribe.clock.utc_of(captured_ns),
        "clock": scribe.wall_clock,
        "model": scribe.model,
        "config_sha256": "c" * 64,
    }


@given(parts, decisions, sights, clocks, ns, st.booleans(), st.none() | st.just(Fire(500, 10)))
def test_a_verdict_is_byte_for_byte_what_its_model_gives(part, decision, sight, clock, now_ns, is_introduced, fire):
    scribe, forms = rig(clock, now_ns, fire, is_introduced=is_introduced)
    sent = forms.sent(part, decision, 7, sight)
    captured_ns = sight.frame.captured_ns if sight.frame else part.since_ns
    head = scribe.head(7)
    written = forms.verdict(head, sent)
    fires = bool(fire and fire.may_be_told(clock))
    told = wire.Verdict.model_validate(
        {
            **head,
            **judged(scribe, part, decision, captured_ns),
            "valid_until": scribe.clock.utc_of(part.valid_until_ns),
            "fire_at": scribe.clock.utc_of(part.since_ns + 500_000_000) if fires else None,
            "sent_mono_ms": now_ns / 1e6,
            "latency_ms": latency(part, sight.lap, now_ns),
        }
    )
    assert written == told.payload()


@given(parts, decisions, sights, clocks, ns, st.none() | decisions)
def test_a_result_is_byte_for_byte_what_its_model_gives(part, decision, sight, clock, now_ns, late):
    scribe, forms = rig(clock, now_ns)
    sent = forms.sent(part, decision, 7, sight)._replace(in_time=True)
    head = scribe.head(8)
    detections = sight.detections or Detections.empty()
    rows = zip(detections.classes.tolist(), detections.scores.tolist(), detections.boxes.tolist(), strict=True)
    told = wire.Result.model_validate(
        {
            **head,
            **judged(scribe, part, decision, sent.captured_ns),
            "verdict_seq": 7,
            "sent": True,
            "late": late and wire.Late(verdict=late.verdict, reasons=why(late)),
            "latency_ms": latency(part, sight.lap, now_ns),
            "frame": sight.frame
            and wire.FrameInfo(seq=sight.frame.seq, width=1280, height=720, source=sight.frame.source[-200:]),
            "detections": [
                wire.Found(label=LABELS[number], class_id=number, score=score, box=box) for number, score, box in rows
            ][:MAX_DETECTIONS],
            "detections_total": len(detections),
            "frames": sight.frames,
            "profile": "generic-x86_64",
            "agent_version": "0.1.0",
        }
    )
    assert forms.result(head, sent, sight, late) == told.payload()


def test_a_verdict_that_would_be_too_long_leaves_out_what_its_model_leaves_out():
    names = [Reason("r" * 60, "ä" * 30, 0.5)] * 4
    scribe, forms = rig(wire.Clock(synced=True, max_error_ms=0.1), 10**9)
    part = Part("top", 7, 1, 2, 3, "t" * 64, 1.5)
    written = forms.verdict(scribe.head(7), forms.sent(part, Decision("reject", tuple(names)), 7, Sight()))
    verdict = wire.Verdict.model_validate_json(written)
    assert len(written) <= wire.VERDICT_BYTES
    assert 0 < len(verdict.reasons) < 4
    assert verdict.payload() == written


def test_what_cannot_be_written_is_a_value_error():
    scribe, forms = rig(wire.Clock(synced=True, max_error_ms=0.1), 10**9)
    decision = Decision("reject", (Reason("half a character: \ud800"),))
    with pytest.raises(ValueError, match="surrogates"):
        forms.verdict(scribe.head(7), forms.sent(Part("top", 7, 1, 2, 3), decision, 7, Sight()))


def test_each_result_has_the_detections_of_its_own_frame():
    scribe, forms = rig(wire.Clock(synced=True, max_error_ms=0.1), 10**9)
    part = Part("top", 7, 1, 2, 3)

    def written(score):
        boxes, classes = np.array([[1, 2, 3, 4]], np.float32), np.zeros(1, np.int32)
        sight = Sight(detections=Detections(boxes, np.array([score], np.float32), classes))
        sent = forms.sent(part, Decision("pass"), 7, sight)
        twice = {forms.result(scribe.head(8), sent, sight, None) for _ in range(2)}
        return [[found.score for found in wire.Result.model_validate_json(result).detections] for result in twice]

    assert [written(0.5), written(0.25), written(0.5)] == [[[0.5]], [[0.25]], [[0.5]]]
