"""What the desk and the acks note of each verdict, for who asks on the device."""

import json

import pytest

from edge_agent.core.parts import Decision
from edge_agent.runtime.acks import Acks
from edge_agent.wire.inbound import Ack
from tests.runtime.stations import Station, Wire, one_after_the_other, wait_for

GOOD, CRACKED = Decision("pass"), Decision("reject")
SECOND_NS = 1_000_000_000


class Notebook:
    """A recorder that keeps what it is told in memory."""

    def __init__(self):
        self.notes = []

    def note(self, kind, about):
        self.notes.append((kind, json.loads(about) if isinstance(about, bytes) else dict(about)))

    def of(self, kind):
        return [body for noted, body in self.notes if noted == kind]


@pytest.fixture
def line():
    return Wire()


def station_with(notebook, *wires, **more):
    station = Station(one_after_the_other(*wires), **more)
    station.desk.recorder = notebook
    return station


def test_a_result_is_noted_as_it_is_published(line):
    notebook = Notebook()
    with station_with(notebook, line) as station:
        station.desk.judged(station.open_part(), CRACKED)
        assert notebook.of("result") == station.results()


def test_a_result_that_is_not_published_is_noted_all_the_same_and_uses_up_no_number(line):
    notebook = Notebook()
    with station_with(notebook, line, results="non_pass") as station:
        for decision in (GOOD, GOOD, CRACKED):
            station.desk.judged(station.open_part(), decision)
        assert [facts["seq"] for facts in station.results()] == [1]
    noted = notebook.of("result")
    assert [(facts["verdict_seq"], facts["verdict"]) for facts in noted] == [(1, "pass"), (2, "pass"), (3, "reject")]


@pytest.mark.parametrize("code", [0x00, 0x10, 0x87])
def test_what_the_broker_said_is_noted_with_the_time_it_took(line, code):
    notebook = Notebook()
    line.code = code
    with station_with(notebook, line) as station:
        station.desk.judged(station.open_part(), GOOD)
        wait_for(lambda: not station.line.inbox.empty())
        station.herald._take_notices()
        wait_for(lambda: station.herald._take_notices() or notebook.of("receipt"))
    (receipt,) = notebook.of("receipt")
    assert (receipt["camera"], receipt["seq"], receipt["code"]) == ("top", 1, code)
    assert 0 <= receipt["ms"] < 20_000
    assert notebook.of("unsent") == ([{"camera": "top", "seq": 1, "reason": "refused"}] if code == 0x87 else [])


def test_a_verdict_that_cannot_be_sent_is_noted_with_the_reason(line):
    notebook = Notebook()
    with station_with(notebook, line, valid_ms=100) as station:
        station.desk.judged(station.open_part(ago_ms=101), CRACKED)
    assert notebook.of("unsent") == [{"camera": "top", "seq": 1, "reason": "stale"}]


def ack(seq=1, **more):
    facts = {"schema": "edge-agent/ack/1", "device": "cap-01", "session": "5f0c", "camera": "top", "seq": seq}
    return Ack.model_validate({**facts, "action": "reject", "why": "verdict", "at": "2026-11-21T09:14:03.446Z", **more})


def make_acks():
    acks = Acks(["top"], 1000, "5f0c")
    acks.recorder = Notebook()
    acks.expect("top", 1, None, "reject", 0)
    return acks


def test_what_the_arm_said_is_noted_with_the_time_it_took():
    acks = make_acks()
    acks.hear(ack(), 12_345_678)
    assert acks.recorder.notes == [
        ("ack", {"camera": "top", "seq": 1, "action": "reject", "why": "verdict", "ms": 12.346})
    ]


def test_an_ack_that_does_not_come_is_noted_and_so_is_it_when_it_comes_late():
    acks = make_acks()
    acks.tick(2 * SECOND_NS)
    acks.hear(ack(), 3 * SECOND_NS)
    assert [kind for kind, _ in acks.recorder.notes] == ["ack_missing", "ack"]


def test_an_ack_that_comes_twice_is_noted_once():
    acks = make_acks()
    acks.hear(ack(), 1)
    acks.hear(ack(), 2)
    assert len(acks.recorder.notes) == 1
