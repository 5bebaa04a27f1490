"""The table of a camera that OpenCV opens."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from edge_agent.cameras.opencv import address

Format = Literal["MJPG", "JPEG", "YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12", "GREY", "BGR3", "RGB3"]
"""The FourCCs of V4L2 that are read here; OpenCV reads a few more, where a device has nothing else."""

_OF_DEVICES = ("width", "height", "fps", "format", "exposure", "gain", "focus")


class Config(BaseModel):
    """A camera, stream or file that OpenCV opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["opencv"] = "opencv"
    source: NonNegativeInt | Annotated[str, Field(min_length=1)] | Path = Field(
        repr=False,  # what is refused may hold a password
        description="A device (`/dev/video0`, or just its number), a stream (`rtsp://...`), a GStreamer pipeline "
        "(`... ! ...`) or a video file",
    )
    username: Annotated[str, Field(min_length=1)] | None = Field(None, description="Who the agent is to a stream")
    password_file: Path | None = Field(
        None, description="File of mode 0600 with the password; a bare name is looked up among the systemd credentials"
    )
    width: PositiveInt | None = Field(None, description="Asked of a device, in pixels; it may give another size")
    height: PositiveInt | None = Field(None, description="Asked of a device, in pixels; it may give another size")
    fps: float | None = Field(None, gt=0, le=1000, description="Asked of a device, in frames per second")
    format: Format | None = Field(None, description="Asked of a device: how it packs its pixels, as a FourCC")
    exposure: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] | None = Field(
        None, description="Asked of a device: milliseconds, or `auto`"
    )
    gain: NonNegativeInt | None = Field(None, description="Asked of a device, in the driver's own numbers")
    focus: NonNegativeInt | Literal["auto"] | None = Field(
        None, description="Asked of a device: a number of the driver's own, or `auto`"
    )
    reduced_decoding: bool = Field(
        False, description="Decode JPEGs at half their size where the model sees no more than that"
    )
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
        if not isinstance(source, str) or address.medium_of(source) in ("stream", "pipeline") or source.isdecimal():
            return source
        return Path(source)  # so that it is taken from the folder of the configuration file

    @model_validator(mode="after")
    def _size_is_whole(self) -> "Config":
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together: set both, or neither")
        return self

    @model_validator(mode="after")
    def _asked_of_devices(self) -> "Config":
        vain = [key for key in _OF_DEVICES if getattr(self, key) is not None]
        if vain and self.medium != "device":
            raise ValueError(
                f"{', '.join(vain)}: only a device such as /dev/video0 can be asked; a {self.medium} is taken as it comes"
            )
        if self.reduced_decoding and self.medium in ("pipeline", "file"):
            raise ValueError(f"reduced_decoding: a {self.medium} is decoded as a whole")
        return self

    @model_validator(mode="after")
    def _no_secret_in_source(self) -> "Config":
        if self.password_file and self.username is None and "{username}" in self.path:
            raise ValueError("username is missing: the source has a place for it")
        if self.password_file and self.username is None and "{password}" not in self.path:
            raise ValueError("password_file is set without username: who is it the password of?")
        has_any = self.username is not None or self.password_file is not None
        if objection := address.objection(self.path, has_password=has_any):
            raise ValueError(f"source {objection}" if objection.startswith(("must", "has")) else objection)
        return self

    @property
    def path(self) -> str:
        """The source as OpenCV takes it: a number stands for `/dev/videoN`."""
        source = str(self.source)
        return f"/dev/video{source}" if source.isdecimal() else source

    @property
    def medium(self) -> address.Medium:
        """What the source is, by its form alone."""
        return address.medium_of(self.path)

    @property
    def label(self) -> str:
        """The source in words that may be shown: without what may hold secrets."""
        return address.label_of(self.path)
