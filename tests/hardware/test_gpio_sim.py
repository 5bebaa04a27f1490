"""Trigger inputs with the real library, on the kernel's simulated chip where there is one."""

import inspect
import time
from datetime import timedelta

import pytest

from edge_agent.config.triggers import GpioTrigger
from edge_agent.errors import SensorLostError
from edge_agent.sensors import gpio
from tests.chips import simulated_chip, standing_in

PATIENCE_S = 5


@pytest.fixture
def chip():
    with simulated_chip(line_names=("", "SENSOR")) as simulated:
        yield simulated


def opening(chip, line=2, debounce_ms=0, **keys):
    return gpio.create(GpioTrigger(kind="gpio", chip=chip.device, line=line, debounce_ms=debounce_ms, **keys))


def edges_of(sensor, count):
    """So many edges, or what came in time."""
    found, end_s = [], time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < end_s:
        found += sensor.read(0.1)
    return found


def test_an_edge_has_the_time_at_which_the_line_changed(chip):
    sensor = opening(chip)
    pulses = [chip.pulse(2) for _ in range(3)]
    edges = edges_of(sensor, 3)
    sensor.close()
    assert [edge.lost for edge in edges] == [0, 0, 0]
    assert all(before <= edge.at_ns <= after for edge, (before, after) in zip(edges, pulses, strict=True))


def test_falling_edges_and_names_of_lines_are_the_kernels(chip):
    sensor = opening(chip, line="SENSOR", edge="falling")
    _, up_ns = chip.pulse(1)
    (edge,) = edges_of(sensor, 1)
    sensor.close()
    assert edge.at_ns >= up_ns


def test_a_resistor_is_one_of_the_kernel(chip):
    sensor = opening(chip, bias="pull_up")
    sensor.read(0)
    assert chip.is_high(2)
    sensor.close()


def test_edges_that_the_kernel_could_not_keep_are_counted(chip):
    sensor = opening(chip)
    for _ in range(gpio.BUFFER + 10):
        chip.pulse(2)
    edges = edges_of(sensor, gpio.BUFFER)
    sensor.close()
    assert (len(edges), edges[0].lost) == (gpio.BUFFER, 10)


def test_a_pulse_shorter_than_the_debounce_time_is_none(chip):
    sensor = opening(chip, debounce_ms=50)
    chip.pulse(2)
    before_ns = time.monotonic_ns()
    chip.pull(2, up=True)
    (edge,) = edges_of(sensor, 1)
    sensor.close()
    assert edge.at_ns >= before_ns + 50e6  # the time at which it was found steady


def test_a_line_that_is_held_and_one_that_is_not_there_are_told(chip):
    sensor = opening(chip)
    with pytest.raises(SensorLostError, match="somebody else holds it"):
        opening(chip)
    with pytest.raises(SensorLostError, match="no line of that name"):
        opening(chip, line="NONE")
    with pytest.raises(SensorLostError, match="out"):
        opening(chip, line=99)
    sensor.close()


def test_a_chip_that_goes_is_lost():
    with simulated_chip() as chip:
        sensor = opening(chip)
    with pytest.raises(SensorLostError, match="the chip is gone"):
        edges_of(sensor, 1)
    sensor.close()
    with pytest.raises(SensorLostError, match="there is no such file"):
        opening(chip)


# --- the library without a chip ---------------------------------------------------------------------------------------


def test_the_stand_in_has_the_names_of_the_library():
    real = pytest.importorskip("gpiod", reason="needs the package gpiod: pip install 'gpiod>=2.1'")
    with standing_in() as fake:
        for name in ("Direction", "Edge", "Bias", "Clock", "Value"):
            assert set(getattr(fake.line, name).__members__) <= set(getattr(real.line, name).__members__)
        assert set(inspect.signature(fake.LineSettings).parameters) <= set(
            inspect.signature(real.LineSettings).parameters
        )
        for name in ("wait_edge_events", "read_edge_events", "release"):
            asked = inspect.signature(getattr(fake.inputs.LineRequest, name)).parameters
            assert list(asked) == list(inspect.signature(getattr(real.LineRequest, name)).parameters)
        asked = list(inspect.signature(fake.Chip.request_lines).parameters)
        assert list(inspect.signature(real.Chip.request_lines).parameters)[: len(asked)] == asked
        assert set(fake.inputs.EdgeEvent.__dataclass_fields__) == set(real.EdgeEvent.__dataclass_fields__)


def test_the_library_takes_our_settings_and_says_what_is_wrong_with_a_chip(tmp_path):
    gpiod = pytest.importorskip("gpiod", reason="needs the package gpiod: pip install 'gpiod>=2.1'")
    settings = gpio._settings(GpioTrigger(kind="gpio", line=1, bias="disabled", debounce_ms=1.5))
    assert settings.debounce_period == timedelta(microseconds=1500)
    assert settings.bias is gpiod.line.Bias.DISABLED
    for path, words in ((tmp_path / "none", "there is no such file"), (tmp_path, "no GPIO chip")):
        with pytest.raises(SensorLostError, match=words):
            gpio.create(GpioTrigger(kind="gpio", chip=path, line=1))
