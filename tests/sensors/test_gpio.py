"""An input line, on the stand-in for the library; on a chip of the kernel see tests/hardware/test_gpio_sim.py."""

import time
from datetime import timedelta

import pytest

from edge_agent.config.triggers import GpioTrigger
from edge_agent.core.ports import Edge
from edge_agent.errors import SensorLostError, UnavailableError
from edge_agent.sensors import gpio
from tests.chips import Chip, placed, standing_in

PATIENCE_S = 5


@pytest.fixture(autouse=True)
def gpiod():
    with standing_in() as library:
        yield library


@pytest.fixture
def chip(tmp_path):
    return Chip(tmp_path)


@pytest.fixture
def sensor(chip):
    opened = opening(chip)
    yield opened
    opened.close()


def opening(chip, line=17, **keys):
    return gpio.create(GpioTrigger(kind="gpio", chip=chip.path, line=line, **keys))


def test_an_edge_has_the_time_of_the_kernel(chip, sensor):
    times = [chip.pulse(17), chip.pulse(17, at_ns=12_345)]
    assert sensor.read(PATIENCE_S) == [Edge(times[0]), Edge(12_345)]


def test_no_edge_in_time_gives_none(sensor):
    began_s = time.monotonic()
    assert list(sensor.read(0.02)) == []
    assert 0.02 <= time.monotonic() - began_s < 10


def test_only_the_edge_that_was_asked_for_counts(chip):
    sensor = opening(chip, edge="falling")
    rose_ns = chip.pulse(17)
    assert [edge.at_ns - rose_ns for edge in sensor.read(PATIENCE_S)] == [1000]
    sensor.close()


def test_a_line_may_be_meant_by_its_name(chip):
    sensor = opening(chip, line="GPIO27")
    chip.pulse(27)
    assert len(sensor.read(PATIENCE_S)) == 1
    sensor.close()


def test_the_kernel_is_asked_for_what_the_configuration_says(chip, gpiod):
    opening(chip, bias="pull_up", debounce_ms=2.5).close()
    settings = gpiod.RIG.settings[17]
    assert settings.direction is gpiod.line.Direction.INPUT
    assert settings.edge_detection is gpiod.line.Edge.RISING
    assert settings.bias is gpiod.line.Bias.PULL_UP
    assert settings.debounce_period == timedelta(microseconds=2500)
    assert settings.event_clock is gpiod.line.Clock.MONOTONIC
    assert gpiod.RIG.event_buffer_size == gpio.BUFFER


def test_edges_that_the_kernel_could_not_keep_are_counted_before_the_next(chip, sensor):
    chip.forget(17, 3)
    chip.pulse(17, 10)
    chip.pulse(17, 20)
    chip.forget(17)
    chip.pulse(17, 30)
    assert sensor.read(PATIENCE_S) == [Edge(10, lost=3), Edge(20), Edge(30, lost=1)]


def test_of_more_edges_than_the_kernel_keeps_the_newest_are_read_and_the_others_counted(chip, sensor):
    for number in range(gpio.BUFFER + 44):
        chip.pulse(17, number + 1)
    edges = sensor.read(PATIENCE_S)
    assert (len(edges), edges[0].lost, edges[-1].at_ns) == (gpio.BUFFER, 44, gpio.BUFFER + 44)
    assert sum(edge.lost for edge in edges) == 44


@pytest.mark.parametrize("edge_before", [2**31 - 1, 2**32 - 1])
def test_numbers_of_edges_may_overflow(chip, sensor, edge_before):
    chip.forget(17, edge_before - 1)
    for number in range(3):
        chip.pulse(17, number + 1)
    assert [edge.lost for edge in sensor.read(PATIENCE_S)] == [edge_before - 1, 0, 0]


def test_edges_from_before_it_was_opened_are_none(chip):
    assert chip.pulse(17) is None
    first = opening(chip)
    chip.pulse(17)
    first.close()
    sensor = opening(chip)
    assert list(sensor.read(0)) == []
    at_ns = chip.pulse(17)
    assert sensor.read(PATIENCE_S) == [Edge(at_ns)]
    sensor.close()


def test_a_chip_that_is_pulled_out_is_lost(chip, sensor):
    chip.unplug()
    with pytest.raises(SensorLostError, match=r"cannot read line 17 of .*gpiochip0 any more: the chip is gone"):
        sensor.read(PATIENCE_S)


def test_a_chip_that_is_not_there_is_named(chip):
    chip.unplug()
    with pytest.raises(SensorLostError, match=r"line 17 of .*gpiochip0: there is no such file; gpiodetect"):
        opening(chip)


def test_a_chip_that_may_not_be_opened_is_named_with_what_to_do(chip):
    chip.deny()
    with pytest.raises(SensorLostError, match="permission denied: add the user that runs this to the group"):
        opening(chip)


def test_a_file_that_is_no_chip_is_told(chip, tmp_path):
    chip.path = tmp_path / "file"
    chip.path.touch()
    with pytest.raises(SensorLostError, match="that is no GPIO chip"):
        opening(chip)


def test_a_line_that_somebody_else_holds_is_told(chip, sensor):
    with pytest.raises(SensorLostError, match=r"line 17 of .*: somebody else holds it; gpioinfo shows"):
        opening(chip)


@pytest.mark.parametrize(("line", "words"), [("SENSOR", "has no line of that name"), (40, "offset of out range")])
def test_a_line_that_the_chip_has_not_is_told(chip, line, words):
    with pytest.raises(SensorLostError, match=rf"line {line} of .*{words}; gpioinfo"):
        opening(chip, line=line)


def test_closing_twice_does_nothing_and_sets_the_line_free(chip):
    sensor = opening(chip)
    sensor.close()
    sensor.close()
    opening(chip).close()


@pytest.mark.parametrize("use", [gpio.create, gpio.verify])
@pytest.mark.parametrize(
    ("library", "words"), [("raise ImportError", "needs the package"), ("class Chip: ...", "is for libgpiod 1")]
)
def test_a_library_that_is_missing_or_too_old_is_named_with_its_command(tmp_path, use, library, words):
    (tmp_path / "gpiod.py").write_text(library)
    with placed(tmp_path), pytest.raises(UnavailableError, match=rf"{words}.*pip install 'gpiod>=2.1'"):
        use(GpioTrigger(kind="gpio", line=17))
