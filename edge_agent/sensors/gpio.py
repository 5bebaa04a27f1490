"""An input line of a GPIO chip, by libgpiod v2: its edges, with the kernel's own time stamps."""

import errno
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from edge_agent import gpio_setup
from edge_agent.core.ports import Edge, Sensor
from edge_agent.errors import SensorLostError

BUFFER = 256
"""So many edges the kernel keeps until they are read, the newest: seconds of parts, and little work after a flood."""

_SEQNO_RANGE = 1 << 32  # the kernel's numbers have 32 bits, and the library shows those above 2^31 as negative ones


class Input(Protocol):
    """Which line, and what of it is an edge. The keys are those of the trigger in docs/configuration.md."""

    @property
    def chip(self) -> Path:
        """Its device file."""

    @property
    def line(self) -> int | str:
        """Offset or name."""

    @property
    def edge(self) -> Literal["rising", "falling"]:
        """Which change of the voltage is an edge."""

    @property
    def bias(self) -> Literal["as_is", "pull_up", "pull_down", "disabled"]:
        """The line's resistor."""

    @property
    def debounce_ms(self) -> float:
        """An edge counts once the line has been steady for so long, and has that moment's time stamp; 0: at once."""


class GpioSensor:
    """A line that was requested for edges; nobody else can have it meanwhile."""

    def __init__(self, config: Input) -> None:
        self._name = f"line {config.line} of {config.chip}"
        try:
            self._request = gpio_setup.request_lines(
                config.chip, {config.line: _settings(config)}, "edge-agent trigger", BUFFER
            )
        except OSError as error:
            raise SensorLostError(str(error)) from error
        self._seqno = 0  # the kernel counts a line's edges from 1 with every request

    def read(self, timeout_s: float) -> Sequence[Edge]:
        """See `Sensor.read`. One call returns all that the kernel has kept."""
        try:
            if not self._request.wait_edge_events(timeout_s):
                return ()
            return [self._edge(event) for event in self._request.read_edge_events(BUFFER)]
        except OSError as error:
            why = "the chip is gone" if error.errno == errno.ENODEV else error.strerror
            raise SensorLostError(f"cannot read {self._name} any more: {why}; is it still connected?") from error

    def close(self) -> None:
        """See `Sensor.close`."""
        if self._request:
            self._request.release()

    def _edge(self, event: Any) -> Edge:
        """When the kernel's buffer is full its oldest edge goes: the numbers show how many did."""
        lost = (event.line_seqno - self._seqno - 1) % _SEQNO_RANGE
        self._seqno = event.line_seqno
        return Edge(event.timestamp_ns, lost)


def create(config: Input) -> Sensor:
    """Requests the line; edges from before that are none.

    Raises:
        SensorLostError: the chip or the line cannot be had, now.
        UnavailableError: the library is not there.
    """
    return GpioSensor(config)


def verify(_config: Input) -> None:
    """Whether there is a library for it; the chip may come later. Raises `UnavailableError`."""
    gpio_setup.library()


def _settings(config: Input) -> Any:
    gpiod = gpio_setup.library()
    return gpiod.LineSettings(
        direction=gpiod.line.Direction.INPUT,
        edge_detection=gpiod.line.Edge[config.edge.upper()],
        bias=gpiod.line.Bias[config.bias.upper()],
        debounce_period=timedelta(milliseconds=config.debounce_ms),
        event_clock=gpiod.line.Clock.MONOTONIC,
    )
