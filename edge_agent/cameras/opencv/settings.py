"""The table of a camera that OpenCV opens."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator


class Config(BaseModel):
    """A camera, stream or file that OpenCV opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["opencv"] = "opencv"
    source: NonNegativeInt | Annotated[str, Field(min_length=1)] | Path = Field(
        repr=False,  # a stream's URL may carry a password
        description="A device (`/dev/video0`, or just its number), a stream (`rtsp://...`) or a video file",
    )
    width: PositiveInt | None = Field(None, description="Asked of a device, in pixels; it may give another size")
    height: PositiveInt | None = Field(None, description="Asked of a device, in pixels; it may give another size")
    fps: float | None = Field(None, gt=0, le=1000, description="Asked of a device, in frames per second")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Without a frame for so long the camera counts as lost")

    @field_validator("source", mode="before")
    @classmethod
    def _not_empty(cls, source: Any) -> Any:
        if isinstance(source, str) and not source.strip():
            raise ValueError("must be a device such as /dev/video0, a stream or a video file")
        return source

    @field_validator("source")
    @classmethod
    def _file_as_path(cls, source: int | str | Path) -> int | str | Path:
        if not isinstance(source, str) or "://" in source or source.isdecimal():
            return source
        return Path(source)  # so that it is taken from the folder of the configuration file

    @model_validator(mode="after")
    def _size_is_whole(self) -> "Config":
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together: set both, or neither")
        return self

    @property
    def path(self) -> str:
        """The source as OpenCV takes it: a number stands for `/dev/videoN`."""
        source = str(self.source)
        return f"/dev/video{source}" if source.isdecimal() else source

    @property
    def medium(self) -> Literal["device", "stream", "file"]:
        """What the source is, by its form alone."""
        if "://" in self.path:
            return "stream"
        return "device" if self.path.startswith("/dev/") else "file"

    @property
    def label(self) -> str:
        """The source in words that may be shown: of a URL the scheme and host alone, the rest may hold secrets."""
        if self.medium != "stream":
            return self.path
        scheme, _, rest = self.path.partition("://")
        return f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"
