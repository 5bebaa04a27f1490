import time
from datetime import datetime

import pytest

from edge_agent.core.parts import Decision
from edge_agent.runtime.forms import Fire, Sight
from edge_agent.wire import messages as wire
from tests.builders import make_frame
from tests.runtime.stations import Station, Wire, one_after_the_other

MS = 1_000_000


def told(clock, fire, *, trigger=None, frame_after_ms=None):
    """The verdict of a part of 20 ms ago."""
    line = Wire()
    with Station(one_after_the_other(line), fire={"top": fire} if fire else None, wall_clock=clock) as station:
        since_ns = time.monotonic_ns() - 20 * MS
        part = station.ledger.open("top", since_ns, trigger)
        sight = Sight() if frame_after_ms is None else Sight(make_frame(0, since_ns + frame_after_ms * MS))
        station.desk.judged(part, Decision("pass"), sight)
        station.settled()
        return line.on("verdict/top")[0], station.results()[0]


def ms_between(earlier, later):
    start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (earlier, later))
    return (end - start).total_seconds() * 1000


@pytest.mark.parametrize(
    ("synced", "max_error_ms", "is_told"),
    [(True, 5.0, True), (True, 5.1, False), (True, None, False), (False, 0.1, False), (None, None, False)],
)
def test_when_to_act_is_told_only_where_the_clock_is_exact_enough(synced, max_error_ms, is_told):
    fire = Fire(after_ms=500, tolerance_ms=10)
    verdict, _ = told(wire.Clock(synced=synced, max_error_ms=max_error_ms), fire)
    assert (verdict["fire_at"] is not None) == is_told
    if is_told:
        assert ms_between(verdict["captured_at"], verdict["fire_at"]) == pytest.approx(500, abs=1.1)


def test_where_nobody_asked_when_to_act_is_not_told():
    assert told(wire.Clock(synced=True, max_error_ms=0.1), None)[0]["fire_at"] is None


def test_of_a_triggered_part_all_times_but_the_captures_count_from_the_trigger():
    fire = Fire(after_ms=500, tolerance_ms=10)
    verdict, result = told(wire.Clock(synced=True, max_error_ms=1), fire, trigger="4711", frame_after_ms=15)
    assert ms_between(verdict["captured_at"], verdict["fire_at"]) == pytest.approx(485, abs=1.1)
    assert ms_between(verdict["captured_at"], verdict["valid_until"]) == pytest.approx(60_000 - 15, abs=1.1)
    assert verdict["latency_ms"]["total"] >= 20
    assert verdict["captured_at"] == result["captured_at"]


@pytest.mark.parametrize(("synced", "is_unsure"), [(True, False), (False, True)])
def test_an_unsure_clock_is_a_reason_where_fire_at_is_wanted(synced, is_unsure):
    clock = wire.Clock(synced=synced, max_error_ms=1)
    with Station(one_after_the_other(Wire()), fire={"top": Fire(500, 10)}, wall_clock=clock) as station:
        assert station.desk.forms.has_unsure_clock == is_unsure
        station.desk.forms.fire = {}
        assert not station.desk.forms.has_unsure_clock
