"""The demo as a person meets it: real processes, a real broker, and nothing left behind however it ends."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.app.demo import NO_BROKER, run_demo
from edge_agent.app.demo.simulated import Wish
from tests.brokers import needs
from tests.fixtures import REPO
from tests.processes import STOP_S, ended, processes_that_name

pytestmark = pytest.mark.system


MAY_BE_LOST = 2
"""Verdicts amiss on a machine that is busy with other things; tests/app/test_line_score.py counts to none, without a clock."""


JUDGES = re.compile("the agent is (ready|running|degraded)")


def lost_of(sheet):
    return sheet["no_verdict"] + sheet["twice"] + sheet["extra"]


@pytest.fixture(autouse=True)
def _mosquitto():
    needs("mosquitto", "mosquitto")


class Demo:
    """`edge-agent demo` in a process; its temporary files go into `tmp`, where they can be counted."""

    def __init__(self, folder, *words, **options):
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "demo", *map(str, words)],
            env={**os.environ, "TMPDIR": str(self.tmp)},
            cwd=REPO,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def leaves_nothing(self):
        """No process, and no file."""
        assert ended(lambda: not processes_that_name(self.tmp)), processes_that_name(self.tmp)
        assert list(self.tmp.iterdir()) == []

    def wait_for_agent(self):
        """Until the line runs: the agent's process id."""
        return self.wait_for("edge_agent run")

    def wait_for(self, words):
        """The id of the child whose command line has these words."""
        found = []
        assert ended(lambda: found.extend(p for p, line in processes_that_name(self.tmp) if words in line) or found, 30)
        return found[0]


@contextmanager
def demo(folder, *words, **options):
    running = Demo(folder, *words, **options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def test_every_part_gets_one_verdict_and_the_arm_acts_in_time(tmp_path):
    with demo(tmp_path, "--parts", 8, "--speed", 2, "--json") as running:
        out, err = running.process.communicate(timeout=50)
        sheet = json.loads(out)
        assert running.process.returncode == (0 if sheet["ok"] else 1), err
        assert sheet["parts"] == 8
        assert lost_of(sheet) <= MAY_BE_LOST
        assert (sheet["late"]["executed"], sheet["unread_lines"], sheet["not_at_arm"]) == (0, 0, 0)
        assert sum(sheet["arm"].values()) >= 8 - MAY_BE_LOST
        assert 0 < sheet["latency_ms"]["p50"] <= sheet["latency_ms"]["p99"]
        assert (sheet["latency_ms"]["to"], sheet["stopped"], sheet["run"]["parts"]) == ("arm", False, 8)
        assert sheet["right"] > 0
        assert "a private mosquitto listens on 127.0.0.1:" in err
        assert JUDGES.search(err)
        running.leaves_nothing()


def test_a_terminal_shows_the_belt_and_is_given_back(tmp_path):
    master, slave = pty.openpty()
    with demo(tmp_path, "--seconds", 6, stdout=slave, stderr=slave, stdin=slave) as running:
        os.close(slave)
        out = _all_of(master)
        running.process.wait(20)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out)
    assert JUDGES.search(plain)
    assert "█" in plain
    assert "score sheet" in out
    assert re.search(r"(?m)^The line did", plain)
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")


def _all_of(master):
    out = b""
    while True:
        try:
            out += os.read(master, 65536)
        except OSError:  # the other side is closed
            os.close(master)
            return out.decode(errors="replace")


def test_a_terminal_that_goes_away_ends_all(tmp_path):
    master, slave = pty.openpty()
    with demo(tmp_path, "--seconds", 60, stdout=slave, stderr=slave, stdin=slave, start_new_session=True) as running:
        os.close(slave)
        running.wait_for_agent()
        os.close(master)
        running.process.send_signal(signal.SIGHUP)  # as the kernel does to whom the terminal controls
        running.process.wait(20)
        running.leaves_nothing()


def test_a_stopped_demo_ends_in_time_with_the_score_so_far(tmp_path):
    with demo(tmp_path, "--seconds", 60, "--json") as running:
        running.wait_for_agent()
        time.sleep(2)
        asked_at = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        out, _ = running.process.communicate(timeout=20)
        assert time.monotonic() - asked_at < STOP_S
        assert running.process.returncode == 130
        assert json.loads(out)["stopped"] is True
        running.leaves_nothing()


def test_it_can_be_stopped_while_it_sets_up(tmp_path):
    with demo(tmp_path, "--seconds", 60) as running:
        running.wait_for("mosquitto")
        asked_at = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=20)
        assert time.monotonic() - asked_at < STOP_S
        assert running.process.returncode == 130
        running.leaves_nothing()


def test_children_do_not_outlive_a_demo_that_is_killed(tmp_path):
    with demo(tmp_path, "--seconds", 60) as running:
        running.wait_for_agent()
        assert ended(lambda: len(processes_that_name(running.tmp)) >= 3, 30)  # demo, broker, agent
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(5)
        assert ended(lambda: not processes_that_name(running.tmp)), processes_that_name(running.tmp)


@pytest.mark.parametrize(("words", "name"), [("edge_agent run", "agent"), ("mosquitto", "mosquitto")])
def test_a_child_that_dies_is_told_with_its_last_words(tmp_path, words, name):
    with demo(tmp_path, "--seconds", 60) as running:
        running.wait_for_agent()
        os.kill(running.wait_for(words), signal.SIGKILL)
        _, err = running.process.communicate(timeout=30)
        assert running.process.returncode == 1
        assert f"edge-agent: {name} was killed by SIGKILL" in err
        assert "Traceback" not in err
        running.leaves_nothing()


def test_a_dark_camera_is_noticed_and_its_parts_do_not_count(tmp_path):
    with demo(tmp_path, "--seconds", 10, "--fault", "dark", "--json") as running:
        out, _ = running.process.communicate(timeout=50)
    sheet = json.loads(out)
    (said,) = sheet["faults"]
    assert (said["kind"], said["expected"]) == ("dark", "dark")
    assert "dark" in said["said"]
    assert said["noticed_ms"] is not None
    assert said["recovered_ms"] is not None
    assert sum(sheet["camera_fault"].values()) > 3
    assert sheet["late"]["executed"] == 0
    assert lost_of(sheet) <= MAY_BE_LOST


class Listed:
    """Keeps what a person would be told."""

    def __init__(self):
        self.said = []

    def say(self, words):
        self.said.append(words)

    def show(self, view):
        pass


def test_without_a_broker_verdicts_are_read_from_the_agents_output_and_nothing_is_said_about_a_belt_that_stops(
    tmp_path,
):
    told = Listed()
    sheet = run_demo(Wish(None, 8, fault="belt_stop"), told, mosquitto=None, keep=tmp_path / "kept").sheet
    assert NO_BROKER in told.said
    assert (sheet.parts, sheet.arm, sheet.latency_ms.to) == (8, {}, "decision")
    assert [(said.kind, said.noticed_ms) for said in sheet.faults] == [("belt_stop", None)]
    assert sheet.belt_stops == 1
    assert sheet.no_verdict + sheet.twice + sheet.extra <= MAY_BE_LOST
    assert ended(lambda: not processes_that_name(tmp_path)), processes_that_name(tmp_path)
    assert Path(tmp_path, "kept", "line.toml").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fault", "fire"], "there is no fault 'fire'; there are dark, blurred"),
        (["--seconds", "0"], "--seconds"),
        (["--keep", REPO / "docs"], "docs is not empty"),
    ],
)
def test_a_wrong_call_is_told_in_a_sentence(tmp_path, words, said):
    with demo(tmp_path, *words) as running:
        _, err = running.process.communicate(timeout=20)
    assert running.process.returncode == 1
    assert said in err
    assert "Traceback" not in err
