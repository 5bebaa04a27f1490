import threading
import tracemalloc

import numpy as np
import pytest

from edge_agent.app.bench.stopwatch import LARGE_BYTES, BareRuns, PageMeter, PeakMeter, RoadCuts, TimedPublisher
from edge_agent.core.datatypes import Detections
from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError


class Engine:
    """Counts its runs, and gives their number."""

    def __init__(self):
        self.runs = 0

    def infer(self):
        self.runs += 1
        return [np.array([self.runs])]


class Reader:
    """A decoder that keeps what it was given."""

    input_format, labels = None, ("part",)

    def __init__(self):
        self.seen = []

    def check(self, outputs):
        self.seen.append(outputs)

    def __call__(self, outputs, letterbox):
        self.seen.append(outputs)
        return Detections.empty()


class Outlet:
    """A publisher that is up until it is closed."""

    refused = {}  # noqa: RUF012 - never changed

    def __init__(self):
        self.sent, self.is_closed = [], False

    def send(self, message):
        if self.is_closed:
            raise PublisherLostError("closed")
        self.sent.append(message)

    def poll(self, timeout_s):
        return []

    def close(self, *, abort=False):
        self.is_closed = True


def test_the_engine_runs_bare_once_and_the_frame_is_decoded_as_ever():
    engine, reader = Engine(), Reader()
    runs = BareRuns(reader, engine, seconds=0.0, least=5)
    runs([np.array([0])], None)
    assert (engine.runs, len(runs.ended_ns), len(reader.seen)) == (5, 6, 1)
    runs([np.array([0])], None)
    assert engine.runs == 5


def test_bare_runs_go_on_for_as_long_as_they_are_asked_to():
    runs = BareRuns(Reader(), Engine(), seconds=0.02, least=1)
    runs([], None)
    assert runs.ended_ns[-1] - runs.ended_ns[0] >= 0.02e9
    assert runs.done.is_set()


def test_only_verdicts_that_left_are_told():
    outlet, told = Outlet(), []
    publisher = TimedPublisher(outlet, told.append)
    publisher.send(Message("factory/x/verdict/top", b"{}"))
    publisher.send(Message("factory/x/heartbeat", b"{}"))
    publisher.close()
    with pytest.raises(PublisherLostError):
        publisher.send(Message("factory/x/verdict/top", b"{}"))
    assert (len(told), len(outlet.sent)) == (1, 2)


def test_memory_that_was_given_back_at_once_is_seen_all_the_same():
    tracemalloc.start()
    try:
        meter = PeakMeter()
        meter()
        np.ones(1 << 20, np.uint8)
        assert 1 << 20 <= meter() < 1.2 * (1 << 20)
        assert meter() < LARGE_BYTES
    finally:
        tracemalloc.stop()


def test_fresh_pages_show_each_large_piece_whichever_thread_takes_it():
    meter, amounts = PageMeter(), []

    def take():
        meter()
        for _ in range(4):
            meter.begin()
            np.ones(100_000, np.uint8)
            amounts.append(meter())

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert len(amounts) == 4
    assert min(amounts[1:]) > LARGE_BYTES  # the first may lie in what a thread before this one has touched


class Rising:
    """A meter that has one more each time."""

    def __init__(self):
        self.bytes = 0

    def begin(self):
        self.bytes = 0

    def __call__(self):
        self.bytes += 1
        return self.bytes


def test_the_road_is_cut_before_and_after_the_decoder():
    cuts = RoadCuts(Reader(), Rising())
    cuts.begin()
    cuts([], None)
    cuts.cut("send")
    assert cuts.taken == {"way_in": 1, "decode": 2, "send": 3}
