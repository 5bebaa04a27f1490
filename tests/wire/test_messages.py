import json
from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from edge_agent.wire import messages as wire
from edge_agent.wire.answers import Ack
from edge_agent.wire.topics import Topics
from tests.wire.schemas import violations

AT = datetime(2026, 11, 21, 9, 14, 3, 446_900, timezone.utc)
HEAD = {"device": "cap-01", "session": "5f0c" * 8, "seq": 1834, "at": AT}
MODEL = wire.Model(name="caps", version="1.2.0", sha256="9b" * 32)
CLOCK = wire.Clock(synced=True, max_error_ms=0.8)
LATENCY = wire.Latency(queue=0.4, preprocess=1.1, infer=31.8, decide=0.3, total=33.9)
JUDGED = {
    "camera": "top",
    "part_id": "top-1834",
    "verdict": "reject",
    "reasons": (wire.Reason(rule="defect", label="crack", score=0.93),),
    "captured_at": AT,
    "clock": CLOCK,
    "latency_ms": LATENCY,
    "model": MODEL,
    "config_sha256": "77aa" * 16,
}
VERDICT = {**HEAD, **JUDGED, "valid_until": AT + timedelta(milliseconds=600), "sent_mono_ms": 88123446.1}
RECORD = {"verdict_seq": 1, "sent": True, "profile": "raspberry-pi-5", "agent_version": "0.1.0", "frames": 3}
BIRTH = {
    "agent_version": "0.1.0",
    "python": "3.11.7",
    "board": "raspberry-pi-5",
    "profile": "raspberry-pi-5",
    "config_sha256": "77aa" * 16,
    "on_unknown": "reject",
    "on_agent_loss": "stop",
    "deadline_ms": 150,
    "valid_ms": 600,
}
CAMERA = {"condition": "open", "frames": 9, "taken": 8, "dropped": 1, "timeouts": 0, "losses": 0}
EXAMPLES = [
    wire.Verdict(**VERDICT),
    wire.Verdict(**{**VERDICT, "verdict": "pass", "reasons": (), "latency_ms": wire.Latency(total=1)}),
    wire.Verdict(**VERDICT, trigger_id="t7", position=1.5, fire_at=AT),
    wire.Result(
        **{**HEAD, **JUDGED, **RECORD},
        late=wire.Late(verdict="unknown", reasons=(wire.Reason(code="low_confidence"),)),
        frame=wire.FrameInfo(seq=7, width=1280, height=720, source="a.jpg"),
        detections=(wire.Found(label="crack", class_id=1, score=0.93, box=(1.04, 2, 3, 4)),),
        detections_total=1,
    ),
    wire.Result(**{**HEAD, **JUDGED, **RECORD, "verdict_seq": None}, frame=None, detections=(), detections_total=0),
    wire.StateMessage(**HEAD, state="degraded", reasons=("deadline_missed",)),
    wire.Heartbeat(**HEAD, state="running", last_verdict_seq={"top": 3}, sent_mono_ms=1.5),
    wire.Birth(**HEAD, **BIRTH, engine=None, model=None, cameras=(), schemas=(), topics=()),
    wire.Birth(
        **HEAD,
        **BIRTH,
        engine=wire.Engine(backend="tflite", runtime="ai-edge-litert 2", decoder="yolo", reason="the first"),
        model=MODEL,
        cameras=(wire.CameraInfo(id="top", kind="opencv", trigger="line"),),
        schemas=("edge-agent/state/1",),
        topics=("factory/leon/bottling/3/capper/vision/cap-01/state",),
    ),
    wire.Event(**HEAD, code="camera_lost", severity="alarm", message="it is gone", data={"a": 1, "b": "x", "c": None}),
    wire.Health(
        **HEAD,
        uptime_s=3.5,
        cameras={"top": wire.CameraHealth(**CAMERA, fps=None, age_ms=None)},
        verdicts={"pass": 3},
        unsent={},
        latency_ms={"total": wire.LatencyHealth(p50=1, p99=2, max=3)},
        records={"waiting": 0},
        links={"line": 1},
        temperature_c=None,
        throttled=("under_voltage",),
        memory_available_mb=1.0,
        rss_mb=None,
        clock=wire.Clock(synced=None, max_error_ms=None),
    ),
]
each_example = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
each_model = pytest.mark.parametrize("model", wire.MESSAGES.values(), ids=list(wire.MESSAGES))


def test_every_kind_of_message_has_an_example_here():
    assert {type(message) for message in EXAMPLES} == set(wire.MESSAGES.values())


@each_example
def test_a_message_is_what_its_own_schema_says(message):
    payload = json.loads(message.payload())
    assert violations(payload, type(message).model_json_schema(mode="serialization")) == []


@each_example
def test_a_message_can_be_read_back_and_says_the_same(message):
    again = type(message).model_validate_json(message.payload())
    assert again.payload() == message.payload()


@each_example
def test_a_schema_refuses_what_is_wrong_and_lets_later_keys_through(message):
    schema = type(message).model_json_schema(mode="serialization")
    assert not violations({**json.loads(message.payload()), "later": 1}, schema)
    assert violations({**json.loads(message.payload()), "seq": 0}, schema)


@each_example
def test_a_message_begins_with_the_common_fields(message):
    payload = json.loads(message.payload())
    assert {"schema", "device", "session", "seq", "at"} <= payload.keys()
    name = next(name for name, model in wire.MESSAGES.items() if model is type(message))
    assert payload["schema"] == f"edge-agent/{name}/1"


@each_model
def test_unknown_fields_are_refused(model):
    with pytest.raises(ValidationError, match="image"):
        model.model_validate({"image": "…"})


def unbounded(schema, where=""):
    """Each place where a string or a list could be as long as a picture."""
    if isinstance(schema, list):
        return [place for part in schema for place in unbounded(part, where)]
    if not isinstance(schema, dict):
        return []
    bounds = {
        "string": {"maxLength", "enum", "const", "format", "pattern"},
        "array": {"maxItems"},
        "object": {"properties", "propertyNames"},
    }
    needed = bounds.get(schema.get("type"), set())
    found = [where] if needed and not needed & schema.keys() else []
    found += [where] if schema == {} or schema.get("additionalProperties") is True else []
    found += [where] if schema.get("format") in {"binary", "base64", "base64url"} else []
    inner = ("properties", "$defs")
    for key, value in schema.items():
        parts = value.items() if key in inner else [(key, value)]
        found += [place for name, part in parts if name != "default" for place in unbounded(part, f"{where}/{name}")]
    return found


@each_model
@pytest.mark.parametrize("mode", ["serialization", "validation"])
def test_no_field_could_hold_a_picture(model, mode):
    assert unbounded(model.model_json_schema(mode=mode)) == []


def test_the_check_for_pictures_finds_them():
    picture = {"properties": {"a": {"type": "string"}, "b": {"type": "array"}, "c": {}, "d": {"type": "object"}}}
    assert unbounded(picture) == ["/a", "/b", "/c", "/d"]


def test_a_verdict_has_the_fields_of_the_contract():
    fields = """schema device camera session seq at trigger_id position part_id verdict reasons captured_at valid_until
        fire_at sent_mono_ms clock latency_ms model config_sha256"""
    assert set(json.loads(wire.Verdict(**VERDICT).payload())) == set(fields.split())


def test_times_are_utc_with_milliseconds_and_a_z():
    payload = json.loads(wire.Verdict(**VERDICT).payload())
    assert payload["captured_at"] == "2026-11-21T09:14:03.446Z"
    assert payload["valid_until"] == "2026-11-21T09:14:04.046Z"


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "2026-01-02T03:04:05.000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 999_999, timezone(timedelta(hours=5, minutes=30))), "2026-01-01T21:34:05.999Z"),
        (datetime(1970, 1, 1, tzinfo=timezone.utc), "1970-01-01T00:00:00.000Z"),
    ],
)
def test_every_time_zone_becomes_utc(when, text):
    assert wire.utc_text(when) == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"code": "deadline_missed"}, {"code": "deadline_missed"}),
        ({"rule": "defect", "label": "crack", "score": 0.93}, {"rule": "defect", "label": "crack", "score": 0.93}),
        ({"rule": "presence", "label": "cap", "score": 0.0}, {"rule": "presence", "label": "cap", "score": 0.0}),
    ],
)
def test_a_reason_shows_only_what_is_set(given, shown):
    payload = json.loads(wire.Verdict(**{**VERDICT, "reasons": (wire.Reason(**given),)}).payload())
    assert payload["reasons"] == [shown]


def test_a_reason_has_its_fields_in_the_schema():
    reason = wire.Verdict.model_json_schema(mode="serialization")["$defs"]["Reason"]
    assert set(reason["properties"]) == {"code", "rule", "label", "score"}


def test_numbers_are_not_longer_than_they_need_to_be():
    latency = wire.Latency(total=33.91234567, infer=0.1 + 0.2)
    verdict = json.loads(wire.Verdict(**{**VERDICT, "latency_ms": latency, "sent_mono_ms": 88123446.123456}).payload())
    assert (verdict["latency_ms"]["total"], verdict["latency_ms"]["infer"]) == (33.912, 0.3)
    assert verdict["sent_mono_ms"] == 88123446.123


@pytest.mark.parametrize("wrong", [{"score": "high"}, {"code": "bored"}, {"label": "x" * 65}, {"rule": "x" * 65}])
def test_a_reason_out_of_bounds_is_refused(wrong):
    with pytest.raises(ValidationError):
        wire.Reason(**wrong)


def test_a_fifth_reason_is_refused():
    with pytest.raises(ValidationError):
        wire.Verdict(**{**VERDICT, "reasons": (wire.Reason(code="overload"),) * 5})


def reasons(length):
    """Four, as long as they get with labels of that length."""
    rule = "r" * min(length, 32)
    return (wire.Reason(code="low_confidence", rule=rule, label="x" * length, score=0.1234),) * 4


def long_verdict(given, **others):
    """With identifiers of 32 characters and every stage taking long."""
    latency = wire.Latency(**dict.fromkeys(("queue", "preprocess", "infer", "decide", "total"), 12345.678))
    names = {"device": "d" * 32, "camera": "c" * 32, "part_id": "c" * 32 + "-1234567"}
    model = wire.Model(name="m" * 32, version="v" * 16, sha256="a" * 64)
    return wire.Verdict(
        **{**VERDICT, **names, "seq": 1234567, "latency_ms": latency, "model": model, "reasons": given, **others}
    )


def test_three_reasons_of_ordinary_names_fit_into_a_verdict():
    labels = ("label_misaligned", "cap_missing", "crack")
    given = tuple(wire.Reason(rule="defect", label=label, score=0.9312) for label in labels)
    payload = long_verdict(given).payload()
    assert len(payload) < 1024
    assert len(json.loads(payload)["reasons"]) == 3


@pytest.mark.parametrize("length", [16, 32, 64])
def test_a_verdict_stays_below_one_kibibyte_and_loses_its_last_reasons_first(length):
    payload = long_verdict(reasons(length), verdict="unknown").payload()
    assert len(payload) < 1024
    kept = json.loads(payload)["reasons"]
    assert 1 <= len(kept) < 4
    assert kept[0]["label"] == "x" * length


def test_a_result_keeps_all_four_reasons():
    result = wire.Result(
        **{**HEAD, **JUDGED, **RECORD, "reasons": reasons(64)}, frame=None, detections=(), detections_total=0
    )
    assert len(json.loads(result.payload())["reasons"]) == 4


def test_topics_follow_the_place_in_the_plant():
    topics = Topics("factory", "leon", "bottling", "3", "capper", "cap-01")
    root = "factory/leon/bottling/3/capper/vision/cap-01"
    assert topics.of("state") == f"{root}/state"
    assert topics.of("verdict", "top") == f"{root}/verdict/top"
    assert topics.listing(("top", "side")) == (
        *(f"{root}/{name}" for name in ("state", "birth", "heartbeat", "event", "health")),
        *(f"{root}/{name}/{camera}" for camera in ("top", "side") for name in ("verdict", "result")),
    )


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
def test_the_longest_names_of_all_leave_a_verdict_below_one_kibibyte(letter):
    reason = wire.Reason(code="low_confidence", rule=letter * 32, label=wire.cut(letter * 64), score=0.9312)
    latency = wire.Latency(queue=1234.567, preprocess=12.345, infer=1234.567, decide=12.345, total=1234.567)
    facts = {
        "device": "d" * 32,
        "camera": "c" * 32,
        "part_id": "c" * 32 + "-12345678",
        "seq": 12345678,
        "verdict": "unknown",
        "reasons": (reason,) * 4,
        "latency_ms": latency,
        "model": wire.Model(name="m" * 48, version="v" * 48, sha256="a" * 64),
        "trigger_id": "t" * 64,
        "position": -1.2345678901234567e-300,
        "fire_at": AT,
    }
    payload = wire.Verdict(**{**VERDICT, **facts}).payload()
    assert len(payload) < 1024
    assert json.loads(payload)["trigger_id"] == "t" * 64
    kept = json.loads(payload)["reasons"][0]
    assert kept["code"] == "low_confidence"
    assert (letter * 32).startswith(kept["rule"])


@pytest.mark.parametrize("trigger_id", [None, "t7"])
def test_an_ack_fits_its_schema_and_comes_back_as_it_was(trigger_id):
    ack = Ack(**HEAD, camera="top", trigger_id=trigger_id, action="none", why="stale", at_mono_ms=4711.4021)
    shown = json.loads(ack.payload())
    assert violations(shown, Ack.model_json_schema(mode="serialization")) == []
    assert Ack.model_validate_json(ack.payload()).seq == HEAD["seq"]
    assert shown["at_mono_ms"] == 4711.402
