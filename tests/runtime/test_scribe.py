from datetime import datetime, timedelta, timezone

import pytest

from edge_agent.clock import SimulatedClock
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire
from tests.runtime.stations import TOPICS, make_identity


def test_the_kernel_is_asked_about_the_wall_clock_once_a_second():
    time, asked = SimulatedClock(0, datetime(2026, 11, 22, tzinfo=timezone.utc)), []

    def read():
        asked.append(time.mono_ns())
        return wire.Clock(synced=True, max_error_ms=len(asked))

    scribe = Scribe(make_identity("top"), TOPICS, time, read)
    for ms in (0, 400, 999, 1000, 1999, 2500):
        time.go_to(ms * 1_000_000)
        assert scribe.wall_clock.max_error_ms == 1 + (ms >= 1000) + (ms >= 2500)
    assert len(asked) == 3


class SteppedClock(SimulatedClock):
    def step(self, by):
        self._start_utc += by


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(milliseconds=-20)])
def test_a_clock_that_was_set_is_asked_about_at_once(by):
    time = SteppedClock(0, datetime(2026, 11, 22, tzinfo=timezone.utc))
    told = [wire.Clock(synced=False, max_error_ms=None), wire.Clock(synced=True, max_error_ms=0.5)]
    scribe = Scribe(make_identity("top"), TOPICS, time, told.pop)
    assert scribe.wall_clock.synced
    time.step(by)
    assert [scribe.wall_clock.synced, scribe.wall_clock.synced] == [False, False]


def test_each_topic_counts_its_messages_by_itself():
    scribe, seqs = Scribe(make_identity("top"), TOPICS), []
    for topic in ("a", "b", "a", "a"):
        with scribe.page(topic) as head:
            seqs.append((topic, head["seq"]))
    assert seqs == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
