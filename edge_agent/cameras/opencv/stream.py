"""Network streams and video files, by FFmpeg inside OpenCV, and GStreamer pipelines."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_agent import secret_files
from edge_agent.cameras.opencv import address, gstreamer, rtsp
from edge_agent.cameras.opencv.controls import fourcc_of, size_of
from edge_agent.cameras.opencv.freshness import WAITED_S, Effort, Pace, Still
from edge_agent.cameras.opencv.pixels import JPEG_FORMATS, Bytes, as_bgr, decoder, jpeg_size
from edge_agent.cameras.opencv.settings import Config
from edge_agent.core.datatypes import Frame, Image, Later
from edge_agent.core.pool import Pool
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, FrameTimeoutError
from edge_agent.opencv_setup import opencv_version

if TYPE_CHECKING:
    import cv2

_OPEN_TIMEOUT_MS = 5000
_LONGEST_BLOCK_S = 10.0
"""Whatever `timeout_s`: a thread that blocks for longer looks as if it hung."""

_BACKLOG_S = 3.0
"""What has gathered while the stream was opened, or stood, is passed over for so long at most."""

_FROZEN_S = 60.0
"""Longer than cameras take from one key frame to the next: between them an idle scene may well stay the same."""


class StreamCamera:
    """One stream, pipeline or file. `close` may be called from any thread; a read that is under way then ends first.

    `captured_ns` is taken when the frame has arrived and is decoded; those of MJPEG over HTTP are decoded when somebody
    asks for the pixels. A stream's limit is fixed when it opens: a read returns within the configured `timeout_s`, 10 s
    at most, and after a timeout the stream has to be opened anew.

    Attributes:
        refused: what was asked for and is not done: what was asked, and what is done.
    """

    def __init__(self, config: Config) -> None:
        self._label = config.label
        self._medium = config.medium
        self._stall_s = _limit_s(config)
        self._seq = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()  # releasing a capture that another thread reads from crashes
        self._capture = _open(config)
        self._is_live = config.path.startswith("rtsp")
        self._still = Still() if config.medium == "stream" and opencv_version() < (5, 0) else None
        self._pace = Pace(time.monotonic())
        self._size = size_of(self._capture)
        self._decode = _take_over_decoding(self._capture, config, self._size)
        in_vain = config.reduced_decoding and self._decode is None
        self.refused = {"reduced_decoding": (True, False)} if in_vain else {}
        self._buffers, self._spare = Pool(), Pool()
        self._shape: tuple[int, ...] = (0,)  # of what OpenCV gives

    def read(self, timeout_s: float) -> Frame:  # noqa: ARG002 - fixed when it opens
        """See `Camera.read`. The image is `(H, W, 3) uint8` BGR, read-only, and nothing overwrites it while it is held."""
        with self._lock:
            if self._closed.is_set():
                raise CameraLostError(f"{self._label} was closed")
            picture = self._take()
        captured_ns = time.monotonic_ns()
        seq, self._seq = self._seq, self._seq + 1
        source = f"{Path(self._label).name}#{seq}" if self._medium == "file" else ""
        return Frame(picture, seq, captured_ns, source)

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
        with self._lock:
            self._capture.release()

    def _take(self) -> Image | Later:
        if self._is_live:
            self._grab_new()
        else:
            self._grab()
        image = self._retrieve()
        if self._decode is not None:
            told = jpeg_size(image.reshape(-1).data)
            if told not in (None, self._size):
                raise CameraLostError(f"{self._label} changed the size of its pictures: it is opened anew")
            return self._decode(image)
        if self._medium == "pipeline":
            gstreamer.refuse_raw(image, self._capture, self._label)
        bgr = as_bgr(image, self._spare)
        if self._still and self._still.lasts_s(bgr) >= _FROZEN_S:
            raise CameraLostError(f"{self._label} gave the same picture for {_FROZEN_S:g} s: it is opened anew")
        return bgr

    def _grab_new(self) -> None:
        """The next picture; after the opening and after a pause, the first that had to be waited for.

        Those before it have gathered meanwhile, are up to a second old or as old as the pause, and nothing in them says
        so.
        """
        is_old = self._grab_noted()[1] or self._seq == 0
        end_s = time.monotonic() + _BACKLOG_S
        while is_old and time.monotonic() < end_s:
            is_old = self._grab_noted()[0] <= WAITED_S

    def _grab_noted(self) -> tuple[float, bool]:
        """For how long it waited, and whether that was a pause of the stream."""
        effort = Effort()
        self._grab()
        took_s, waited_s = effort.so_far_s()
        now_s = time.monotonic()
        if self._pace.falls_behind(waited_s, now_s):
            raise CameraLostError(
                f"{self._label} comes faster than it can be decoded here, and falls behind: "
                "choose a smaller stream of the camera, or fewer pictures per second"
            )
        return waited_s, self._pace.pauses(took_s)

    def _grab(self) -> None:
        started_s = time.monotonic()
        taken = self._capture.grab()
        if self._medium == "file":
            if not taken:
                raise EndOfStreamError(f"{self._label} has no more pictures")
            return
        # OpenCV says only that there is no picture; how long it took tells a silent source from a broken one. FFmpeg
        # ends a timeout with the pictures that it still held back: they are as old as the silence.
        if time.monotonic() - started_s >= self._stall_s:
            raise FrameTimeoutError(self._silence())
        if not taken:
            raise CameraLostError(f"{self._label} stopped giving pictures: unplugged, switched off, or cut off")

    def _retrieve(self) -> Image:
        import cv2

        try:
            # A JPEG is never as long as the last.
            taken, image = self._capture.retrieve(None if self._decode else self._buffers.take(self._shape))
        except cv2.error as error:
            raise CameraLostError(f"{self._label} gave a picture that OpenCV cannot read: {error.err}") from error
        if not taken:
            raise CameraLostError(f"{self._label} gave a picture that OpenCV cannot read")
        self._shape = image.shape
        return cast("Image", image)

    def _silence(self) -> str:
        told = f"{self._label} gave no picture for {self._stall_s:g} s"
        if self._seq == 0 and self._medium == "stream":
            told += "; a stream begins at its next key frame: has the camera one each second or two?"
        return told


def password_of(config: Config) -> str | None:
    """The password, read anew; None where none is configured. Raises `ConfigError`."""
    return secret_files.read_password(config.password_file, "password_file") if config.password_file else None


def _limit_s(config: Config) -> float:
    return min(config.timeout_s, _LONGEST_BLOCK_S)


def _take_over_decoding(
    capture: "cv2.VideoCapture", config: Config, size: tuple[int, int]
) -> Callable[[Bytes], Later] | None:
    """What makes a picture of each JPEG of an MJPEG stream; None where OpenCV has to do it."""
    import cv2

    is_mjpeg = config.path.startswith("http") and fourcc_of(capture) in JPEG_FORMATS
    if not is_mjpeg or not capture.set(cv2.CAP_PROP_FORMAT, -1):  # -1: as it comes
        return None
    return decoder("MJPG", size, halves=config.reduced_decoding)


def _open(config: Config) -> "cv2.VideoCapture":
    if config.medium == "file":
        return _open_file(config.path)
    try:
        source = address.with_credentials(config.path, config.username, password_of(config))
    except (ConfigError, ValueError) as error:  # a file that is being replaced comes back
        raise CameraLostError(f"{config.label}: {error}") from None
    limits_ms = _OPEN_TIMEOUT_MS, round(_limit_s(config) * 1000)
    if config.medium == "pipeline":
        return _open_pipeline(config, source, *limits_ms)
    return _open_stream(config, source, *limits_ms)


def _open_pipeline(config: Config, source: str, open_ms: int, read_ms: int) -> "cv2.VideoCapture":
    gstreamer.require()
    if complaint := gstreamer.complaint(gstreamer.with_sink(config.path)):
        raise CameraLostError(f"{config.label} cannot be made: {complaint}")
    return gstreamer.open_pipeline(source, config.label, open_ms, read_ms)


def _open_file(path: str) -> "cv2.VideoCapture":
    import cv2

    if not Path(path).is_file():
        raise CameraLostError(f"there is no video file {path}")
    # Without timeouts, which would count the time that decoding takes.
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [])
    if not capture.isOpened():
        raise CameraLostError(f"{path} cannot be read as a video: it is damaged, or of a kind unknown to OpenCV")
    return capture


def _open_stream(config: Config, source: str, open_ms: int, read_ms: int) -> "cv2.VideoCapture":
    import cv2

    if trouble := rtsp.unknown_host(config.path):
        raise CameraLostError(f"{config.label} cannot be opened: {trouble}")
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):
        options += [cv2.CAP_PROP_N_THREADS, 1]  # each further one holds back one more picture
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
    if capture.isOpened():
        return capture
    trouble = rtsp.trouble(config.path, has_password=config.password_file is not None)
    raise CameraLostError(f"{config.label} cannot be opened: {trouble}")
