"""The two lines of an arm: simulated, or GPIO by libgpiod v2."""

from typing import Literal, Protocol

import structlog

from edge_agent import gpio_setup
from edge_agent.actuator.settings import GpioOutput, SimulatedOutput
from edge_agent.errors import ConfigError

log = structlog.get_logger()

Line = Literal["reject", "stop"]


class Output(Protocol):
    """Both lines are off when it is opened."""

    def set(self, line: Line, *, on: bool) -> None:
        """Switches now, without waiting. Raises `OSError` where the line cannot be switched."""

    def close(self) -> None:
        """Lets go of the lines."""


class Simulated:
    """Says in the log what an arm would do."""

    def set(self, line: Line, *, on: bool) -> None:
        """Logs it."""
        log.info("arm_output", line=line, on=on)

    def close(self) -> None:
        """There is nothing to let go of."""


class Gpio:
    """Lines of a GPIO chip. What they are when nobody holds them is the hardware's business: see docs/operations.md."""

    def __init__(self, settings: GpioOutput) -> None:
        gpiod = gpio_setup.library()
        self._lines: dict[Line, int | str] = {"reject": settings.reject_line}
        if settings.stop_line is not None:
            self._lines["stop"] = settings.stop_line
        active_low = {"reject": settings.reject_active_low, "stop": settings.stop_active_low}
        self._values = gpiod.line.Value
        wanted = {
            line: gpiod.LineSettings(
                direction=gpiod.line.Direction.OUTPUT,
                output_value=self._values.INACTIVE,
                active_low=active_low[name],
            )
            for name, line in self._lines.items()
        }
        try:
            self._request = gpio_setup.request_lines(settings.chip, wanted, "edge-agent reject-arm")
        except OSError as error:
            raise ConfigError(f"output: {error}") from error

    def set(self, line: Line, *, on: bool) -> None:
        """One call into the kernel."""
        if line in self._lines:
            self._request.set_value(self._lines[line], self._values.ACTIVE if on else self._values.INACTIVE)

    def close(self) -> None:
        """Gives the lines back to the kernel."""
        self._request.release()


def open_output(settings: SimulatedOutput | GpioOutput) -> Output:
    """The output of that kind. Raises `ConfigError` where it cannot be had."""
    return Gpio(settings) if isinstance(settings, GpioOutput) else Simulated()
