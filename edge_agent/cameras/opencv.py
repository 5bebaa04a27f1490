"""Cameras that OpenCV opens: V4L2 devices, network streams such as RTSP, and video files.

A video file comes as fast as it can be decoded; to play one at its own pace, or without a loss, use `replay`.
"""

import grp
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from edge_agent.core.datatypes import Frame, Image
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, FrameTimeoutError, UnavailableError

if TYPE_CHECKING:
    import cv2

_OPEN_TIMEOUT_MS = 5000
_FIRST_PICTURE_S = 2.0
_LONGEST_BLOCK_S = 10.0
"""Whatever `timeout_s`: a thread that blocks for longer looks as if it hung."""

_SLICE_S = 0.2
"""How long a read of a device goes on after another thread has closed it."""

_SETTINGS = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp",  # over UDP a lost packet smears the picture
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # AV_LOG_QUIET: what FFmpeg says names the URL, password included
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": f"{_FIRST_PICTURE_S:.0f}",  # for a device's first picture; else 10
}
"""OpenCV takes these from the environment alone, when it first needs them. What an operator has set there stands."""


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


def create(config: Config) -> Camera:
    """Opens the camera.

    Raises:
        CameraLostError: it is not there, is busy, may not be opened, or does not answer.
        UnavailableError: OpenCV is not installed.
    """
    return OpencvCamera(config)


def verify(config: Config) -> None:
    """Raises `ConfigError` where the source is a video file that is not there. Opens nothing."""
    if config.medium == "file" and not Path(config.path).is_file():
        raise ConfigError(f"there is no video file {config.path}")


class OpencvCamera:
    """One `cv2.VideoCapture`. `close` may be called from any thread; a read that is under way then ends first.

    `captured_ns` is taken when the frame has arrived and is decoded. A read of a device returns within its
    `timeout_s`, except for the first (2 s). A stream's limit is fixed when it opens: a read returns within the
    configured `timeout_s`, 10 s at most, and after a timeout the stream has to be opened anew.
    """

    def __init__(self, config: Config) -> None:
        _prepare_opencv()
        self._label = config.label
        self._medium = config.medium
        self._stall_s = _FIRST_PICTURE_S if config.medium == "device" else _stream_limit_s(config)
        self._seq = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()  # releasing a capture that another thread reads from crashes
        self._capture = _open(config)

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. The image is an array of its own, `(H, W, 3) uint8` BGR, and read-only."""
        with self._lock:
            if self._medium == "device" and self._seq > 0:
                self._wait(timeout_s)
            if self._closed.is_set():
                raise CameraLostError(f"{self._label} was closed")
            image = self._take()
        captured_ns = time.monotonic_ns()
        seq, self._seq = self._seq, self._seq + 1
        source = f"{Path(self._label).name}#{seq}" if self._medium == "file" else ""
        return Frame(image, seq, captured_ns, source)

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
        with self._lock:
            self._capture.release()

    def _wait(self, timeout_s: float) -> None:
        """Waits for a device's next frame, without taking it."""
        import cv2

        end_s = time.monotonic() + timeout_s
        while not self._closed.is_set():
            left_s = max(end_s - time.monotonic(), 0.001)  # OpenCV takes 0 for "for ever"
            try:
                ready, _ = cv2.VideoCapture.waitAny([self._capture], int(min(left_s, _SLICE_S) * 1e9))
            except cv2.error as error:
                raise CameraLostError(f"{self._label} stopped giving pictures: is its cable firm?") from error
            if ready:
                return
            if time.monotonic() >= end_s:
                raise FrameTimeoutError(f"{self._label} gave no picture for {timeout_s:g} s")

    def _take(self) -> Image:
        import cv2

        started_s = time.monotonic()
        try:
            taken, image = self._capture.read()
        except cv2.error as error:
            raise CameraLostError(f"{self._label} gave a picture that OpenCV cannot read: {error.err}") from error
        if taken:
            return _as_bgr(cast("Image", image))
        if self._medium == "file":
            raise EndOfStreamError(f"{self._label} has no more pictures")
        # OpenCV says only that there is no picture; how long it took tells a silent source from a broken one.
        if time.monotonic() - started_s >= self._stall_s:
            raise FrameTimeoutError(f"{self._label} gave no picture for {self._stall_s:g} s")
        raise CameraLostError(f"{self._label} stopped giving pictures: unplugged, switched off, or cut off")


def _prepare_opencv() -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError as error:
        raise UnavailableError(
            "the camera needs OpenCV: pip install opencv-python-headless, or apt install python3-opencv"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes to stderr; we say it in our own words


def _stream_limit_s(config: Config) -> float:
    return min(config.timeout_s, _LONGEST_BLOCK_S)


def _open(config: Config) -> "cv2.VideoCapture":
    import cv2

    if config.medium == "device":
        return _open_device(config)
    if config.medium == "file" and not Path(config.path).is_file():
        raise CameraLostError(f"there is no video file {config.path}")
    # A file's timeouts would count the time that decoding takes.
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
    timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(_stream_limit_s(config) * 1000)]
    capture = cv2.VideoCapture(config.path, cv2.CAP_FFMPEG, timeouts if config.medium == "stream" else [])
    if capture.isOpened():
        return capture
    if config.medium == "file":
        raise CameraLostError(f"{config.path} cannot be read as a video: it is damaged, or of a kind unknown to OpenCV")
    raise CameraLostError(
        f"{config.label} cannot be opened: is the camera on, is the address right, are name and password right?"
    )


def _open_device(config: Config) -> "cv2.VideoCapture":
    import cv2

    capture = cv2.VideoCapture(config.path, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraLostError(device_trouble(config.path))
    # Each of these restarts the device: before the first read only. They are requests, so a refusal is no error.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if config.width is not None and config.height is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
    if config.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, config.fps)
    return capture


def device_trouble(path: str) -> str:
    """Why a video device does not open, and what to do, in one sentence."""
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where a parent folder may not be entered
        found = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "no video device at all"
        return f"there is no camera {path} (there is {found}): is it plugged in?"
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return f"{path} may not be opened: add the user to the group {_group_of(path)} and log in again"
    if not stat.S_ISCHR(Path(path).stat().st_mode):
        return f"{path} is not a camera device"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return f"{path} does not open: {error.strerror}"
    return (
        f"{path} gives no pictures: another program may be using it (`fuser -v {path}` names it), "
        "or the camera's pictures come from the device with the next number"
    )


def _group_of(path: str) -> str:
    try:
        return grp.getgrgid(Path(path).stat().st_gid).gr_name
    except KeyError:
        return "video"


def _as_bgr(image: Image) -> Image:
    """Grey and alpha pictures as `(H, W, 3)` BGR; the array is made read-only."""
    import cv2

    channels = image.shape[2] if image.ndim == 3 else 1  # noqa: PLR2004 - (H, W) or (H, W, C)
    conversion = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}.get(channels)
    if conversion is not None:
        image = cast("Image", cv2.cvtColor(image, conversion))
    image.flags.writeable = False
    return image
