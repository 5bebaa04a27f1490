"""What a simulated line is like: the camera's table."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LABELS = ("bottle", "cap", "label", "label_misaligned", "crack")
"""What is to be seen, in the order of the bundled model's classes."""

PX_PER_S = 600.0
"""How fast the belt is at `speed = 1`, in pixels of a picture 1280 wide."""

FaultKind = Literal["dark", "blurred", "frozen", "shaken", "disconnected", "burst", "belt_stop"]


class Fault(BaseModel):
    """Something that happens to the camera or the belt. Seconds count from the first opening of the camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    at_s: float = Field(ge=0, le=1e6, description="When it begins, in seconds after the start.")
    for_s: float = Field(gt=0, le=1e6, description="How long it lasts, in seconds.")

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s


class Config(BaseModel):
    """Bottles on a conveyor, drawn: the same seed gives the same line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["simulator"] = "simulator"
    width: int = Field(1280, ge=320, le=3840, description="Width of the picture in pixels.")
    height: int = Field(720, ge=180, le=2160, description="Height of the picture in pixels.")
    fps: float = Field(30.0, ge=1, le=240, description="Frames per second.")
    seed: int = Field(1, ge=0, lt=1 << 63, description="Another seed is another line.")
    speed: float = Field(1.0, gt=0, le=8, description="Of the belt; 1 carries about 2.3 bottles a second.")
    direction: Literal["right", "left"] = Field("right", description="Where the bottles travel.")
    defects: float = Field(0.2, ge=0, le=1, description="Share of bottles with a defect.")
    touching: float = Field(0.05, ge=0, le=1, description="Share of bottles that touch the one before.")
    contrast: float = Field(1.0, gt=0, le=1, description="Of cracks: lower ones are harder to see.")
    noise: float = Field(3.0, ge=0, le=40, description="Of the sensor: standard deviation in levels of 255.")
    exposure_ms: float = Field(2.0, ge=0, le=20, description="Time of exposure: what moves is smeared over it.")
    light_drift: float = Field(0.1, ge=0, le=0.9, description="How far the light rises and falls, as a fraction.")
    clutter: float = Field(0.5, ge=0, le=1, description="How much stands around behind the belt.")
    line: float = Field(0.6, gt=0, lt=1, description="Where a bottle counts as passed, as a fraction of the width.")
    parts: Annotated[int | None, Field(ge=1, description="The camera ends after so many bottles; else never.")] = None
    truth: Annotated[Path | None, Field(description="A file for what is really there; for who scores.")] = None
    faults: tuple[Fault, ...] = Field((), max_length=100, description="What goes wrong, and when.")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Without a frame for so long the camera counts as lost.")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if 1 / self.fps >= self.timeout_s:
            raise ValueError(f"fps: with a frame every {1 / self.fps:g} s timeout_s must be more than that")
        for one, other in pairwise(sorted(self.faults, key=lambda fault: (fault.kind, fault.at_s))):
            if one.kind == other.kind and other.at_s < one.end_s:
                raise ValueError(
                    f"faults: {one.kind} at {other.at_s:g} s begins before the one at {one.at_s:g} s is over"
                )
        return self

    @property
    def scale(self) -> float:
        """Pixels of this picture per pixel of one of 1280x720, for which all sizes are given."""
        return min(self.width / 1280, self.height / 720)

    @property
    def px_per_s(self) -> float:
        """The belt's speed in this picture."""
        return PX_PER_S * self.speed * self.scale


def fault_at(faults: tuple[Fault, ...], kind: FaultKind, t_s: float) -> Fault | None:
    """The fault of that kind that goes on at that time."""
    return next((fault for fault in faults if fault.kind == kind and fault.at_s <= t_s < fault.end_s), None)
