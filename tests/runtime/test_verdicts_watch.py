"""Which events tell of acks and of verdicts in a row, and how often."""

import pytest

from edge_agent.runtime.acks import Acks
from edge_agent.runtime.streaks import Streaks
from edge_agent.runtime.verdicts_watch import VerdictsWatch
from edge_agent.wire.inbound import Ack
from tests.runtime.stations import Station, Wire, one_after_the_other

S = 1_000_000_000


class Bench:
    """A watch with all that it looks at."""

    def __init__(self, station):
        self.acks = Acks(("top",), 1000, "5f0c")
        self.streaks = Streaks(("top",), unknown_in_row=3, reject_in_row=4)
        self.watch = VerdictsWatch(("top",), self.acks, self.streaks, station.reporter)
        self._station, self._seq = station, 0

    def part(self, at_s, *, ack_at_s=None, verdict="reject", action="reject", **others):
        self._seq += 1
        self.acks.expect("top", self._seq, None, verdict, int(at_s * S))
        if ack_at_s is not None:
            facts = {"camera": "top", "session": "5f0c", "seq": self._seq, "action": action, **others}
            self.acks.hear(Ack.model_validate(facts), int(ack_at_s * S))

    def look(self, at_s, **how):
        self.acks.tick(int(at_s * S))
        self.watch.report(at_s, **how)

    def words(self, words):
        for word in words:
            self._seq += 1
            self.streaks.add("top", {"p": "pass", "r": "reject", "u": "unknown"}[word], self._seq)

    def events(self):
        return [(event["code"], event["severity"], event["data"]) for event in self._station.events()]

    def codes(self):
        return [code for code, _, _ in self.events()]


@pytest.fixture
def bench():
    with Station(one_after_the_other(Wire())) as station:
        yield Bench(station)


def test_nothing_is_told_while_all_goes_well(bench):
    for at_s in range(100):
        bench.part(at_s, ack_at_s=at_s + 0.1)
        bench.words("rup")
        bench.look(at_s + 0.9)
    assert bench.events() == []


def test_a_missing_ack_is_told_at_once_and_so_is_that_they_are_back(bench):
    bench.part(0)
    bench.look(1.2)
    bench.part(10, ack_at_s=10.1)
    bench.look(10.2)
    assert bench.events() == [
        ("acks_missing", "alarm", {"camera": "top", "first_seq": 1, "last_seq": 1, "count": 1}),
        ("acks_back", "info", {"camera": "top"}),
    ]


def test_an_outage_of_a_day_costs_some_hundred_events_that_count_every_verdict(bench):
    for at_s in range(0, 86_400, 5):
        bench.part(at_s)
        bench.look(at_s)
    bench.look(86_400 + 10, is_last=True)
    told = [data["count"] for code, _, data in bench.events() if code == "acks_missing"]
    assert sum(told) == 86_400 / 5
    assert len(told) == len(bench.events()) < 300


def test_an_arm_that_acknowledges_every_other_part_costs_a_few_events_a_minute(bench):
    for at_s in range(3600):
        bench.part(at_s, ack_at_s=at_s + 0.1 if at_s // 2 % 2 else None)
        bench.look(at_s + 0.5)
    assert len(bench.events()) < 3 * 60


def test_what_arms_did_otherwise_is_told_with_what_they_did(bench):
    bench.part(0, ack_at_s=0.1, verdict="reject", action="none", why="stale")
    bench.part(0, ack_at_s=0.1, verdict="pass", action="reject")
    bench.part(0, ack_at_s=3)
    bench.look(3)
    told = {code: (severity, data) for code, severity, data in bench.events()}
    assert told == {
        "verdicts_not_done": ("alarm", {"camera": "top", "first_seq": 1, "last_seq": 1, "count": 1, "why": "stale"}),
        "verdicts_contradicted": (
            "alarm",
            {"camera": "top", "first_seq": 2, "last_seq": 2, "count": 1, "verdict": "pass", "action": "reject"},
        ),
        "acks_missing": ("alarm", {"camera": "top", "first_seq": 3, "last_seq": 3, "count": 1}),
        "acks_late": ("warning", {"camera": "top", "first_seq": 3, "last_seq": 3, "count": 1}),
    }


def test_what_is_gathered_is_told_at_the_end(bench):
    bench.part(0)
    bench.look(1.2)
    bench.part(1)
    bench.look(2.2)
    assert bench.codes() == ["acks_missing"]
    bench.look(2.3, is_last=True)
    assert bench.codes() == ["acks_missing", "acks_missing"]


def test_without_acks_only_streaks_are_told(bench):
    watch = VerdictsWatch(("top",), None, bench.streaks, bench._station.reporter)
    bench.words("uuu")
    watch.report(0)
    assert bench.codes() == ["unknown_in_row"]


def test_a_streak_is_told_once_and_so_is_its_end(bench):
    bench.words("puuu")
    bench.look(0)
    bench.words("uu")
    bench.look(1)
    bench.words("p")
    bench.look(2)
    bench.look(100)
    assert bench.events() == [
        ("unknown_in_row", "alarm", {"camera": "top", "count": 3, "first_seq": 2, "times": 1}),
        ("verdicts_normal", "info", {"camera": "top", "count": 5, "verdict": "unknown"}),
    ]


def test_a_streak_that_began_and_ended_between_two_looks_is_told(bench):
    bench.words("rrrrrp")
    bench.look(0)
    assert bench.events() == [
        ("reject_in_row", "alarm", {"camera": "top", "count": 5, "first_seq": 1, "times": 1}),
        ("verdicts_normal", "info", {"camera": "top", "count": 5, "verdict": "reject"}),
    ]


def test_streaks_that_come_and_go_are_told_twice_a_minute_and_counted(bench):
    for at_s in range(60):
        bench.words("uuup")
        bench.look(at_s)
    events = bench.events()
    assert [code for code, _, _ in events] == ["unknown_in_row", "verdicts_normal"] * 2
    assert [data["times"] for code, _, data in events if code == "unknown_in_row"] == [1, 31]


def test_a_streak_that_goes_on_after_a_quiet_half_minute_is_told_then(bench):
    bench.words("uuup")
    bench.look(0)
    bench.words("rrrr")
    bench.look(10)
    bench.look(31)
    assert bench.codes() == ["unknown_in_row", "verdicts_normal", "reject_in_row"]
