"""The thread of a trigger input, on scripted sensors and on the stand-in for the library."""

import threading
import time

import pytest
from structlog.testing import capture_logs

from edge_agent.config.triggers import GpioTrigger
from edge_agent.core.ports import Edge
from edge_agent.errors import SensorLostError, UnavailableError
from edge_agent.runtime.sensing import MOST_AT_ONCE, MOST_PER_S, Sensing, SensorBack, SensorLost
from edge_agent.sensors import gpio
from tests.chips import Chip, standing_in
from tests.processes import ended

PATIENCE_S = 30
MS = 1_000_000


class Scripted:
    """A sensor that plays a script of reads: edges; errors are raised, functions called."""

    def __init__(self, *script):
        self.script = list(script)
        self.closed = 0

    def read(self, timeout_s):
        if not self.script:
            time.sleep(min(timeout_s, 0.01))
            return ()
        step = self.script.pop(0)
        if callable(step):
            step = step()
        if isinstance(step, Exception):
            raise step
        return step

    def close(self):
        self.closed += 1


def opener(*sensors):
    """Opens one after the other; an error in their place is raised. The last one stays."""
    left = list(sensors)

    def open_():
        sensor = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(sensor, Exception):
            raise sensor
        return sensor

    return open_


class Heard:
    """What it called."""

    def __init__(self):
        self.calls, self.losses, self.delays_ns = [], [], []

    def called(self, at_ns):
        self.delays_ns.append(time.monotonic_ns() - at_ns)
        self.calls.append(at_ns)

    def lost(self, count, at_ns):
        self.losses.append((count, at_ns))


@pytest.fixture
def run():
    """Starts one, and stops it in the end: `sensing, heard = run(open_)`."""
    started = []

    def start(open_):
        heard = Heard()
        sensing = Sensing("top", open_, heard.called, heard.lost)
        started.append(sensing)
        sensing.start()
        return sensing, heard

    yield start
    for sensing in started:
        assert sensing.stop(PATIENCE_S)


@pytest.fixture
def chip(tmp_path):
    with standing_in():
        yield Chip(tmp_path)


def input_of(chip):
    return lambda: gpio.create(GpioTrigger(kind="gpio", chip=chip.path, line=17))


def test_each_edge_is_one_call_with_its_time(run):
    sensing, heard = run(opener(Scripted((), [Edge(5), Edge(6)], (), [Edge(7)])))
    assert ended(lambda: sensing.edges == 3)
    assert (heard.calls, heard.losses) == ([5, 6, 7], [])
    assert (sensing.condition, sensing.reason, sensing.losses, sensing.edges_lost) == ("open", "", 0, 0)


def test_edges_that_were_lost_are_told_before_the_one_that_showed_it(run):
    sensing, heard = run(opener(Scripted((), [Edge(5), Edge(9, lost=3)])))
    assert ended(lambda: sensing.edges == 2)
    assert (heard.calls, heard.losses, sensing.edges_lost) == ([5, 9], [(3, 9)], 3)


def test_a_chip_that_is_not_there_is_lost_once_and_back_when_it_comes(run, chip):
    chip.unplug()
    sensing, heard = run(input_of(chip))
    lost = sensing.notices.get(timeout=PATIENCE_S)
    assert isinstance(lost, SensorLost)
    assert lost.camera == "top"
    assert "there is no such file" in lost.reason
    assert (sensing.condition, sensing.reason) == ("lost", lost.reason)
    time.sleep(0.8)  # it looks once more
    chip.plug_in()
    back = sensing.notices.get(timeout=PATIENCE_S)
    assert isinstance(back, SensorBack)
    assert back.outage_s > 0.8
    assert (sensing.condition, sensing.reason, sensing.losses) == ("open", "", 1)
    at_ns = chip.pulse(17)
    assert ended(lambda: heard.calls == [at_ns])


def test_a_chip_that_is_pulled_out_and_put_back_goes_on(run, chip):
    sensing, heard = run(input_of(chip))
    assert ended(lambda: sensing.condition == "open")
    first_ns = chip.pulse(17)
    assert ended(lambda: sensing.edges == 1)
    chip.unplug()
    assert "the chip is gone" in sensing.notices.get(timeout=PATIENCE_S).reason
    chip.plug_in()
    assert isinstance(sensing.notices.get(timeout=PATIENCE_S), SensorBack)
    second_ns = chip.pulse(17)
    assert ended(lambda: heard.calls == [first_ns, second_ns])
    assert (heard.losses, sensing.losses) == ([], 1)


def test_one_that_opens_and_cannot_be_read_stays_lost(run):
    broken = Scripted(*[SensorLostError("gone")] * 2)
    sensing, _ = run(opener(broken, broken, Scripted()))
    assert ended(lambda: sensing.condition == "open", PATIENCE_S)
    assert [type(sensing.notices.get(timeout=1)) for _ in range(2)] == [SensorLost, SensorBack]
    assert (sensing.losses, broken.closed) == (1, 2)


def test_an_error_that_nobody_expected_is_logged_and_the_sensor_opened_again(run):
    with capture_logs() as logs:
        sensing, _ = run(opener(Scripted((), RuntimeError("bug")), Scripted()))
        assert "RuntimeError: bug" in sensing.notices.get(timeout=PATIENCE_S).reason
        assert ended(lambda: sensing.condition == "open")
    assert "sensor_failed" in [entry["event"] for entry in logs]


def test_a_missing_library_ends_the_thread_for_the_main_thread_to_say(run):
    sensing, _ = run(opener(UnavailableError("no library")))
    assert ended(lambda: sensing.failed is not None)
    assert isinstance(sensing.failed, UnavailableError)
    assert (sensing.condition, sensing.reason) == ("failed", "no library")


def test_an_error_of_what_is_called_ends_the_thread_and_sets_the_line_free():
    def fail(at_ns):
        raise RuntimeError("bug")

    sensor = Scripted((), [Edge(5)])
    sensing = Sensing("top", opener(sensor), fail, Heard().lost)
    sensing.start()
    assert ended(lambda: sensing.condition == "failed")
    assert str(sensing.failed) == "bug"
    assert sensor.closed == 1


def test_it_shows_signs_of_life_while_nothing_comes_and_while_it_waits_to_open(run):
    for open_ in (opener(Scripted()), opener(SensorLostError("not there"))):
        sensing, _ = run(open_)
        assert ended(lambda: sensing.condition != "opening")  # noqa: B023 - called within the round
        tick_ns = sensing.last_tick_ns
        assert ended(lambda: sensing.last_tick_ns > tick_ns)  # noqa: B023


def test_it_stops_at_once_while_it_waits_and_closes_what_is_open(run):
    took_s = []
    for _ in range(3):
        sensing, _ = run(opener(SensorLostError("not there")))
        assert ended(lambda: sensing.condition == "lost")  # noqa: B023 - called within the round
        began_s = time.monotonic()
        assert sensing.stop(PATIENCE_S)
        took_s.append(time.monotonic() - began_s)
    assert min(took_s) < 0.3  # the pause is half a second
    sensor = Scripted()
    sensing, _ = run(opener(sensor))
    assert ended(lambda: sensing.condition == "open")
    assert sensing.stop(PATIENCE_S)
    assert sensor.closed == 1


def test_edges_that_were_read_when_it_is_stopped_are_still_called(run):
    reading, stopped = threading.Event(), threading.Event()

    def read():
        reading.set()
        assert stopped.wait(PATIENCE_S)
        return [Edge(5)]

    sensing, heard = run(opener(Scripted((), read)))
    assert reading.wait(PATIENCE_S)
    sensing.ask_to_stop()
    stopped.set()
    assert ended(lambda: heard.calls == [5])


def test_edges_that_waited_for_the_thread_do_not_chatter(run):
    waited = [Edge(k * 2 * MS) for k in range(3 * MOST_AT_ONCE)]
    sensing, heard = run(opener(Scripted((), waited)))
    assert ended(lambda: sensing.edges == len(waited))
    assert heard.losses == []


def test_of_edges_too_fast_for_any_line_most_are_counted_and_not_called(run):
    flood = [Edge(k * MS // 10) for k in range(2000)]  # 200 ms of 10 kHz
    sensing, heard = run(opener(Scripted((), flood, [Edge(10_000 * MS)])))
    assert ended(lambda: heard.calls[-1:] == [10_000 * MS])
    assert sensing.edges == MOST_AT_ONCE + 200 * MOST_PER_S // 1000 - 1 + 1  # and the one after it
    assert heard.losses == [(2001 - sensing.edges, flood[-1].at_ns)]


def test_an_input_that_chatters_is_bounded_work_and_every_edge_is_called_or_counted(run, chip):
    sensing, heard = run(input_of(chip))
    assert ended(lambda: sensing.condition == "open")
    sent, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < 0.5 or sensing.edges_lost < MOST_PER_S:
        chip.pulse(17)
        sent += 1
    flood_s = time.monotonic() - began_s
    time.sleep(0.3)  # another edge may come
    last_ns = chip.pulse(17)
    assert ended(lambda: heard.calls[-1] == last_ns)
    assert sensing.edges + sensing.edges_lost == sent + 1
    assert sensing.edges == len(heard.calls) <= MOST_AT_ONCE + MOST_PER_S * flood_s + 1
    assert len(heard.losses) <= 2 * (time.monotonic() - began_s) / 0.1 + 2


def test_the_time_from_an_edge_to_its_call_is_short(run, chip):
    sensing, heard = run(input_of(chip))
    assert ended(lambda: sensing.condition == "open")
    for number in range(50):
        chip.pulse(17)
        assert ended(lambda: sensing.edges > number)  # noqa: B023
    assert sorted(heard.delays_ns)[25] < 20 * MS


def test_the_start_does_not_wait_for_the_chip():
    opened = threading.Event()

    def open_():
        assert opened.wait(PATIENCE_S)
        return Scripted()

    sensing = Sensing("top", open_, Heard().called, Heard().lost)
    sensing.start()
    assert sensing.condition == "opening"
    opened.set()
    assert ended(lambda: sensing.condition == "open")
    assert sensing.stop(PATIENCE_S)
