import threading

import pytest

from edge_agent.backends.tensorrt.phases import Phases


def test_nothing_is_done_at_first():
    phases = Phases()
    phases.start("Building Engine", None, 4)
    assert phases.fraction == 0


def test_steps_count_by_their_number():
    phases = Phases()
    phases.start("Building Engine", None, 4)
    phases.step("Building Engine", 0)
    assert phases.fraction == 0.25


def test_a_phase_within_counts_as_its_share_of_a_step():
    phases = Phases()
    phases.start("Building Engine", None, 4)
    phases.step("Building Engine", 0)
    phases.start("Timing", "Building Engine", 10)
    phases.step("Timing", 4)
    assert phases.fraction == pytest.approx(0.25 + 0.5 / 4)


def test_a_phase_that_is_over_is_done_with_all_that_is_within():
    phases = Phases()
    phases.start("Building Engine", None, 2)
    phases.start("Timing", "Building Engine", 10)
    phases.start("Tactics", "Timing", 10)
    phases.finish("Timing")
    phases.step("Tactics", 3)
    assert phases.fraction == 0.5
    phases.finish("Building Engine")
    assert phases.fraction == 1


def test_the_fraction_never_falls():
    phases = Phases()
    phases.start("Parsing", None, 2)
    phases.step("Parsing", 0)
    phases.finish("Parsing")
    phases.start("Building Engine", None, 100)
    phases.step("Building Engine", 0)
    assert phases.fraction == 1


def test_phases_without_steps_or_without_a_known_parent_or_unknown_do_no_harm():
    phases = Phases()
    phases.start("Empty", "nobody", 0)
    phases.step("Other", 1)
    phases.finish("Other")
    phases.step("Empty", 7)
    assert phases.fraction == 1


def test_reports_from_several_threads_are_all_counted():
    phases = Phases()
    phases.start("Building Engine", None, 8)

    def report(number):
        name = f"Timing {number}"
        for _ in range(200):
            phases.start(name, "Building Engine", 10)
            for step in range(10):
                phases.step(name, step)
            phases.finish(name)

    threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert phases.fraction == pytest.approx(1 / 8)
