import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SYSTEM, SimulatedClock
from tests.builders import MS

UTC = datetime(2026, 1, 1, tzinfo=timezone.utc)
moments = st.integers(0, 10**18)
closed = threading.Event()
closed.set()


def test_the_systems_clock_is_the_monotonic_one():
    before_ns = time.monotonic_ns()
    assert before_ns <= SYSTEM.mono_ns() <= time.monotonic_ns()


def test_the_systems_utc_of_now_is_now():
    assert abs(SYSTEM.utc_of(SYSTEM.mono_ns()) - datetime.now(timezone.utc)) < timedelta(seconds=1)


def test_the_systems_clock_waits_until_the_moment():
    due_ns = SYSTEM.mono_ns() + 10 * MS
    assert not SYSTEM.wait_until(due_ns, threading.Event())
    assert SYSTEM.mono_ns() >= due_ns


def test_a_moment_that_is_past_is_not_waited_for():
    assert not SYSTEM.wait_until(SYSTEM.mono_ns() - 10**12, threading.Event())


def test_closing_ends_a_wait():
    event = threading.Event()
    timer = threading.Timer(0.01, event.set)
    timer.start()
    assert SYSTEM.wait_until(SYSTEM.mono_ns() + 3600 * 10**9, event)
    timer.join()


@given(moments, st.lists(moments, max_size=8))
def test_a_simulated_clock_never_goes_back_and_stands_where_it_was_last_waited_for(start_ns, waits):
    clock = SimulatedClock(start_ns, UTC)
    latest_ns = start_ns
    for due_ns in waits:
        assert not clock.wait_until(due_ns, threading.Event())
        latest_ns = max(latest_ns, due_ns)
        assert clock.mono_ns() == latest_ns


@given(moments, moments)
def test_a_simulated_clock_stands_still_for_who_is_closed(start_ns, due_ns):
    clock = SimulatedClock(start_ns, UTC)
    assert clock.wait_until(due_ns, closed)
    assert clock.mono_ns() == start_ns


@given(moments, st.integers(-(10**15), 10**15))
def test_simulated_utc_goes_with_simulated_time(start_ns, later_us):
    clock = SimulatedClock(start_ns, UTC)
    assert clock.utc_of(start_ns + later_us * 1000) == UTC + timedelta(microseconds=later_us)


@pytest.mark.parametrize("clock", [SYSTEM, SimulatedClock(0, UTC)])
def test_utc_says_its_zone(clock):
    assert clock.utc_of(0).tzinfo is timezone.utc


@pytest.mark.parametrize("clock", [SYSTEM, SimulatedClock(7_000, UTC)])
def test_the_moment_of_a_time_is_the_inverse_of_the_time_of_a_moment(clock):
    moment_ns = clock.mono_ns() - 40 * MS
    assert abs(clock.mono_of(clock.utc_of(moment_ns)) - moment_ns) < MS


def test_the_moment_of_a_time_of_another_zone_is_the_same():
    there = UTC.astimezone(timezone(timedelta(hours=-7))) + timedelta(microseconds=3)
    assert SimulatedClock(7_000, UTC).mono_of(there) == 10_000
