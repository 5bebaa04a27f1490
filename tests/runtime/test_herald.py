import time

import pytest

from edge_agent.core.parts import Decision
from edge_agent.publishers import mqtt
from edge_agent.wire import messages as wire
from tests.brokers import Listener, running_broker
from tests.runtime.stations import Station, Wire, one_after_the_other, wait_for

GOOD = Decision("pass")


@pytest.fixture
def line():
    return Wire()


@pytest.fixture
def station(line):
    with Station(one_after_the_other(line)) as station:
        yield station


def report(station):
    """A round of the herald that is due to report."""
    station.herald._report_due_s = 0
    station.herald.tick("running", ())


def test_state_and_birth_are_announced_retained_in_the_first_round(station, line):
    station.herald.tick("starting", ())
    state, birth = line.sent
    assert [(m.topic.rsplit("/", 1)[1], m.retain, m.qos) for m in (state, birth)] == [
        ("state", True, 1),
        ("birth", True, 1),
    ]
    assert wire.StateMessage.model_validate_json(state.payload).state == "starting"
    told = wire.Birth.model_validate_json(birth.payload)
    assert (told.engine.backend, told.model.name, told.cameras[0].id) == ("recorded", "caps", "top")
    assert "factory/leon/bottling/3/capper/vision/cap-01/verdict/top" in told.topics
    assert set(told.schemas) == {f"edge-agent/{name}/1" for name in wire.MESSAGES}


def test_birth_before_the_engine_is_loaded_names_no_model(station, line):
    station.scribe.engine = station.scribe.model = None
    station.herald.tick("starting", ())
    (birth,) = line.on("/birth")
    assert (birth["engine"], birth["model"]) == (None, None)


def test_what_has_not_changed_is_not_announced_in_every_round(station, line):
    for _ in range(20):
        station.herald.tick("starting", ())
    assert len(line.sent) == 2


def test_a_change_of_state_is_announced_at_once(station, line):
    for state, reasons in (("starting", ()), ("ready", ()), ("degraded", ("no_arm",)), ("degraded", ("x",))):
        station.herald.tick(state, reasons)
    assert [(s["state"], s["reasons"]) for s in line.on("/state")] == [
        ("starting", []),
        ("ready", []),
        ("degraded", ["no_arm"]),
        ("degraded", ["x"]),
    ]


def test_while_it_stops_nothing_is_announced_but_the_end(station, line):
    station.herald.winding_down = True
    station.herald.tick("ready", ())
    assert line.on("/state") == []
    station.herald.announce("offline", ("stopping",))
    assert [state["state"] for state in line.on("/state")] == ["offline"]


def test_more_reasons_than_fit_are_cut(station, line):
    station.herald.tick("error", tuple(f"camera_lost:{number}" for number in range(40)))
    assert line.on("/state")[0]["reasons"] == [f"camera_lost:{number}" for number in range(15)] + ["more:25"]


def test_as_many_reasons_as_fit_are_all_told(station, line):
    station.herald.tick("error", tuple(f"camera_lost:{number}" for number in range(16)))
    assert line.on("/state")[0]["reasons"] == [f"camera_lost:{number}" for number in range(16)]


def test_on_a_new_connection_everything_is_announced_again():
    first, second = Wire(), Wire()
    with Station(one_after_the_other(first, second)) as station:
        station.herald.tick("running", ())
        station.line.abort("a test")
        wait_for(lambda: station.line.connections == 2 and station.line.connected)
        station.herald.tick("running", ())
        assert [facts["state"] for facts in second.on("/state")] == ["running"]
        assert len(second.on("/birth")) == 1


@pytest.mark.parametrize(
    ("state", "beats"),
    [("starting", False), ("ready", True), ("running", True), ("degraded", True), ("error", False), ("offline", False)],
)
def test_the_heart_beats_only_while_parts_can_be_judged(station, line, state, beats):
    station.herald.tick(state, ())
    assert bool(line.on("/heartbeat")) is beats


def test_the_heart_beats_about_four_times_a_second(station, line):
    until_s = time.monotonic() + 1.5
    while time.monotonic() < until_s:
        station.herald.tick("running", ())
        time.sleep(0.01)
    assert 3 <= len(line.on("/heartbeat")) <= 8


def test_a_heartbeat_says_what_was_last_decided_and_is_forgotten_soon(station, line):
    station.desk.judged(station.open_part(), GOOD)
    station.desk.judged(station.open_part(), GOOD)
    station.herald.tick("running", ())
    (message,) = [message for message in line.sent if message.topic.endswith("/heartbeat")]
    beat = wire.Heartbeat.model_validate_json(message.payload)
    assert (message.qos, message.retain, message.expiry_s, message.token) == (0, False, 2, None)
    assert (beat.state, beat.last_verdict_seq) == ("running", {"top": 2})
    assert abs(beat.sent_mono_ms - time.monotonic() * 1000) < 10_000


def test_numbers_have_no_gap_on_any_topic(station, line):
    for number in range(30):
        station.desk.judged(station.open_part(), GOOD)
        station.herald._beat_due_s = 0
        station.herald.tick("running", (f"{number}",))
    for topic in ("/state", "/birth", "/heartbeat", "verdict/top"):
        assert [facts["seq"] for facts in line.on(topic)] == list(range(1, 31))


def test_without_a_connection_nothing_is_said_again_and_no_number_is_used():
    with Station(one_after_the_other(first := Wire())) as station:
        first.cut()
        wait_for(lambda: not station.line.connected)
        wait_for(lambda: station.line.inbox.qsize() >= 2)
        station.herald._take_notices()  # that it stood, and that it went
        station.herald.announce("running", ())
        time.sleep(0.15)
        station.herald.tick("running", ())
        station.herald.tick("running", ())
        with station.scribe.page(station.scribe.topics.of("birth")) as head:
            assert head["seq"] == 2


def test_verdicts_that_nobody_got_make_one_event_per_range():
    first, second = Wire(), Wire()
    with Station(one_after_the_other(first, second)) as station:
        station.desk.judged(station.open_part(), GOOD)
        first.cut()
        wait_for(lambda: not station.line.connected)
        for _ in range(25):
            station.desk.judged(station.open_part(), GOOD)
        report(station)  # the outage is not over, but who knows how the agent ends
        wait_for(lambda: station.line.connected)
        station.desk.judged(station.open_part(), GOOD)
        report(station)
        report(station)
        unsent = [event for event in station.events() if event["data"].get("reason") == "no_connection"]
        assert [(e["code"], e["severity"]) for e in unsent] == [("verdicts_unsent", "alarm")]
        assert unsent[0]["data"] == {
            "camera": "top",
            "first_seq": 2,
            "last_seq": 26,
            "count": 25,
            "reason": "no_connection",
        }


def test_what_a_broken_connection_left_unconfirmed_is_reported():
    with Station(one_after_the_other(first := Wire(code=None), Wire())) as station:
        for _ in range(3):
            station.desk.judged(station.open_part(), GOOD)
        first.cut()
        wait_for(lambda: station.line.connections == 2 and station.line.connected)
        report(station)
        (event,) = station.events()
        assert (event["data"]["reason"], event["data"]["count"]) == ("unconfirmed", 3)


def test_a_verdict_on_the_next_connection_does_not_pay_for_the_last_one():
    with Station(one_after_the_other(Wire(code=None), second := Wire())) as station:
        station.desk.judged(station.open_part(), GOOD)
        station.line.abort("a test")
        wait_for(lambda: station.line.connections == 2 and station.line.connected)
        station.desk.judged(station.open_part(), GOOD)  # before the herald has heard of the change
        wait_for(lambda: second.on("verdict/top"))
        report(station)
        (event,) = station.events()
        assert (event["data"]["first_seq"], event["data"]["last_seq"]) == (1, 1)


def test_a_verdict_without_confirmation_while_valid_cuts_the_connection():
    with Station(one_after_the_other(first := Wire(code=None), second := Wire()), valid_ms=300) as station:
        station.desk.judged(station.open_part(), GOOD)
        wait_for(lambda: station.desk.has_overdue_confirmation(time.monotonic_ns()))
        station.herald.tick("running", ())
        assert first.aborted
        wait_for(lambda: station.line.connections == 2 and station.line.connected)
        report(station)
        assert [event["data"]["reason"] for event in station.events()] == ["unconfirmed"]
        assert second.on("verdict/top") == []


def test_that_nobody_listens_is_said_once_and_so_is_that_somebody_is_back(station, line):
    for code in (0x10, 0x10, 0x00, 0x00):
        line.code = code
        station.herald._take_notices()
        station.desk.judged(station.open_part(), GOOD)
        wait_for(lambda: not station.line.inbox.empty())
        report(station)
    assert [event["code"] for event in station.events()] == ["no_arm", "arm_back"]


def test_an_event_is_recorded_and_long_texts_in_it_are_cut_behind_a_word(station):
    data = {"camera": "top", "reason": "r" * 500, "outage_s": 1.5}
    station.reporter.event("camera_lost", "alarm", "lost " * 100, data)
    (facts,) = station.events()
    event = wire.Event.model_validate(facts)
    assert event.message == "lost " * 38 + "lost\u2026"
    assert event.data == {"camera": "top", "reason": "r" * 199 + "\u2026", "outage_s": 1.5}


def test_the_health_message_is_retained_for_a_minute_and_not_confirmed(station):
    facts = {
        "uptime_s": 1.0,
        "cameras": {},
        "verdicts": {},
        "unsent": {},
        "latency_ms": {},
        "records": {},
        "links": {},
        "temperature_c": None,
        "throttled": None,
        "memory_available_mb": None,
        "rss_mb": None,
        "clock": {"synced": None, "max_error_ms": None},
    }
    message = station.herald.health(facts)
    assert (message.qos, message.retain, message.expiry_s, message.token) == (0, True, 60, None)
    assert wire.Health.model_validate_json(message.payload).temperature_c is None


def test_the_broker_speaks_the_will_when_the_agent_is_lost(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port) as listener:
        config = mqtt.Config(host=broker.host, port=broker.port)
        wills = []

        def open_line():
            return mqtt.create(config, "ea-cap-01-line", wills[0].herald.will())

        station = Station(open_line)
        wills.append(station)
        with station:
            station.herald.tick("running", ())
            listener.wait_for(lambda heard: heard.topic.endswith("/state") and heard.json["state"] == "running")
            station.line.abort("a test")
            heard = listener.wait_for(lambda heard: heard.topic.endswith("/state") and heard.json["state"] == "offline")
            assert heard.json["reasons"] == ["connection_lost"]
            assert heard.json["session"] == station.scribe.identity.session


def test_a_clean_stop_leaves_no_will(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port) as listener:
        config = mqtt.Config(host=broker.host, port=broker.port)
        wills = []
        wills.append(Station(lambda: mqtt.create(config, "ea-cap-01-line", wills[0].herald.will())))
        with wills[0] as station:
            station.herald.announce("offline", ("stopping",))
        listener.publish("end")
        listener.wait_for(lambda heard: heard.topic == "end")
        assert [heard.json["reasons"] for heard in listener.on("/state")] == [["stopping"]]
