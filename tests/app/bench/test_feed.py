import threading
import time

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_agent.app.bench.feed import JITTER, Feed, Pace
from edge_agent.app.bench.pictures import Reel
from edge_agent.errors import CameraLostError, FrameTimeoutError
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.mailbox import Mailroom

PICTURES = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2)]


def feed_of(is_free=lambda: True):
    return Feed(Reel(PICTURES), seed=1, is_free=is_free)


def test_without_a_pace_no_frame_comes():
    with pytest.raises(FrameTimeoutError):
        feed_of().read(0.01)


def test_frames_come_in_turn_with_rising_numbers():
    feed = feed_of()
    feed.give(Pace(0.0))
    frames = [feed.read(1.0) for _ in range(3)]
    assert [frame.seq for frame in frames] == [0, 1, 2]
    assert [frame.image[0, 0, 0] for frame in frames] == [1, 2, 1]


def test_the_agent_has_nothing_to_log_about_its_frames():
    feed = feed_of()
    feed.give(Pace(0.0))
    with capture_logs() as logs:
        frames = Capture("top", lambda: feed, Mailroom().add()).steps()
        assert [next(frames).seq for _ in range(3)] == [0, 1, 2]
    assert [entry["event"] for entry in logs] == ["camera_open"]


def test_as_many_frames_come_as_were_asked_for():
    feed = feed_of()
    feed.give(Pace(0.0, left=1))
    feed.read(1.0)
    assert feed.is_idle
    with pytest.raises(FrameTimeoutError):
        feed.read(0.01)


def test_frames_keep_the_interval_within_the_jitter():
    feed = feed_of()
    began_s = time.monotonic()
    feed.give(Pace(0.01))
    feed.read(1.0)
    feed.read(1.0)
    assert time.monotonic() - began_s >= 0.01 * (1 - JITTER)


def test_a_frame_that_is_to_come_alone_waits_until_the_others_are_judged():
    free = threading.Event()
    feed = feed_of(free.is_set)
    feed.give(Pace(0.0, alone=True))
    with pytest.raises(FrameTimeoutError):
        feed.read(0.01)
    free.set()
    assert feed.read(1.0).seq == 0


def test_closing_ends_a_read_that_waits():
    feed = feed_of()
    threading.Timer(0.01, feed.close).start()
    with pytest.raises(CameraLostError):
        feed.read(5.0)
