"""The configuration file of `edge-agent reject-arm`. `[device]` and `[mqtt]` are written as in the agent's own."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent import broker
from edge_agent.actuator.judge import Policy
from edge_agent.wire.messages import Action
from edge_agent.wire.topics import DeviceConfig

LineName = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1, max_length=32)]


class Table(BaseModel):
    """One table of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmTable(Table):
    """The table `[arm]`: the arm's own word on what it does. What the agent's `birth` recommends is only compared."""

    on_unknown: Action = Field("reject", description="For `unknown`, and for a gap in `seq`.")
    on_agent_loss: Action = Field("stop", description="While the agent is lost.")
    ack: bool = Field(True, description="Whether it tells the agent what it did with each verdict.")


class OutputTable(Table):
    """What every output has."""

    delay_ms: float = Field(0, ge=0, le=600_000, description="From the verdict to its pulse.")
    pulse_ms: float = Field(100, gt=0, le=60_000, description="How long the pulse is.")


class SimulatedOutput(OutputTable):
    """The table `[output]` with `kind = "simulated"`: the log says what an arm would do."""

    kind: Literal["simulated"] = "simulated"


class GpioOutput(OutputTable):
    """The table `[output]` with `kind = "gpio"`."""

    kind: Literal["gpio"] = "gpio"
    chip: Path = Field(Path("/dev/gpiochip0"), description="The GPIO chip.")
    reject_line: LineName = Field(description="Offset or name of the line that rejects.")
    stop_line: LineName | None = Field(None, description="Offset or name of the line that stops.")
    reject_active_low: bool = Field(False, description="The line rejects while it is low.")
    stop_active_low: bool = Field(False, description="The line stops while it is low.")

    @model_validator(mode="after")
    def _two_lines(self) -> "GpioOutput":
        if self.reject_line == self.stop_line:
            raise ValueError("stop_line must be another line than reject_line")
        return self


class ArmSettings(Table):
    """The whole file."""

    device: DeviceConfig
    mqtt: broker.Config
    arm: ArmTable = ArmTable()
    output: Annotated[SimulatedOutput | GpioOutput, Field(discriminator="kind")] = SimulatedOutput()

    @model_validator(mode="after")
    def _can_stop(self) -> "ArmSettings":
        stops = "stop" in (self.arm.on_unknown, self.arm.on_agent_loss)
        if stops and isinstance(self.output, GpioOutput) and self.output.stop_line is None:
            raise ValueError("output: stop_line is missing: on_unknown or on_agent_loss is stop")
        return self

    @property
    def policy(self) -> Policy:
        """What the judge has to know."""
        return Policy(self.arm.on_unknown, self.arm.on_agent_loss, self.output.delay_ms)
