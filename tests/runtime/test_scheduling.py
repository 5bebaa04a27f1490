import os
import re
import sys
import threading
from contextlib import contextmanager

import pytest

from edge_agent.runtime.scheduling import BACKGROUND, BACKGROUND_NICE, SWITCH_INTERVAL_S, TIMER, Scheduling, Wanted
from tests.fixtures import REPO

CORES = sorted(os.sched_getaffinity(0))
NO_CORE = 1023
PATIENCE_S = 20


def in_thread(work):
    """What it gives, in a thread of its own: what is set there ends with it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(PATIENCE_S)
    return found[0]


@contextmanager
def threads_named(*names):
    is_over = threading.Event()
    threads = [threading.Thread(target=is_over.wait, args=(PATIENCE_S,), name=name) for name in names]
    for thread in threads:
        thread.start()
    yield [thread.native_id for thread in threads]
    is_over.set()
    for thread in threads:
        thread.join()


def niceness(thread_id):
    return os.getpriority(os.PRIO_PROCESS, thread_id)


def may_be_realtime():
    def ask():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            return False
        return True

    return in_thread(ask)


needs_realtime = pytest.mark.skipif(not may_be_realtime(), reason="needs the right to real-time priorities")


def test_what_draws_pictures_stands_back_and_the_others_do_not():
    usual = niceness(threading.get_native_id())
    with threads_named("evidence", "recorder", "capture-top", "link-line", TIMER) as ids:
        Scheduling().settle()
        assert [niceness(thread_id) for thread_id in ids] == [min(usual + BACKGROUND_NICE, 19)] + [usual] * 4


def test_the_names_are_those_of_threads():
    source = "".join(path.read_text() for path in (REPO / "edge_agent" / "runtime").rglob("*.py"))
    named = set(re.findall(r"Thread\([^)]*name=\"([\w-]+)\"", source))
    assert {*BACKGROUND, TIMER} - named == set()


def test_who_waits_for_the_interpreter_gets_it_soon():
    before = sys.getswitchinterval()
    try:
        in_thread(Scheduling().begin)
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    finally:
        sys.setswitchinterval(before)


def test_the_engine_and_what_it_starts_run_on_its_cores_and_others_where_they_did():
    def open_engine():
        Scheduling(Wanted(engine_cores=CORES[:1])).before_engine()
        return os.sched_getaffinity(0), in_thread(lambda: os.sched_getaffinity(0))

    assert in_thread(open_engine) == ({CORES[0]}, {CORES[0]})
    assert os.sched_getaffinity(0) == set(CORES)


def test_what_is_prepared_ahead_runs_beside_the_engine():
    def prepare():
        scheduling = Scheduling(Wanted(engine_cores=CORES[:1], other_cores=CORES[-1:]))
        scheduling.before_engine()
        return in_thread(lambda: (scheduling.prepare_ahead(), os.sched_getaffinity(0))[1])

    assert in_thread(prepare) == {CORES[-1]}


@pytest.mark.skipif(len(CORES) < 2, reason="has one core")
def test_where_only_the_others_have_cores_the_engine_runs_on_any():
    def begin():
        scheduling = Scheduling(Wanted(other_cores=CORES[:1]))
        scheduling.begin()
        return os.sched_getaffinity(0), in_thread(lambda: (scheduling.before_engine(), os.sched_getaffinity(0))[1])

    before = sys.getswitchinterval()
    try:
        assert in_thread(begin) == ({CORES[0]}, set(CORES))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.skipif(len(CORES) < 2, reason="has one core")
def test_where_only_the_engine_has_cores_what_is_prepared_ahead_runs_on_any():
    def prepare():
        scheduling = Scheduling(Wanted(engine_cores=CORES[:1]))
        scheduling.before_engine()
        return in_thread(lambda: (scheduling.prepare_ahead(), os.sched_getaffinity(0))[1])

    assert in_thread(prepare) == set(CORES)


def test_without_a_wish_threads_run_where_they_like():
    def begin():
        scheduling = Scheduling()
        scheduling.before_engine()
        scheduling.serve(waits=True)
        return os.sched_getaffinity(0), os.sched_getscheduler(0)

    assert in_thread(begin) == (set(CORES), os.sched_getscheduler(0))


def test_what_the_kernel_refuses_is_told_once_and_harms_nothing(capsys):
    scheduling = Scheduling(Wanted(engine_cores=[NO_CORE]))
    for _ in range(2):
        in_thread(scheduling.before_engine)
    assert scheduling.refused == {f"cores [{NO_CORE}]"}
    assert capsys.readouterr().out.count("scheduling_refused") == 1


@needs_realtime
def test_threads_that_a_verdict_waits_for_go_first_where_that_is_wanted():
    scheduling = Scheduling(Wanted(realtime=5))

    def serve():
        scheduling.serve(waits=True)
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority

    assert in_thread(serve) == (os.SCHED_FIFO, 5)
    with threads_named(TIMER) as (timer,):
        scheduling.settle()
        assert os.sched_getparam(timer).sched_priority == 5


@needs_realtime
def test_a_thread_that_computes_itself_does_not_go_before_all_others():
    def serve():
        Scheduling(Wanted(realtime=5)).serve(waits=False)
        return os.sched_getscheduler(0)

    assert in_thread(serve) == os.sched_getscheduler(0)
