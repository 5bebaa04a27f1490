"""An engine that hangs must not silence the line."""

import signal

import numpy as np
import pytest

from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec
from tests.fixtures import REPO
from tests.system.agents import ROOT, config_text, replay, running_agent
from tests.system.test_run import is_state, is_verdict

pytestmark = pytest.mark.system
PHOTOS = REPO / "examples" / "photos"
METADATA = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
ON_TIME = "deadline_ms = 150\nvalid_ms = 1500"
FIRST_CALL = 2  # of the engine for a frame: the one before warms it up


def recording(path, **how):
    """An engine that finds one part in the middle of every picture, and takes a while to open as real ones do.

    A verdict from before the first connection stands is not sent: it would be the connection's speed that is tested.
    """
    found = np.zeros((1, 10, 6), np.float32)
    found[0, 0] = (0.4, 0.4, 0.6, 0.6, 0.9, 0)
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    recorded.save(path, [image], [[found]], METADATA, latency_ms=50, **how)
    return path


def test_every_part_of_a_slow_engine_is_unknown_on_time_and_its_decision_in_the_result(tmp_path, broker, listener):
    model = recording(tmp_path / "slow.npz", hang_after=FIRST_CALL, hang_s=0.3)
    config = config_text(model=model, cameras=replay(PHOTOS), port=broker.port, verdict=ON_TIME)
    with running_agent(tmp_path, config) as agent:
        verdicts = listener.wait_for_count(is_verdict(), 6, timeout=20)
        results = listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/result/top", 4)
        listener.wait_for(is_state("degraded"))
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    for heard in verdicts:
        assert heard.json["verdict"] == "unknown"
        assert heard.json["reasons"] == [{"code": "deadline_missed"}]
    took_ms = sorted(heard.json["latency_ms"]["total"] for heard in verdicts)
    assert took_ms[0] >= 150
    assert took_ms[len(took_ms) // 2] < 300  # long before the engine; a busy machine may wake late now and then
    seqs = [heard.json["seq"] for heard in verdicts]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    for heard in results:
        assert heard.json["verdict"] == "unknown"
        assert heard.json["late"]["verdict"] == "pass"
        assert heard.json["detections"][0]["label"] == "part"


def test_an_engine_that_hangs_for_good_stops_the_heartbeat_and_the_state_says_so(tmp_path, broker, listener):
    model = recording(tmp_path / "dead.npz", hang_after=FIRST_CALL + 5)
    config = config_text(model=model, cameras=replay(PHOTOS), port=broker.port, verdict=ON_TIME)
    with running_agent(tmp_path, config) as agent:
        last = listener.wait_for(lambda heard: is_verdict()(heard) and heard.json["seq"] == 6)
        assert last.json["reasons"] == [{"code": "deadline_missed"}]
        error = listener.wait_for(is_state("error"))
        assert error.json["reasons"] == ["engine_stalled"]
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        listener.hear_out()
    assert listener.on("verdict/top")[-1] == last
    assert listener.on("/state")[-1].json["state"] == "offline"
    beats_ns = [heard.received_ns for heard in listener.on("/heartbeat")]
    assert max(beats_ns) < error.received_ns
    assert (max(beats_ns) - last.received_ns) / 1e9 < 2


def test_stopping_closes_the_part_that_the_engine_is_stuck_on(tmp_path, broker, listener):
    model = recording(tmp_path / "dead.npz", hang_after=FIRST_CALL + 2)
    slow = "deadline_ms = 20000\nvalid_ms = 30000"
    config = config_text(model=model, cameras=replay(PHOTOS), port=broker.port, verdict=slow)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(lambda heard: is_verdict()(heard) and heard.json["seq"] == 2, timeout=20)
        listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/heartbeat", len(listener.on("/heartbeat")) + 2)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    stopped = listener.wait_for(lambda heard: is_verdict()(heard) and heard.json["seq"] == 3)
    assert stopped.json["reasons"] == [{"code": "stopping"}]
