"""Pulses, with time as an argument and an output that writes down what it is told."""

import pytest

from edge_agent.actuator.judge import Alarm, Ruling
from edge_agent.actuator.pulses import Pulses

LOST_AT_START = Alarm("agent_lost", "stop", "start", 0)
BACK = Alarm("agent_back", "none", "heartbeat", 0)


class Recorder:
    """Two lines of an arm, in memory."""

    def __init__(self):
        self.on = {"reject": False, "stop": False}
        self.changes = []
        self.broken = set()
        self.is_closed = False

    def set(self, line, *, on):
        if line in self.broken:
            raise OSError(5, "Input/output error")
        self.on[line] = on
        self.changes.append((line, on))

    def close(self):
        self.is_closed = True


@pytest.fixture
def lines():
    return Recorder()


def ruling(action="reject", *, received_ms=1000.0, remaining_ms=600.0, kind="verdict", seq=1):
    return Ruling(kind, action, "verdict", received_ms, camera="top", seq=seq, remaining_ms=remaining_ms)


def lost(action, why="no_heartbeat"):
    return Alarm("agent_lost", action, why, 0)


def done(outcomes):
    return [(outcome.done.action, outcome.done.why, outcome.at_ms) for outcome in outcomes]


def test_without_a_delay_the_pulse_begins_at_once(lines):
    pulses = Pulses(lines, 0, 100)
    assert done(pulses.take(ruling(), 1000.2)) == [("reject", "verdict", 1000.2)]
    assert lines.on["reject"]
    assert pulses.next_ms() == 1100.2


def test_a_pulse_ends_after_its_time(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(ruling(), 1000)
    pulses.work(1099)
    assert lines.on["reject"]
    pulses.work(1100)
    assert lines.changes == [("reject", True), ("reject", False)]
    assert pulses.next_ms() == float("inf")


def test_a_delayed_pulse_begins_when_the_part_is_there(lines):
    pulses = Pulses(lines, 400, 100)
    assert pulses.take(ruling(), 1000) == []
    assert pulses.next_ms() == 1400
    assert done(pulses.work(1399)) == []
    assert done(pulses.work(1401)) == [("reject", "verdict", 1401)]
    assert lines.on["reject"]


def test_a_pulse_never_begins_after_the_end_of_the_validity(lines):
    pulses = Pulses(lines, 400, 100)
    pulses.take(ruling(remaining_ms=450), 1000)
    assert done(pulses.work(1450)) == [("none", "late_pulse", 1450)]
    assert lines.changes == []


def test_a_pulse_for_a_gap_never_begins_when_it_should_have_ended(lines):
    pulses = Pulses(lines, 400, 100)
    pulses.take(ruling(remaining_ms=None, kind="gap"), 1000)
    assert done(pulses.work(1500)) == [("none", "late_pulse", 1500)]
    assert lines.changes == []


def test_pulses_that_overlap_become_one(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(ruling(), 1000)
    pulses.take(ruling(received_ms=1060, seq=2), 1060)
    pulses.work(1130)
    assert lines.on["reject"]
    pulses.work(1160)
    assert lines.changes == [("reject", True), ("reject", False)]


def test_each_of_several_pulses_under_way_comes(lines):
    pulses = Pulses(lines, 400, 50)
    for number in range(5):
        pulses.take(ruling(received_ms=1000 + number * 80, seq=number + 1), 1000 + number * 80)
    begun = [outcome.done.seq for at_ms in range(1400, 2000, 10) for outcome in pulses.work(at_ms)]
    assert begun == [1, 2, 3, 4, 5]
    assert lines.changes == [("reject", True), ("reject", False)] * 5


@pytest.mark.parametrize("action", ["pass", "none"])
def test_a_pass_or_a_drop_moves_nothing(lines, action):
    assert done(Pulses(lines, 400, 100).take(ruling(action), 1000)) == [(action, "verdict", 1000)]
    assert lines.changes == []


def test_a_gap_that_is_rejected_is_a_pulse(lines):
    Pulses(lines, 0, 100).take(ruling(remaining_ms=None, kind="gap"), 1000)
    assert lines.on["reject"]


def test_a_stop_stays_until_the_reset(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(ruling("stop"), 1000)
    pulses.take(ruling("pass"), 2000)
    pulses.take(BACK, 3000)
    assert lines.on["stop"]
    pulses.reset(4000)
    assert not lines.on["stop"]


def test_a_stop_for_agent_loss_stays_when_the_agent_is_back(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(lost("stop"), 1000)
    pulses.take(BACK, 2000)
    assert lines.on["stop"]
    assert pulses.stopped


def test_the_stop_at_the_start_ends_with_the_first_heartbeat(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(LOST_AT_START, 0)
    assert lines.on["stop"]
    pulses.take(BACK, 1000)
    assert not lines.on["stop"]


def test_while_the_agent_is_lost_everything_is_rejected_where_that_is_asked_for(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(ruling(), 900)
    pulses.take(lost("reject"), 1000)
    pulses.work(2000)
    assert lines.on["reject"]
    pulses.take(BACK, 3000)
    assert not lines.on["reject"]


def test_agent_loss_moves_nothing_where_pass_is_asked_for(lines):
    Pulses(lines, 0, 100).take(lost("pass"), 1000)
    assert lines.changes == []


def test_a_line_that_cannot_be_switched_is_told_and_tried_again(lines):
    pulses = Pulses(lines, 0, 100)
    lines.broken = {"reject"}
    assert done(pulses.take(ruling(), 1000)) == [("none", "output_failed", 1000)]
    lines.broken = set()
    pulses.work(1050)
    assert lines.on["reject"]
    lines.broken = {"reject"}
    pulses.work(1100)
    lines.broken = set()
    pulses.work(1150)
    assert not lines.on["reject"]


def test_a_reject_line_that_fails_keeps_the_stop_from_nothing(lines):
    pulses = Pulses(lines, 0, 100)
    lines.broken = {"reject"}
    pulses.take(ruling(), 1000)
    assert done(pulses.take(lost("stop"), 1050)) == [("stop", "no_heartbeat", 1050)]
    assert lines.on == {"reject": False, "stop": True}


def test_a_line_that_cannot_be_switched_off_is_no_reason_to_hurry(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(ruling(), 1000)
    lines.broken = {"reject"}
    pulses.work(1100)
    assert pulses.next_ms() == float("inf")
    lines.broken = set()
    pulses.work(1150)
    assert not lines.on["reject"]


def test_at_the_end_reject_is_switched_off_and_stop_stays(lines):
    pulses = Pulses(lines, 0, 100)
    pulses.take(lost("reject"), 1000)
    pulses.take(ruling("stop"), 1010)
    pulses.close(1020)
    assert lines.on == {"reject": False, "stop": True}


def test_pulses_that_have_not_begun_at_the_end_are_counted(lines):
    pulses = Pulses(lines, 400, 100)
    pulses.take(ruling(), 1000)
    assert done(pulses.close(1100)) == [("none", "stopping", 1100)]
    assert lines.is_closed
