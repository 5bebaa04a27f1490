import pytest

from edge_agent.core.ports import Message
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.outbox.keeper import Quarantine
from edge_agent.runtime.records_watch import LOSSES_S, UNHEARD_S, RecordsWatch
from tests.runtime.stations import OUTBOX, Station, Wire, one_after_the_other


class Told:
    """A station whose watch is asked by the test; `new` are the events since the last time, without the rest."""

    def __init__(self):
        self.station = Station(one_after_the_other(Wire()))
        self.outbox: Outbox = self.station.outbox
        self.watch = RecordsWatch(self.outbox, self.station.reporter)
        self._seen = 0

    def new(self, now_s):
        self.watch.report(now_s)
        events = self.station.events()
        events, self._seen = events[self._seen :], len(events)
        return [(event["code"], event["data"]) for event in events]


@pytest.fixture
def told():
    told = Told()
    with told.station:
        yield told


def test_memory_instead_of_the_disk_is_told_once_and_the_end_of_it_too(told):
    assert told.new(0) == []
    told.outbox._keeper.trouble = "database or disk is full"
    assert told.new(1) == [("records_in_memory", {"reason": "database or disk is full"})]
    assert told.new(2) == []
    told.outbox._keeper.trouble = None
    assert told.new(3.5) == [("records_on_disk", {"outage_s": 2.5})]


def test_a_file_that_was_put_away_is_told(told):
    told.outbox._keeper.quarantined = [Quarantine("outbox.db.broken-1", "malformed", 7)]
    assert told.new(0) == [("records_broken", {"file": "outbox.db.broken-1", "reason": "malformed", "rows": 7})]
    assert told.new(1) == []


def test_refusals_are_told_at_their_begin_and_end(told):
    told.outbox.refused["result"] = 0x87
    assert told.new(0) == [("records_refused", {"kind": "result", "code": 0x87})]
    assert told.new(1) == []
    told.outbox.refused.clear()
    assert told.new(2) == [("records_accepted", {"kind": "result"})]


def test_that_nobody_listens_is_told_now_and_then(told):
    told.outbox.unheard.add("result")
    assert told.new(0) == [("records_unheard", {"kind": "result"})]
    told.outbox.unheard.clear()
    assert told.new(1) == []
    assert told.new(UNHEARD_S) == [("records_heard", {"kind": "result"})]


def test_what_was_dropped_is_told_in_ranges():
    told = Told()  # not started: nothing is sent
    told.outbox.set_limits(**{**OUTBOX, "max_rows": 3})
    for number in range(1, 9):
        payload = b'{"session": "s", "seq": %d}' % number
        told.outbox.put("result", Message("a/result/top", payload, qos=1))
    told.watch.report(0)
    (event,) = [row for row in told.outbox._stock._lanes["event"].unwritten if b"records_dropped" in row.payload]
    assert b'"first_seq":1,"last_seq":5,"count":5,"reason":"max_rows"' in event.payload
    told.outbox.put("result", Message("a/result/top", b'{"session": "s", "seq": 9}', qos=1))
    told.watch.report(LOSSES_S / 2)
    assert len(told.outbox._stock._lanes["event"].unwritten) == 1
    assert told.outbox.waiting() == 3
    told.watch.report(LOSSES_S / 2, is_last=True)
    assert len(told.outbox._stock._lanes["event"].unwritten) == 2


def test_what_is_dropped_after_a_quiet_time_is_told_at_once():
    told = Told()
    told.outbox.set_limits(**{**OUTBOX, "max_rows": 1})
    told.watch.report(0)
    for number in (1, 2):
        told.outbox.put("result", Message("a/result/top", b'{"session": "s", "seq": %d}' % number, qos=1))
    told.watch.report(0.1)
    assert len(told.outbox._stock._lanes["event"].unwritten) == 1
