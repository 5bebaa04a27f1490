"""Wall clocks that jump while the line runs: nothing that decides may go by them.

libfaketime moves the wall clock of one process; the monotonic clock, which the kernel lets nobody set, stays as it is.
"""

import contextlib
import itertools
import signal
from datetime import datetime
from pathlib import Path

import pytest

from tests.brokers import Listener, running_broker
from tests.system.agents import config_text, replay, running_agent
from tests.system.arms import ROOT, config, running_arm
from tests.system.test_hang import FIRST_CALL, ON_TIME, PHOTOS, recording
from tests.system.test_run import RELAXED

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
HOUR_S = 3600
STEPS_S = (HOUR_S, -HOUR_S)
LOST_NS = 1_500_000_000
BEATS = 14  # longer than it takes an arm to miss the agent, and a process to look at its clock file twice
TRIES = 3
WELL = ["start", "offline"]  # that the arm has no agent before it hears one, and after that one has stopped
LINKS = 2
REJECTS = '[[cameras.rules]]\nkind = "defect"\nreject = ["part"]\n'


class WallClock:
    """The wall clock of whatever is started while it is `worn`: `step` moves it against the real one."""

    def __init__(self, file):
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("libfaketime is not installed: apt install libfaketime")
        self._library, self._file = libraries[0], file
        self.step(0)

    def step(self, offset_s):
        """Whole: a program that finds half a line ends with an error."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.replace(self._file)

    @contextlib.contextmanager
    def worn(self):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LD_PRELOAD", str(self._library))
            environment.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            environment.setenv(
                "FAKETIME_CACHE_DURATION", "1"
            )  # seconds: a file read with each call would slow all down
            environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            # Else, for the sake of an old glibc, each wait for Python's lock would end at once: ten times the work.
            environment.setenv("FAKETIME_FORCE_MONOTONIC_FIX", "0")
            yield


class Line:
    """Broker, agent and arm with a wall clock each, and a listener whose clock is right."""

    def __init__(self, stack, folder, model, *, verdict=RELAXED):
        self.clocks = {name: WallClock(folder / f"{name}.clock") for name in ("broker", "agent", "arm")}
        with self.clocks["broker"].worn():
            self.broker = stack.enter_context(running_broker(folder))
        self.listener = stack.enter_context(Listener(self.broker.port, "factory/#"))
        with self.clocks["arm"].worn():
            arm = config(self.broker, output='kind = "simulated"\npulse_ms = 10')
            self.arm = stack.enter_context(running_arm(folder, arm))
        cameras, verdict = replay(PHOTOS, fps=10) + REJECTS, f"{verdict}\nreject_in_row = 0"
        text = config_text(model=model, cameras=cameras, port=self.broker.port, verdict=verdict)
        text = f"{text.replace('test-01', 'demo-01')}\n[ack]\nwithin_ms = 10_000\n"
        with self.clocks["agent"].worn():
            self.agent = stack.enter_context(running_agent(folder, text))
        self.arm.wait_for(kind="verdict", action="reject", timeout=20)

    def beat_on(self):
        """Until some more heartbeats were heard."""
        since = len(self.listener.on("/heartbeat"))
        self.listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/heartbeat", since + BEATS)

    def stop(self):
        self.agent.send(signal.SIGTERM)
        assert self.agent.ended() == 0
        self.arm.wait_for(code="agent_lost", why="offline")
        self.arm.stop()
        self.listener.hear_out()

    def times(self, whose):
        """What the process said the time was, in seconds, in order."""
        if whose == "broker":
            return [int(line.split(":")[0]) for line in self.broker.log.splitlines() if line[:1].isdigit()]
        topic = "/ack" if whose == "arm" else "/heartbeat"
        return [datetime.fromisoformat(heard.json["at"][:-1]).timestamp() for heard in self.listener.on(topic)]


def jumps_of(times):
    """The steps of more than half an hour, in hours."""
    return [round((b - a) / HOUR_S) for a, b in itertools.pairwise(times) if abs(b - a) > HOUR_S / 2]


def losses_of(line):
    """Why the arm had no agent, in order."""
    return [it["why"] for it, _ in line.arm.lines if it.get("code") == "agent_lost"]


def longest_silence_ns(line):
    """From one heartbeat to the next."""
    beats_ns = [heard.received_ns for heard in line.listener.on("/heartbeat")]
    return max(b - a for a, b in itertools.pairwise(beats_ns))


def run_and_jump(folder):
    with pytest.MonkeyPatch.context() as environment, contextlib.ExitStack() as stack:
        environment.setenv("XDG_STATE_HOME", str(folder / "state"))
        line = Line(stack, folder, recording(folder / "one.npz"))
        for clock, offset_s in itertools.product(line.clocks.values(), STEPS_S):
            clock.step(offset_s)
            line.beat_on()
        line.stop()
    return line


@pytest.fixture(scope="module")
def jumped(tmp_path_factory):
    """A line that ran while each wall clock in turn went an hour ahead and then an hour behind; it has stopped.

    A machine that holds one of them up for more than a second costs a run. A clock that does so costs every one.
    """
    for _ in range(TRIES):
        line = run_and_jump(tmp_path_factory.mktemp("jumped"))
        was_held_up = losses_of(line) != WELL or longest_silence_ns(line) >= LOST_NS
        if not was_held_up and line.agent.log().count('"link_up"') == LINKS:
            break
    return line


@pytest.mark.parametrize("whose", ["agent", "arm", "broker"])
def test_each_process_saw_its_clock_jump(jumped, whose):
    assert jumps_of(jumped.times(whose)) == [1, -2]


def test_over_the_jumps_the_arm_does_each_verdict_once_and_in_time(jumped):
    said = [it for it, _ in jumped.arm.lines]
    verdicts = [it for it in said if it["kind"] == "verdict" and it["why"] != "no_heartbeat"]
    assert {(it["verdict"], it["action"], it["why"]) for it in verdicts} == {("reject", "reject", "verdict")}
    seqs = [it["seq"] for it in verdicts]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert all(it["remaining_ms"] > 0 and it["at_mono_ms"] - it["received_mono_ms"] < 1000 for it in verdicts)
    assert [it for it in said if it["kind"] == "gap"] == []


def test_over_the_jumps_the_agent_is_never_lost(jumped):
    assert losses_of(jumped) == WELL
    assert longest_silence_ns(jumped) < LOST_NS
    states = [heard.json["state"] for heard in jumped.listener.on("/state")]
    assert set(states) <= {"starting", "ready", "running", "offline"}
    assert [heard.json for heard in jumped.listener.on("/event") if heard.json["code"].startswith("ack")] == []
    assert jumped.agent.log().count('"link_up"') == LINKS


def test_over_the_jumps_the_agent_judges_every_part_and_no_result_is_missing(jumped):
    verdicts, results = ([heard.json for heard in jumped.listener.on(f"{kind}/top")] for kind in ("verdict", "result"))
    assert {verdict["verdict"] for verdict in verdicts} == {"reject"}
    assert all(verdict["latency_ms"]["total"] < 1500 for verdict in verdicts)
    assert [result["seq"] for result in results] == list(range(1, len(results) + 1))
    assert {result["verdict_seq"] for result in results} >= {verdict["seq"] for verdict in verdicts}


def test_deadlines_are_kept_over_a_jump_of_the_agents_wall_clock(tmp_path):
    slow = recording(tmp_path / "slow.npz", hang_after=FIRST_CALL, hang_s=0.3)
    with contextlib.ExitStack() as stack:
        line = Line(stack, tmp_path, slow, verdict=ON_TIME)
        for offset_s in STEPS_S:
            line.clocks["agent"].step(offset_s)
            line.beat_on()
        line.stop()
    verdicts = [heard.json for heard in line.listener.on("verdict/top")]
    late = [verdict for verdict in verdicts if verdict["reasons"] == [{"code": "deadline_missed"}]]
    assert len(late) > BEATS
    assert all(150 <= verdict["latency_ms"]["total"] < 1500 for verdict in late)
