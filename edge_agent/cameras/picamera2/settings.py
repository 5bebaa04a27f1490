"""The table of a Raspberry Pi camera."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator


class Config(BaseModel):
    """A camera on the Raspberry Pi's own camera connector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["picamera2"] = "picamera2"
    camera: NonNegativeInt | Annotated[str, Field(min_length=1)] = Field(
        0, description="Which one: its number, its model (`imx708`) or its id, as `rpicam-hello --list-cameras` says"
    )
    width: PositiveInt | None = Field(None, description="In pixels; without it, the size at which the model looks")
    height: PositiveInt | None = Field(None, description="In pixels; without it, the size at which the model looks")
    fps: float | None = Field(None, gt=0, le=1000, description="Frames per second; without it, what the profile says")
    exposure: Annotated[float, Field(gt=0, le=60_000)] | Literal["auto"] = Field(
        "auto", description="In milliseconds, or `auto`"
    )
    gain: Annotated[float, Field(ge=1, le=64)] | Literal["auto"] = Field(
        "auto", description="Amplification in the sensor, 1 being none; or `auto`"
    )
    focus: Annotated[float, Field(ge=0, le=100)] | Literal["auto"] = Field(
        "auto", description="In dioptres, which is 1 / distance in metres; or `auto`. Only where the lens can move"
    )
    timeout_s: float = Field(2.0, gt=0, le=60, description="Without a frame for so long the camera counts as lost")

    @model_validator(mode="after")
    def _size_is_whole(self) -> "Config":
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together: set both, or neither")
        return self

    @property
    def wants_model_size(self) -> bool:
        """Whether the size is left to the model: the Pi scales for nothing."""
        return self.width is None
