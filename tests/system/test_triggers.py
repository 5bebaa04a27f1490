"""Parts that are called for from outside: one verdict for each trigger, whatever happens."""

import json
import os
import signal
import time
from collections import Counter

import pytest

from tests.chips import FAKE_GPIOD, Chip
from tests.processes import ended
from tests.system.agents import running_agent
from tests.system.triggered import (
    PATIENT,
    Trigger,
    codes,
    event,
    gpio_trigger,
    mqtt_trigger,
    pace,
    triggered_line,
    verdicts,
    wait_until_ready,
)

pytestmark = pytest.mark.system
PER_S, AT_ONCE = 200, 400  # messages on one topic that are let through


def test_every_trigger_gets_its_verdict_with_its_id_and_position(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger("window_ms = 3000"), verdict=PATIENT)
    with running_agent(tmp_path, config):
        wait_until_ready(listener)
        for number in pace(per_s=20, count=40):
            trigger.pull(f"part {number}", position=number / 2)
        told = verdicts(listener, 40)
        results = listener.wait_for_count(lambda heard: heard.topic.endswith("/result/top"), 40)
    assert [verdict["trigger_id"] for verdict in told] == trigger.sent
    assert [verdict["position"] for verdict in told] == [number / 2 for number in range(40)]
    assert [verdict["seq"] for verdict in told] == list(range(1, 41))
    assert {verdict["verdict"] for verdict in told} == {"pass"}
    assert [result.json["trigger_id"] for result in results] == trigger.sent


def test_a_trigger_before_the_engine_is_there_is_told_so(tmp_path, broker, listener):
    trigger = Trigger(listener)
    with running_agent(tmp_path, triggered_line(tmp_path, broker.port, mqtt_trigger(), run_ms=700)):
        listener.wait_for(lambda heard: heard.topic.endswith("/birth"))
        trigger.pull("early")
        assert codes(verdicts(listener, 1)[0]) == ["model_not_ready"]


def test_without_a_camera_a_part_is_unknown_and_the_state_an_error(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger(), source="/dev/video99")
    with running_agent(tmp_path, config):
        wait_until_ready(listener, "error")
        trigger.pull("unseen")
        told = verdicts(listener, 1)[0]
    assert (told["verdict"], codes(told), told["trigger_id"]) == ("unknown", ["no_frame"], "unseen")
    assert 200 <= told["latency_ms"]["total"] < 5000


def test_more_triggers_than_the_engine_can_judge_are_overload_and_the_rest_is_judged_in_time(
    tmp_path, broker, listener
):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger(), run_ms=80)
    with running_agent(tmp_path, config) as agent:
        wait_until_ready(listener)
        for number in pace(per_s=30, count=60):
            trigger.pull(str(number), wait=False)
        told = verdicts(listener, 60)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert sorted((verdict["trigger_id"] for verdict in told), key=int) == trigger.sent
    found = Counter("".join(codes(verdict)) or verdict["verdict"] for verdict in told)
    assert found["overload"] >= 15
    assert found["pass"] >= 5  # of about 25 that there is time for, on a machine that is not busy
    assert sum(found.values()) == 60
    assert set(found) <= {"pass", "overload", "deadline_missed", "no_frame"}


def test_triggers_that_are_not_meant_are_refused_counted_and_told(tmp_path, broker, listener):
    trigger = Trigger(listener)
    trigger.pull("from yesterday", retain=True)
    with running_agent(tmp_path, triggered_line(tmp_path, broker.port, mqtt_trigger(), verdict=PATIENT)):
        wait_until_ready(listener)
        trigger.pull("kept", retain=True)
        trigger.pull("for ever", expiry_s=None)
        trigger.say(b"\xff\x00 no json")
        trigger.say(json.dumps({"trigger_id": 4711}).encode())
        trigger.say(b"{}" + b" " * 5000)
        trigger.pull("good")
        trigger.pull("good")
        trigger.pull("last")
        told = verdicts(listener, 2)
        assert [verdict["trigger_id"] for verdict in told] == ["good", "last"]
        outcomes = {}
        wanted = {"retained": 1, "no_expiry": 1, "malformed": 2, "too_large": 1, "duplicate": 1}
        assert ended(lambda: sum(data["count"] for data in events(listener, is_refused, outcomes).values()) >= 6)
        assert {outcome: data["count"] for outcome, data in outcomes.items()} == wanted
        trail = tmp_path / "state" / "edge-agent" / "test-01" / "audit.jsonl"
        assert ended(lambda: trail.exists() and len(trail.read_text().splitlines()) >= 8)
        lines = [json.loads(line) for line in trail.read_text().splitlines()]
    assert Counter(line["outcome"] for line in lines) == {**wanted, "accepted": 2}
    assert trail.stat().st_mode & 0o777 == 0o600


def events(listener, wanted, into):
    """Their data, by outcome; what was told in two events is added up."""
    into.clear()
    for heard in filter(wanted, list(listener.heard)):
        data = heard.json["data"]
        before = into.get(data["outcome"], {"count": 0})
        into[data["outcome"]] = {**data, "count": data["count"] + before["count"]}
    return into


def test_a_flood_of_triggers_is_refused_and_does_not_stop_the_line(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger("window_ms = 3000"), verdict=PATIENT)
    with running_agent(tmp_path, config) as agent:
        wait_until_ready(listener)
        began_s = time.monotonic()
        for number in range(5000):
            trigger.pull(f"flood {number}", wait=False)
        refused = listener.wait_for(lambda heard: is_refused(heard) and heard.json["data"]["outcome"] == "flood", 30)
        for number in pace(per_s=2, count=60):  # until the flood has run off
            trigger.pull(f"after {number}")
            if is_over := any(map(is_after, list(listener.heard))):
                break
        accepted, lasted_s = len(listener.on("verdict/top")), time.monotonic() - began_s
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert refused.json["severity"] == "alarm"
    assert is_over
    print(f"{accepted} accepted in {lasted_s:.1f} s")  # noqa: T201 - a number for whoever asks with -s
    assert accepted <= AT_ONCE + PER_S * lasted_s


def test_a_trigger_that_waited_in_a_frozen_agent_is_not_judged_by_a_later_frame(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger("window_ms = 300"), verdict=PATIENT)
    with running_agent(tmp_path, config) as agent:
        wait_until_ready(listener)
        trigger.pull("before")
        verdicts(listener, 1)
        agent.send(signal.SIGSTOP)
        trigger.pull("meanwhile")
        time.sleep(1.5)  # being late is what is tested
        agent.send(signal.SIGCONT)
        told = listener.wait_for(is_verdict_on("meanwhile"), 30).json
        trigger.pull("after")
        listener.wait_for(is_verdict_on("after"), 30)
    assert (told["verdict"], codes(told)) == ("unknown", ["no_frame"])


def is_verdict_on(trigger_id):
    return lambda heard: heard.topic.endswith("/verdict/top") and heard.json["trigger_id"] == trigger_id


def is_after(heard):
    is_verdict = heard.topic.endswith("/verdict/top") and heard.json["verdict"] == "pass"
    return is_verdict and heard.json["trigger_id"].startswith("after")


def is_refused(heard):
    return heard.topic.endswith("/event") and heard.json["code"] == "inbound_refused"


def test_an_edge_on_an_input_line_is_a_part_and_a_chip_that_goes_is_an_error_until_it_is_back(
    tmp_path, broker, listener
):
    chip = Chip(tmp_path)
    trigger = gpio_trigger(chip, more="debounce_ms = 0\nwindow_ms = 3000")
    config = triggered_line(tmp_path, broker.port, trigger, verdict=PATIENT)
    with running_agent(tmp_path, config, env={**os.environ, "PYTHONPATH": str(FAKE_GPIOD)}):
        wait_until_ready(listener)
        for _ in pace(per_s=20, count=20):
            assert ended(lambda: chip.pulse(7))
        told = verdicts(listener, 20)
        assert {verdict["verdict"] for verdict in told} == {"pass"}
        chip.unplug()
        assert event(listener, "trigger_lost")["data"]["camera"] == "top"
        lost = listener.wait_for(lambda heard: heard.topic.endswith("/state") and heard.json["state"] == "error").json
        assert lost["reasons"] == ["trigger_lost:top"]
        chip.plug_in()
        assert event(listener, "trigger_back")["data"]["camera"] == "top"
        assert ended(lambda: chip.is_open(7))
        chip.forget(7, 2)
        assert ended(lambda: chip.pulse(7))
        told = verdicts(listener, 23)[20:]
    assert Counter("".join(codes(verdict)) or verdict["verdict"] for verdict in told)["overload"] == 2
