"""The two lines of an arm: simulated, or GPIO by libgpiod v2."""

from typing import Any, Literal, Protocol

import structlog

from edge_agent.actuator.settings import GpioOutput, SimulatedOutput
from edge_agent.errors import ConfigError, UnavailableError

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
        gpiod = _gpiod()
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
            self._request = gpiod.request_lines(str(settings.chip), consumer="edge-agent reject-arm", config=wanted)
        except (OSError, ValueError) as error:
            lines = " and ".join(str(line) for line in wanted)
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"output: cannot use line {lines} of {settings.chip}: {why}; gpioinfo shows the chips, their lines and who "
                "holds them"
            ) from error

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


def _gpiod() -> Any:
    try:
        import gpiod
    except ImportError as error:
        raise UnavailableError("output: GPIO needs the package gpiod: pip install 'gpiod>=2.1'") from error
    if not hasattr(gpiod, "request_lines"):  # libgpiod v1, as Debian 12 has it, has the same name
        raise UnavailableError(
            "output: the package gpiod that is installed is for libgpiod 1: pip install 'gpiod>=2.1'"
        )
    return gpiod
