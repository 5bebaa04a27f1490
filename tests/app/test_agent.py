import queue
import threading
import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from edge_agent.app.agent import build, warn_of_power_mode
from edge_agent.config import load
from edge_agent.hardware.profile import Choice, load_all
from edge_agent.runtime import agent as agent_module
from tests.fixtures import REPO
from tests.hardware.trees import ORIN_NANO_SUPER_MODES, make_power_mode

CHOICE = Choice(load_all(None)["jetson-orin-nano"], supported=True, reason="matches the module p3767-0005")


def told(root, choice=CHOICE):
    with capture_logs() as logs:
        warn_of_power_mode(choice, root)
    return logs


def test_a_power_mode_that_the_profile_does_not_count_on_is_warned_of(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", ORIN_NANO_SUPER_MODES)
    (line,) = told(tmp_path)
    assert (line["event"], line["log_level"]) == ("power_mode_unlike_profile", "warning")
    assert "sudo nvpmodel -m 2" in line["reason"]


def test_the_power_mode_of_the_profile_is_not_mentioned(tmp_path):
    make_power_mode(tmp_path, "pmode:0002", ORIN_NANO_SUPER_MODES)
    assert told(tmp_path) == []


def test_a_board_without_power_modes_or_profile_is_not_warned(tmp_path):
    assert told(tmp_path) == told(tmp_path, Choice(None, supported=False, reason="unknown")) == []


@pytest.fixture
def agent(tmp_path):
    """Made, and not started."""
    (tmp_path / "line.toml").write_text(f"""
        [device]
        id = "cap-01"
        site = "leon"
        area = "bottling"
        line = "3"
        cell = "capper"
        [model]
        path = "{REPO}/edge_agent/demo_model/bottles.onnx"
        [records]
        folder = "{tmp_path}"
        [stdout]
        [[cameras]]
        id = "top"
        kind = "simulator"
        [cameras.trigger]
        kind = "frame"
    """)
    wishes = queue.SimpleQueue()
    return build(load(tmp_path / "line.toml"), wishes)[0]


def test_while_the_engine_is_opened_the_board_is_looked_at_as_ever(agent, monkeypatch):
    monkeypatch.setattr(agent_module, "HEALTH_S", 0.0)
    read, hotter = agent.read_vitals, iter(range(40, 100))
    agent.read_vitals = lambda: replace(read(), temperature_c=next(hotter))
    threading.Timer(0.5, agent.wishes.put, ["stop"]).start()
    assert not agent._wait_for_engine()
    assert agent.health.vitals.temperature_c > 40


class Attending:
    """Takes so long to end, and remembers how long it was given."""

    def __init__(self, takes_s):
        self.takes_s = takes_s

    def stop(self, timeout_s):
        self.given_s = timeout_s
        time.sleep(min(timeout_s, self.takes_s))
        return self.takes_s <= timeout_s


def test_an_attendant_that_hangs_leaves_the_one_that_ends_last_its_share_of_the_time(agent):
    recorder, hanging = Attending(0), Attending(20)
    agent.attendants = (recorder, Attending(0), hanging)
    assert not agent._dismiss_attendants()
    assert recorder.given_s > 0.1
    hanging.takes_s = 0
    assert agent._dismiss_attendants()
