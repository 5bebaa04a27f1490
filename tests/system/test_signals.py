"""Signals at the wrong moment, and a broker that refuses."""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.brokers import Listener, running_broker
from tests.fixtures import REPO
from tests.processes import STOP_S
from tests.system.agents import ROOT, config_text, replay, running_agent
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_run import RELAXED, YOLOX, is_state, is_verdict

pytestmark = pytest.mark.system
MODEL = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"


def test_sigterm_while_the_engine_loads_stops_it(tmp_path, broker, listener):
    model = recording(tmp_path / "stuck.npz", hang_after=1)
    config = config_text(model=model, cameras=replay(PHOTOS), port=broker.port)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(is_state("starting"), timeout=20)
        asked_at = time.monotonic()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        assert time.monotonic() - asked_at < STOP_S
    assert listener.wait_for(is_state("offline")).json["reasons"] == ["stopping"]


def test_a_line_that_runs_stops_within_the_five_seconds_of_the_promise(tmp_path, broker, listener):
    config = config_text(model=MODEL, cameras=replay(PHOTOS), port=broker.port, verdict=RELAXED, more=YOLOX)
    took_s = []
    while not took_s or (min(took_s) > 5 and len(took_s) < 3):  # a machine that is busy may be late once or twice
        listener.heard.clear()
        with running_agent(tmp_path, config) as agent:
            listener.wait_for_count(is_verdict(), 2, timeout=20)
            asked_at = time.monotonic()
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
            took_s.append(time.monotonic() - asked_at)
    assert min(took_s) <= 5, took_s


def survives_sighup(pid):
    """Whether the process ignores or catches it: before its first lines ran, no program does."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    masks = re.findall(r"Sig(?:Ign|Cgt):\s*([0-9a-f]+)", status)
    return any(int(mask, 16) & 1 << signal.SIGHUP - 1 for mask in masks)


@pytest.mark.parametrize("after_s", [0, 0.05, 0.1, 0.2])
def test_sighup_at_any_moment_of_the_start_does_not_end_it(tmp_path, broker, listener, after_s):
    config = config_text(model=MODEL, cameras=replay(PHOTOS), port=broker.port, verdict=RELAXED, more=YOLOX)
    with running_agent(tmp_path, config) as agent:
        while not survives_sighup(agent.process.pid):
            time.sleep(0.001)
        time.sleep(after_s)  # the moment is the test
        agent.send(signal.SIGHUP)
        listener.wait_for_count(is_verdict(), 2, timeout=20)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0


def test_silent_cameras_do_not_add_up_when_it_stops(tmp_path, broker, listener):
    silent = "".join(
        f'[[cameras]]\nid = "cam{n}"\nkind = "opencv"\nsource = "rtsp://127.0.0.1:{broker.port}/{n}"\n'
        '  [cameras.trigger]\n  kind = "frame"\n'
        for n in range(8)
    )
    config = config_text(model=MODEL, cameras=silent, port=broker.port, more=YOLOX)
    with running_agent(tmp_path, config) as agent:
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/birth" and bool(heard.json["engine"]), timeout=20)
        asked_at = time.monotonic()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        assert time.monotonic() - asked_at < STOP_S


def test_verdicts_that_the_broker_refuses_degrade_the_state_and_do_not_hold_results_up(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite {ROOT}/state\ntopic readwrite {ROOT}/birth\ntopic readwrite {ROOT}/result/+\n")
    config_of_broker = f"allow_anonymous true\nacl_file {acl}\n"
    with running_broker(tmp_path, config_of_broker) as broker, Listener(broker.port, "factory/#") as listener:
        config = config_text(model=MODEL, cameras=replay(PHOTOS, fps=10), port=broker.port, verdict=RELAXED, more=YOLOX)
        with running_agent(tmp_path, config):
            refused = listener.wait_for(
                lambda heard: is_state("degraded")(heard) and "verdicts_refused" in heard.json["reasons"], timeout=20
            )
            since = len(listener.on("result/top"))
            listener.wait_for_count(lambda heard: heard.topic.endswith("result/top"), since + 30, timeout=30)
    assert refused
    assert not listener.on("verdict/top")
