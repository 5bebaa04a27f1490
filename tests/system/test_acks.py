"""What the agent knows of its arm, and of its own last end."""

import signal

import pytest

from tests.processes import ended
from tests.system.agents import running_agent
from tests.system.arms import config as arm_config
from tests.system.arms import running_arm
from tests.system.triggered import Trigger, event, mqtt_trigger, triggered_line, verdicts, wait_until_ready

pytestmark = pytest.mark.system
ACK = "[ack]\nwithin_ms = 3000"


def is_state(*reasons):
    return lambda heard: heard.topic.endswith("/state") and heard.json["reasons"] == list(reasons)


def test_an_arm_that_dies_is_told_by_its_missing_acks_and_so_is_one_that_is_back(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger("window_ms = 1000"), ack=ACK)
    acting = arm_config(broker, 'on_unknown = "reject"\non_agent_loss = "reject"', device="test-01")
    with running_agent(tmp_path, config) as agent:
        with running_arm(tmp_path, acting) as arm:
            arm.wait_for(code="agent_back")
            trigger.pull("with an arm")
            listener.wait_for(lambda heard: heard.topic.endswith("/ack"))
        trigger.pull("without one")
        missing = event(listener, "acks_missing")
        assert missing["data"] == {"camera": "top", "first_seq": 2, "last_seq": 2, "count": 1}
        listener.wait_for(lambda heard: heard.topic.endswith("/state") and "no_ack:top" in heard.json["reasons"])
        with running_arm(tmp_path, acting) as arm:
            arm.wait_for(code="agent_back")
            trigger.pull("again with one")
            assert event(listener, "acks_back", 70)["data"] == {"camera": "top"}
            listener.wait_for_count(is_state(), 2)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0


def test_after_a_kill_the_next_start_says_what_was_the_last_verdict(tmp_path, broker, listener):
    trigger = Trigger(listener)
    config = triggered_line(tmp_path, broker.port, mqtt_trigger())
    with running_agent(tmp_path, config) as agent:
        wait_until_ready(listener)
        for number in range(5):
            trigger.pull(str(number))
        session = verdicts(listener, 5)[-1]["session"]
        written = lambda: b'"top":5' in (tmp_path / "state/edge-agent/test-01/outbox.db-wal").read_bytes()  # noqa: E731
        assert ended(written)
        agent.send(signal.SIGKILL)
    with running_agent(tmp_path, config) as agent:
        told = event(listener, "unclean_end")
        assert {key: told["data"][key] for key in ("camera", "session", "last_seq")} == {
            "camera": "top",
            "session": session,
            "last_seq": 5,
        }
        assert told["session"] != session
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    listener.hear_out()
    heard, sessions = len(listener.heard), {session, told["session"]}
    with running_agent(tmp_path, config):
        is_beat = lambda said: said.topic.endswith("/heartbeat") and said.json["session"] not in sessions  # noqa: E731
        listener.wait_for_count(is_beat, 8)
    assert [said for said in listener.heard[heard:] if said.topic.endswith("/event")] == []


def test_too_many_unknown_in_a_row_are_an_alarm_until_another_word_comes(tmp_path, broker, listener):
    trigger = Trigger(listener)
    limit = "deadline_ms = 200\nvalid_ms = 5000\nunknown_in_row = 3"
    config = triggered_line(tmp_path, broker.port, mqtt_trigger(), source="/dev/video99", verdict=limit)
    with running_agent(tmp_path, config):
        wait_until_ready(listener, "error")
        for number in range(3):
            trigger.pull(str(number))
        told = event(listener, "unknown_in_row")
    assert told["data"] == {"camera": "top", "count": 3, "first_seq": 1, "times": 1}
