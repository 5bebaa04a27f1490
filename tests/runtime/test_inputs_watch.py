import queue
from types import SimpleNamespace

import pytest

from edge_agent.runtime.inputs_watch import GATHER_S, InputsWatch
from edge_agent.runtime.link import UNSTABLE, Link
from edge_agent.runtime.refusals import Refusals
from edge_agent.runtime.sensing import SensorBack, SensorLost
from tests.runtime.stations import Station, Wire, one_after_the_other


class Inputs:
    """What the watch looks at, moved by the test; what it tells."""

    def __init__(self, station):
        self.refusals, self.notices = Refusals(), queue.SimpleQueue()
        self.summons = SimpleNamespace(uncalled=0)
        self.link = Link("line", one_after_the_other())
        self.station = station
        sensing = SimpleNamespace(notices=self.notices)
        self.watch = InputsWatch(
            SimpleNamespace(refusals=self.refusals),
            {"top": sensing},
            {"top": self.summons},
            {"line": self.link},
            station.reporter,
        )

    def report(self, now_s=0.0, **how):
        before = len(self.station.events())
        self.watch.report(now_s, **how)
        return [(event["code"], event["data"]) for event in self.station.events()[before:]]


@pytest.fixture
def inputs():
    with Station(one_after_the_other(Wire())) as station:
        yield Inputs(station)


def test_an_input_that_goes_and_comes_back_is_told(inputs):
    inputs.notices.put(SensorLost("top", "gone"))
    inputs.notices.put(SensorBack("top", 1.23456))
    assert inputs.report() == [
        ("trigger_lost", {"camera": "top", "reason": "gone"}),
        ("trigger_back", {"camera": "top", "outage_s": 1.235}),
    ]
    assert inputs.report() == []


def test_a_subscription_that_is_refused_is_told_once_and_so_is_its_end(inputs):
    inputs.link.refused = {"a/ack": "Not authorized (0x87)"}
    assert inputs.report() == [("subscription_refused", {"topic": "a/ack", "reason": "Not authorized (0x87)"})]
    assert inputs.report() == []
    inputs.link.refused = {}
    assert inputs.report() == [("subscription_granted", {"topic": "a/ack"})]


def test_a_connection_that_is_ended_again_and_again_is_told_once_until_it_lasts(inputs):
    inputs.link.short_lives = UNSTABLE - 1
    assert inputs.report() == []
    inputs.link.short_lives = UNSTABLE
    assert inputs.report() == [("connection_unstable", {"link": "line", "times": UNSTABLE})]
    inputs.link.short_lives = UNSTABLE + 5
    assert inputs.report() == []
    inputs.link.short_lives = 0
    assert inputs.report() == [("connection_stable", {"link": "line"})]


def test_refused_messages_are_told_at_once_and_then_gathered(inputs):
    inputs.refusals.add("malformed", "a/trigger/top", b"x")
    assert [(code, data["count"]) for code, data in inputs.report(0.0)] == [("inbound_refused", 1)]
    for _ in range(5):
        inputs.refusals.add("malformed", "a/trigger/top", b"x")
    assert inputs.report(GATHER_S - 0.1) == []
    assert [(code, data["count"]) for code, data in inputs.report(GATHER_S)] == [("inbound_refused", 5)]


def test_at_the_end_everything_is_told(inputs):
    inputs.refusals.add("retained", "a/ack", b"x")
    inputs.report(0.0)
    inputs.refusals.add("retained", "a/ack", b"x")
    inputs.summons.uncalled = 7
    assert [code for code, _ in inputs.report(0.1, is_last=True)] == ["inbound_refused", "triggers_lost"]


def test_edges_that_are_not_even_parts_are_told_with_their_number(inputs):
    inputs.summons.uncalled = 7
    assert inputs.report(0.0) == [("triggers_lost", {"camera": "top", "count": 7})]
    inputs.summons.uncalled = 9
    assert inputs.report(GATHER_S) == [("triggers_lost", {"camera": "top", "count": 2})]


def test_an_outage_is_told_once_it_is_over_however_short(inputs):
    inputs.link.connections = 1
    assert inputs.report() == []
    inputs.link.connections, inputs.link.outage_s, inputs.link.outage_reason = 2, 0.0151, "cut"
    assert inputs.report() == [("connection_back", {"link": "line", "outage_s": 0.015, "reason": "cut"})]
    assert inputs.report() == []
