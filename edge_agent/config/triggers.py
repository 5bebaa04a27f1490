"""The tables `[cameras.trigger]`: what makes a part. And `[cameras.fire]`: when it is at the arm."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_agent.config.table import Table
from edge_agent.core.lines import Direction, normal_along

Label = Annotated[str, Field(min_length=1, max_length=64)]
Fraction = Annotated[float, Field(ge=0, le=1)]
LineName = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1, max_length=32)]


class FrameTrigger(Table):
    """Every frame taken up is a part, for cameras that are triggered by hardware."""

    kind: Literal["frame"] = Field("frame", description="Every frame is a part.")


class LineTrigger(Table):
    """A tracked part whose centre crosses the line is a part."""

    kind: Literal["line"] = Field("line", description="What crosses a line is a part.")
    parts: Annotated[tuple[Label, ...], Field(min_length=1, description="The labels that are parts.")]
    line: Annotated[
        tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]],
        Field(description="Two points (x, y) in fractions of the frame."),
    ]
    direction: Direction = Field("right", description="Which way parts cross; `any` takes both.")

    @model_validator(mode="after")
    def _can_be_crossed(self) -> "LineTrigger":
        start, end = self.line
        if start == end:
            raise ValueError("line: both points are the same")
        if normal_along(self.line, self.direction) is None:
            raise ValueError(f"direction: this line runs {self.direction}, so nothing can cross it that way")
        return self


class ExternalTrigger(Table):
    """What triggers from outside have in common: one part per trigger, judged on one frame."""

    offset_ms: float = Field(
        0, ge=-1000, le=60_000, description="From the trigger to the moment at which the part is before the camera."
    )
    window_ms: float = Field(
        100, gt=0, le=10_000, description="A frame captured later than this after that moment shows another part."
    )
    ring: int = Field(4, ge=1, le=64, description="How many frames are kept for triggers that come late.")


class MqttTrigger(ExternalTrigger):
    """A part is what a message on `trigger/{camera}` says."""

    kind: Literal["mqtt"] = Field("mqtt", description="Each message on `trigger/{camera}` is a part.")
    time_tolerance_ms: float = Field(
        5, gt=0, le=1000, description="`time` of a message counts where both clocks together are at most so far off."
    )


class GpioTrigger(ExternalTrigger):
    """A part is an edge on an input line of this device."""

    kind: Literal["gpio"] = Field("gpio", description="Each edge on an input line is a part.")
    chip: Path = Field(Path("/dev/gpiochip0"), description="The GPIO chip.")
    line: LineName = Field(description="Offset or name of the line.")
    edge: Literal["rising", "falling"] = Field("rising", description="Which edge is a part.")
    bias: Literal["as_is", "pull_up", "pull_down", "disabled"] = Field("as_is", description="The line's resistor.")
    debounce_ms: float = Field(
        0, ge=0, le=1000, description="An edge counts once the line has been steady for so long, and as of then."
    )


Trigger = FrameTrigger | LineTrigger | MqttTrigger | GpioTrigger


class FireConfig(Table):
    """The table `[cameras.fire]`, for belts of fixed speed: verdicts say when to act, `fire_at`."""

    after_ms: float = Field(
        gt=0, le=600_000, description="From capture (with a line: of the crossing), or from the trigger, to the arm."
    )
    tolerance_ms: float = Field(
        10,
        gt=0,
        le=1000,
        description="How exact it must be: `fire_at` is null while the clock may be off by more than half.",
    )
