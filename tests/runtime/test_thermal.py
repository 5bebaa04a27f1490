import json

import pytest

from edge_agent.runtime.health import Vitals
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import UNKNOWN_CLOCK, Scribe
from edge_agent.runtime.thermal import Limits, ThermalWatch
from tests.runtime.stations import TOPICS, make_identity

STEPS = ("evidence", "build", "frames")


class Kept:
    """Where events go: the test reads them."""

    def __init__(self):
        self.messages = []

    def put(self, _kind, message):
        self.messages.append(message)

    def codes(self):
        events = [json.loads(message.payload) for message in self.messages]
        return [(event["code"], event["severity"], event["data"]["what"]) for event in events]


class Board:
    """A board of which the test says how hot it is, watched five times a second by a simulated clock."""

    def __init__(self, steps=STEPS):
        self.celsius, self.flags, self.now_s = 50.0, (), 1000.0
        self.done = dict.fromkeys(steps, False)
        self.kept = Kept()
        switches = {step: lambda on, step=step: self.done.update({step: on}) for step in steps}
        reporter = Reporter(Scribe(make_identity("top"), TOPICS), self.kept)
        self.watch = ThermalWatch(Limits(80.0, 3.0), switches, self.vitals, reporter)

    def vitals(self):
        return Vitals(UNKNOWN_CLOCK, self.celsius, self.flags)

    def run(self, seconds, celsius=None, flags=()):
        """Lets it go on; what is shed then."""
        self.celsius, self.flags = celsius, flags
        for _ in range(round(seconds * 5)):
            self.now_s += 0.2
            self.watch.report(self.now_s)
        assert self.watch.shed == tuple(step for step, on in self.done.items() if on)
        return self.watch.shed


def test_a_cool_board_sheds_nothing():
    board = Board()
    assert board.run(100, 79.9) == ()
    assert board.kept.codes() == []


@pytest.mark.parametrize(
    "how",
    [{"celsius": 80.0}, {"celsius": 60.0, "flags": ("throttled",)}, {"flags": ("under_voltage",)}],
    ids=["hot", "throttled", "short of power"],
)
def test_a_board_that_is_held_back_sheds_one_thing_every_ten_seconds_in_order(how):
    board = Board()
    assert board.run(1, **how) == ("evidence",)
    assert board.run(8, **how) == ("evidence",)
    assert board.run(2, **how) == ("evidence", "build")
    assert board.run(30, **how) == STEPS
    assert board.kept.codes() == [("load_shed", "warning", step) for step in STEPS]


def test_calm_brings_all_back_in_reverse_order_a_minute_each():
    board = Board()
    board.run(30, 85.0)
    assert board.run(59, 70.0) == STEPS
    assert board.run(2, 70.0) == ("evidence", "build")
    assert board.run(60, 70.0) == ("evidence",)
    assert board.run(60, 70.0) == ()
    assert board.kept.codes()[3:] == [("load_restored", "info", step) for step in reversed(STEPS)]


def test_just_below_the_limit_nothing_changes():
    board = Board()
    board.run(1, 85.0)
    assert board.run(500, 77.5) == ("evidence",)
    assert board.run(61, 76.9) == ()


def test_what_heats_the_board_again_stays_off_longer_each_time():
    board = Board(("evidence",))
    for calm_s in (60, 120, 240):
        assert board.run(11, 85.0) == ("evidence",)
        assert board.run(calm_s - 1, 70.0) == ("evidence",)
        assert board.run(2, 70.0) == ()


def test_after_a_long_calm_a_minute_is_enough_again():
    board = Board(("evidence",))
    for _ in range(3):
        board.run(11, 85.0)
        board.run(400, 70.0)
    board.run(700, 70.0)
    board.run(1, 85.0)
    assert board.run(62, 70.0) == ()


@pytest.mark.parametrize("flags", [("throttled_since_boot",), ("soft_temperature_limit",)])
def test_what_was_earlier_or_is_mild_sheds_nothing(flags):
    assert Board().run(30, 60.0, flags) == ()


def test_what_is_unknown_is_not_hot():
    board = Board()
    assert board.run(30, None, None) == ()
    board.run(1, 85.0)
    assert board.run(62, None, None) == ()


def test_the_event_says_how_hot_it_is_and_what_that_means():
    board = Board()
    board.run(1, 81.26, ("throttled", "under_voltage_since_boot"))
    (message,) = board.kept.messages
    assert b"the board is at 81.3 \xc2\xb0C and held back (throttled, under_voltage_since_boot)" in message.payload
    assert b"no pictures of rejected parts are kept" in message.payload
    assert b'"temperature_c":81.26' in message.payload
