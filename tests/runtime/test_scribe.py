from datetime import datetime, timezone

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


def test_each_topic_counts_its_messages_by_itself():
    scribe, seqs = Scribe(make_identity("top"), TOPICS), []
    for topic in ("a", "b", "a", "a"):
        with scribe.page(topic) as head:
            seqs.append((topic, head["seq"]))
    assert seqs == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
