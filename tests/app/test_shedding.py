import queue
from dataclasses import replace

import pytest

from edge_agent.app.agent import build
from edge_agent.app.shedding import watch_heat
from edge_agent.config import load
from edge_agent.core.datatypes import Frame
from edge_agent.hardware import telemetry
from edge_agent.hardware.profile import Thermal, load_all
from tests.builders import MS, make_frame
from tests.fixtures import REPO
from tests.hardware.trees import make_zone

PROFILES = load_all(None)
ALL = Thermal(throttle_c=80, critical_c=85, shed=("evidence", "build", "frames"), shed_fps=10)


class Line:
    """An agent with two cameras, of which `top` has a line, on a board of which the test says how hot it is."""

    def __init__(self, folder, thermal=ALL):
        config = f"""
            [device]
            id = "cap-01"
            site = "leon"
            area = "bottling"
            line = "3"
            cell = "capper"
            [model]
            path = "{REPO}/edge_agent/demo_model/bottles.onnx"
            [records]
            folder = "{folder}"
            [stdout]
            [[cameras]]
            id = "top"
            kind = "simulator"
            [cameras.trigger]
            kind = "line"
            parts = ["bottle"]
            line = [[0.5, 0], [0.5, 1]]
            direction = "right"
            [[cameras]]
            id = "side"
            kind = "simulator"
            [cameras.trigger]
            kind = "frame"
        """
        path = folder / "line.toml"
        path.write_text(config)
        self.board = folder / "board"
        loaded = load(path)
        self.agent, _ = build(loaded, queue.SimpleQueue())
        profile = PROFILES["raspberry-pi-5"].model_copy(update={"thermal": thermal})
        self.watch = watch_heat(self.agent, loaded.config, profile, self.agent.desk.evidence)

    def is_at(self, celsius, now_s):
        """What the sensor says, and what is shed then."""
        make_zone(self.board, 0, "cpu-thermal", f"{celsius * 1000:.0f}")
        told = telemetry.read(self.board)
        self.agent.health.vitals = replace(
            self.agent.health.vitals, temperature_c=told.temperature_c, throttled=told.throttled
        )
        self.watch.report(now_s)
        return self.watch.shed

    def dropped(self, camera):
        """Of thirty frames in a second, how many were left out on purpose."""
        box = self.agent.mailboxes[camera]
        before = box.counts.shed
        for seq in range(30):
            frame = make_frame(seq)
            box.put(Frame(frame.picture, seq, seq * 33 * MS + (before + 1) * 10_000 * MS))
            self.agent.mailroom.take(0)
        return box.counts.shed - before


@pytest.fixture
def line(tmp_path):
    return Line(tmp_path)


def test_a_hot_board_sheds_what_its_profile_names_and_takes_it_up_again(line):
    evidence, supply = line.agent.desk.evidence, line.agent.workshop._supply
    assert line.is_at(79, 0) == ()
    assert line.is_at(81, 1) == ("evidence",)
    assert evidence.is_shed
    assert line.is_at(81, 11) == ("evidence", "build")
    assert supply._is_held
    assert line.is_at(81, 21) == ("evidence", "build", "frames")
    assert line.is_at(70, 82) == ("evidence", "build")
    assert line.is_at(70, 143) == ("evidence",)
    assert not supply._is_held
    assert line.is_at(70, 204) == ()
    assert not evidence.is_shed


def test_frames_are_shed_of_cameras_with_a_line_alone(line):
    assert line.dropped("top") == line.dropped("side") == 0
    for now_s in (1, 11, 21):
        line.is_at(81, now_s)
    assert 19 <= line.dropped("top") <= 21
    assert line.dropped("side") == 0
    line.is_at(70, 100)
    assert line.dropped("top") == 0


def test_health_says_what_is_shed(line):
    line.is_at(81, 1)
    assert line.agent.health.facts()["shedding"] == ("evidence",)
    assert "shedding:evidence" in line.agent.health._degradations()


def test_a_profile_that_sheds_nothing_needs_no_watch(tmp_path):
    assert Line(tmp_path, Thermal(throttle_c=80, critical_c=85)).watch is None
    assert Line(tmp_path, None).watch is None
