"""`Inbound`: what becomes of each message that comes in."""

import json
import statistics
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from structlog.testing import capture_logs

from edge_agent.clock import SimulatedClock
from edge_agent.core.ports import Heard
from edge_agent.publishers import mqtt
from edge_agent.runtime.audit import Audit
from edge_agent.runtime.inbound import Inbound, TriggerInput
from edge_agent.runtime.link import Link
from tests.brokers import running_broker
from tests.runtime.stations import TOPICS, wait_for

MS = 1_000_000
NOW_NS = 10**15
UTC = datetime(2026, 11, 21, 9, 14, 3, 412_000, tzinfo=timezone.utc)
DEADLINE_MS = 600
TRIGGER, ACK = TOPICS.of("trigger", "top"), TOPICS.of("ack")
SYNCED = {"synced": True, "max_error_ms": 1}


@dataclass
class Quality:
    synced: bool | None = True
    max_error_ms: float | None = 1.0


class Rig:
    """A gate for the triggers of camera `top`, and for acks. `calls` and `acks` are what came through."""

    def __init__(self, folder) -> None:
        self.calls: list[tuple[int, str, float | None]] = []
        self.acks, self.doubts = [], []
        self.own = Quality()
        self.clock = SimulatedClock(NOW_NS, UTC)
        self.audit = Audit(folder, self.clock)
        self.inbound = self.gate()

    def input(self) -> TriggerInput:
        return TriggerInput(
            lambda *call: self.calls.append(call),
            lambda *call: self.doubts.append(call),
            time_tolerance_ms=5,
            window_ms=100,
        )

    def gate(self, **others) -> Inbound:
        how = {
            "triggers": {"top": self.input()},
            "on_ack": lambda ack, _heard: self.acks.append(ack),
            "audit": self.audit,
            "deadline_ms": DEADLINE_MS,
            "own_clock": lambda: self.own,
            "clock": self.clock,
        }
        return Inbound(TOPICS, **{**how, **others})

    def say(self, topic: str, payload, *, retained=False, expiry_s: int | None = 10, at_ns: int = NOW_NS) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.inbound.hear(Heard(topic, data, retained, expiry_s, at_ns))

    def trigger(self, trigger_id: str = "t-1", **fields) -> None:
        self.say(TRIGGER, {"trigger_id": trigger_id, **fields})


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


# --- what is accepted ---------------------------------------------------------------------------------------------------


def test_a_trigger_calls_for_a_part_at_the_moment_it_was_received(rig):
    rig.trigger("t-1", position=12.5, schema="edge-agent/trigger/1", something="else")
    assert rig.calls == [(NOW_NS, "t-1", 12.5)]
    assert rig.inbound.counts == {"trigger.accepted": 1}
    assert rig.inbound.refusals.take() == []


def test_an_ack_is_handed_on(rig):
    rig.say(ACK, {"camera": "top", "session": "5f0c", "seq": 7, "action": "reject"})
    rig.say(ACK, {"camera": "top", "trigger_id": "t-1", "action": "none", "why": "stale"})
    assert [(ack.seq, ack.trigger_id, ack.action) for ack in rig.acks] == [(7, None, "reject"), (None, "t-1", "none")]
    assert rig.inbound.counts == {"ack.accepted": 2}


def test_what_is_subscribed_to_is_what_is_configured(rig):
    assert rig.inbound.topics() == (TRIGGER, ACK)
    assert rig.gate(on_ack=None).topics() == (TRIGGER,)
    assert rig.gate(triggers={}).topics() == (ACK,)
    assert rig.gate(triggers={}, on_ack=None).topics() == ()


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'"t-1"',
        b'{"trigger_id":""}',
        b'{"trigger_id":7}',
        b'{"trigger_id":"t-1"',
        b'{"trigger_id":"t-1","position":"12"}',
        b'{"trigger_id":"t-1","position":NaN}',
        b'{"trigger_id":"t-1","position":1e999}',
        b'{"trigger_id":"t-1","position":1' + 1000 * b"0" + b"}",
        b'{"trigger_id":"\\ud800"}',
        b'{"trigger_id":"t-1","time":"2026-11-21T09:14:03"}',
        b'{"trigger_id":"t-1","schema":"edge-agent/ack/1"}',
        b'{"trigger_id":"t-1","x":' + 2000 * b"[" + 2000 * b"]" + b"}",
        json.dumps({"trigger_id": 65 * "x"}).encode(),
    ],
)
def test_a_malformed_trigger_is_refused(rig, payload):
    rig.say(TRIGGER, payload)
    assert rig.calls == []
    assert rig.inbound.counts == {"trigger.malformed": 1}


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"camera":"top","action":"reject"}',
        b'{"camera":"top","action":"reject","seq":3}',
        b'{"camera":"top","action":"explode","trigger_id":"t-1"}',
        b'{"camera":"top","action":"reject","session":"a","seq":0}',
    ],
)
def test_a_malformed_ack_is_refused(rig, payload):
    rig.say(ACK, payload)
    assert rig.acks == []
    assert rig.inbound.counts == {"ack.malformed": 1}


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"retained": True}, "retained"),
        ({"expiry_s": None}, "no_expiry"),
        ({"expiry_s": 0}, "stale"),
        ({"payload": b'{"trigger_id":"t-1"}' + 4096 * b" "}, "too_large"),
        ({"topic": TOPICS.of("trigger", "side")}, "unwanted"),
        ({"topic": TRIGGER + "/x"}, "unwanted"),
    ],
)
def test_a_trigger_that_must_not_count_is_refused_by_name(rig, how, outcome):
    rig.say(**{"topic": TRIGGER, "payload": b'{"trigger_id":"t-1"}', **how})
    assert rig.calls == []
    assert rig.inbound.counts == {f"trigger.{outcome}": 1}
    (refusal,) = rig.inbound.refusals.take()
    assert (refusal.outcome, refusal.count, refusal.example[:10]) == (outcome, 1, '{"trigger_')


def test_the_largest_message_that_is_read_has_4096_bytes(rig):
    rig.say(TRIGGER, b'{"trigger_id":"t-1"}'.ljust(4096))
    assert rig.inbound.counts == {"trigger.accepted": 1}


def test_an_ack_that_nobody_waits_for_is_unwanted(rig):
    rig.inbound = rig.gate(on_ack=None)
    rig.say(ACK, {"camera": "top", "trigger_id": "t-1", "action": "none"})
    assert rig.inbound.counts == {"ack.unwanted": 1}


@pytest.mark.parametrize("topic", ["", "x", "(a topic that is not UTF-8)", TOPICS.of("verdict", "top"), ACK + "/x"])
def test_a_topic_that_is_none_of_ours_is_unknown(rig, topic):
    rig.say(topic, b"{}")
    assert rig.inbound.counts == {"unknown_topic": 1}


def test_a_trigger_id_that_was_used_lately_is_a_duplicate(rig):
    for number in range(1002):
        rig.say(TRIGGER, {"trigger_id": f"t-{number}"}, at_ns=NOW_NS + number * 10 * MS)
    rig.trigger("t-1001")
    rig.trigger("t-2")
    rig.trigger("t-0")
    assert len(rig.calls) == 1003
    assert rig.inbound.counts == {"trigger.accepted": 1003, "trigger.duplicate": 2}


def test_the_same_id_at_another_camera_is_no_duplicate(rig):
    both = {camera: rig.input() for camera in ("top", "side")}
    rig.inbound = rig.gate(triggers=both)
    for camera in both:
        rig.say(TOPICS.of("trigger", camera), {"trigger_id": "t-1"})
    assert len(rig.calls) == 2


def test_a_flood_is_cut_down_for_its_topic_alone_and_recovers(rig):
    for number in range(1000):
        rig.trigger(f"t-{number}")
    rig.say(ACK, {"camera": "top", "trigger_id": "t-1", "action": "none"})
    rig.say(TRIGGER, {"trigger_id": "later"}, at_ns=NOW_NS + 1000 * MS)
    assert rig.inbound.counts == {"trigger.accepted": 401, "trigger.flood": 600, "ack.accepted": 1}


def test_topics_without_number_are_cut_down_together(rig):
    for number in range(1000):
        rig.say(f"made/up/{number}", b"")
    assert rig.inbound.counts == {"unknown_topic": 400, "unknown_topic.flood": 600}


def test_an_error_behind_the_gate_is_logged_and_counted_and_the_next_message_gets_through(rig):
    def call(at_ns: int, trigger_id: str, position: float | None) -> None:
        if trigger_id == "bad":
            raise ZeroDivisionError("oops")
        rig.calls.append((at_ns, trigger_id, position))

    rig.inbound = rig.gate(triggers={"top": TriggerInput(call, call, 5, 100)})
    with capture_logs() as logs:
        rig.trigger("bad")
        rig.trigger("good")
    assert [entry["event"] for entry in logs] == ["inbound_failed"]
    assert [call[1] for call in rig.calls] == ["good"]
    assert rig.inbound.counts == {"trigger.failed": 1, "trigger.accepted": 1}


# --- the time base ------------------------------------------------------------------------------------------------------


def sensed(ago_ms: float) -> str:
    return (UTC - timedelta(milliseconds=ago_ms)).isoformat()


def test_the_time_of_a_message_counts_where_both_clocks_are_good_enough(rig):
    rig.trigger(time=sensed(40), clock={"synced": True, "max_error_ms": 4})
    assert rig.calls == [(NOW_NS - 40 * MS, "t-1", None)]
    assert rig.inbound.counts == {"trigger.accepted": 1}


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (Quality(), {"synced": True, "max_error_ms": 4.1}),
        (Quality(), {"synced": True}),
        (Quality(), {"synced": False, "max_error_ms": 1}),
        (Quality(), None),
        (Quality(synced=False), SYNCED),
        (Quality(synced=None, max_error_ms=None), SYNCED),
        (Quality(max_error_ms=None), SYNCED),
        (Quality(max_error_ms=5), SYNCED),
    ],
)
def test_a_time_by_clocks_that_are_not_good_enough_is_counted_and_receipt_counts(rig, own, theirs):
    rig.own = own
    rig.trigger(time=sensed(40), clock=theirs)
    assert rig.calls == [(NOW_NS, "t-1", None)]
    assert rig.inbound.counts == {"trigger.accepted": 1, "trigger.time_unused": 1}


def test_a_time_in_the_future_is_not_used_unless_it_is_within_the_tolerance(rig):
    rig.trigger("t-1", time=sensed(-5), clock=SYNCED)
    rig.trigger("t-2", time=sensed(-6), clock=SYNCED)
    assert [call[0] - NOW_NS for call in rig.calls] == [5 * MS, 0]
    assert rig.inbound.counts == {"trigger.accepted": 2, "trigger.time_unused": 1}


def test_a_trigger_that_was_certainly_too_long_ago_is_stale(rig):
    rig.trigger("t-1", time=sensed(DEADLINE_MS + 2), clock=SYNCED)
    rig.trigger("t-2", time=sensed(DEADLINE_MS + 3), clock=SYNCED)
    rig.trigger("t-3", time=sensed(DEADLINE_MS + 50), clock={"synced": True, "max_error_ms": 40})
    rig.trigger("t-4", time=sensed(DEADLINE_MS + 50), clock={"synced": True, "max_error_ms": 60})
    assert [call[1] for call in rig.calls] == ["t-1", "t-4"]
    assert rig.inbound.counts == {"trigger.accepted": 2, "trigger.stale": 2, "trigger.time_unused": 1}


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_time_harm_nothing(rig, when):
    rig.trigger(time=when, clock=SYNCED)
    assert sum(rig.inbound.counts[key] for key in rig.inbound.counts if key != "trigger.time_unused") == 1
    assert "trigger.failed" not in rig.inbound.counts


# --- the whole way ------------------------------------------------------------------------------------------------------


def test_what_a_real_broker_delivers_ends_in_one_outcome_each_and_stands_in_the_audit_trail(tmp_path):
    rig = Rig(tmp_path)
    rig.audit.start()
    with running_broker(tmp_path) as broker:
        config = mqtt.Config(host=broker.host, port=broker.port)
        line = Link("line", lambda: mqtt.create(config, "a", None, rig.inbound.topics()), hear=rig.inbound.hear)
        line.start()
        wait_for(lambda: line.connected)
        say_all(config)
        wait_for(lambda: sum(rig.inbound.counts.values()) == 6)
        line.stop(5)
    rig.audit.stop(5)
    assert rig.inbound.counts == {
        "trigger.accepted": 2,
        "trigger.duplicate": 1,
        "trigger.retained": 1,
        "trigger.no_expiry": 1,
        "ack.malformed": 1,
    }
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    outcomes = ["accepted", "accepted", "duplicate", "retained", "no_expiry", "malformed"]
    assert [line["outcome"] for line in lines] == outcomes
    assert [line.get("trigger_id") for line in lines] == ["t-1", "t-2", "t-2", None, None, None]


def say_all(config: mqtt.Config) -> None:
    """Two triggers, and four messages that must not count."""
    talker = mqtt.create(config, "b")
    for topic, payload, retain, expiry_s in [
        (TRIGGER, b'{"trigger_id":"t-1"}', False, 5),
        (TRIGGER, b'{"trigger_id":"t-2"}', False, 5),
        (TRIGGER, b'{"trigger_id":"t-2"}', False, 5),
        (TRIGGER, b'{"trigger_id":"t-3"}', True, 5),
        (TRIGGER, b'{"trigger_id":"t-4"}', False, None),
        (ACK, b"", False, 5),
    ]:
        talker.send(mqtt.Message(topic, payload, qos=1, retain=retain, expiry_s=expiry_s))
    talker.close()


def test_a_trigger_costs_less_than_a_millisecond(rig):
    payload = b'{"schema":"edge-agent/trigger/1","trigger_id":"0123456789","position":123456.5}'
    heard = [Heard(TRIGGER, payload.replace(b"0123456789", b"%010d" % n), False, 5, NOW_NS) for n in range(400)]
    took_s = []
    for item in heard:
        began_s = time.perf_counter()
        rig.inbound.hear(item)
        took_s.append(time.perf_counter() - began_s)
    assert len(rig.calls) == 400
    assert statistics.median(took_s) < 0.001


def test_a_trigger_that_nobody_looked_for_is_doubted_from_the_earliest_moment_on(rig):
    heard = Heard(TRIGGER, b'{"trigger_id": "held up", "position": 2}', False, 5, NOW_NS, waited_ns=101 * MS)
    rig.inbound.hear(heard)
    assert rig.calls == []
    assert rig.doubts == [(NOW_NS - 101 * MS, "held up", 2)]
    assert rig.inbound.counts == {"trigger.accepted": 1, "trigger.waited": 1}


def test_a_trigger_that_waited_for_less_than_the_window_is_one_of_now(rig):
    rig.inbound.hear(Heard(TRIGGER, b'{"trigger_id": "a"}', False, 5, NOW_NS, waited_ns=99 * MS))
    assert (rig.calls, rig.doubts) == ([(NOW_NS, "a", None)], [])


def test_what_is_wrong_with_a_malformed_one_is_told(rig):
    rig.inbound.hear(Heard(TRIGGER, b'{"trigger_id": "a", "position": "12"}', False, 5, NOW_NS))
    (refusal,) = rig.inbound.refusals.take()
    assert refusal.why == "position: Input should be a valid number"


def test_of_a_camera_whose_parts_may_be_missing_it_is_known_since_when(rig):
    rig.inbound.hear(Heard(TRIGGER, b"{}", False, 5, NOW_NS))
    assert rig.inbound.missed_ns == {"top": NOW_NS}


def test_once_it_is_closed_nothing_is_wanted(rig):
    rig.inbound.close()
    rig.inbound.hear(Heard(TRIGGER, b'{"trigger_id": "a"}', False, 5, NOW_NS))
    assert rig.inbound.counts == {"trigger.unwanted": 1}
