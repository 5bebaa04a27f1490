"""The whole agent on a network camera that dies, stalls, and comes back."""

import signal

import pytest

from tests.cameras.rtsp import running_server
from tests.system.agents import ROOT, config_text, running_agent
from tests.system.test_hang import recording
from tests.system.test_run import is_state, is_verdict

pytestmark = pytest.mark.system
RELAXED = "deadline_ms = 2000\nvalid_ms = 4000"
USER, PASSWORD = "operator", "s3cret&odd"


def camera(url):
    return f"""
[[cameras]]
id = "top"
kind = "opencv"
source = "{url}"
username = "{USER}"
password_file = "camera-password"
timeout_s = 2

  [cameras.trigger]
  kind = "frame"
"""


def is_event(code):
    return lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == code


def after(moment, predicate):
    return lambda heard: heard.received_ns > moment.received_ns and predicate(heard)


def test_verdicts_go_on_after_a_camera_died_and_after_it_stalled(tmp_path, broker, listener):
    (tmp_path / "camera-password").touch(0o600)
    (tmp_path / "camera-password").write_text(f"{PASSWORD}\n")
    with running_server("--fps", "5", "--keys", "5", "--user", USER, "--password", PASSWORD) as server:
        model = recording(tmp_path / "made.npz")
        config = config_text(model=model, cameras=camera(server.url), port=broker.port, verdict=RELAXED)
        with running_agent(tmp_path, config) as agent:
            verdict = moment = listener.wait_for(is_verdict(), timeout=30)
            for take_away, give_back in ((server.kill, server.start), (server.freeze, server.thaw)):
                take_away()
                moment = listener.wait_for(after(moment, is_state("error")), timeout=20)
                assert "camera_lost:top" in moment.json["reasons"]
                lost = listener.wait_for(after(verdict, is_event("camera_lost")), timeout=20)
                assert "127.0.0.1" in lost.json["message"]
                give_back()
                moment = listener.wait_for(after(moment, is_state("running", "degraded")), timeout=40)
                listener.wait_for(after(lost, is_event("camera_back")), timeout=20)
                verdict = moment = listener.wait_for(after(moment, is_verdict()), timeout=20)
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
            assert PASSWORD not in agent.log()
    seqs = [heard.json["seq"] for heard in listener.on("verdict/top")]
    assert seqs == sorted(set(seqs))
    assert not any(PASSWORD.encode() in heard.payload for heard in listener.heard)
