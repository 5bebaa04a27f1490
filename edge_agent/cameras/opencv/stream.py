"""Network streams and video files, by FFmpeg inside OpenCV."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_agent.cameras.opencv.library import as_bgr
from edge_agent.cameras.opencv.settings import Config
from edge_agent.core.datatypes import Frame, Image
from edge_agent.errors import CameraLostError, EndOfStreamError, FrameTimeoutError

if TYPE_CHECKING:
    import cv2

_OPEN_TIMEOUT_MS = 5000
_LONGEST_BLOCK_S = 10.0
"""Whatever `timeout_s`: a thread that blocks for longer looks as if it hung."""


class StreamCamera:
    """One stream or file. `close` may be called from any thread; a read that is under way then ends first.

    `captured_ns` is taken when the frame has arrived and is decoded. A stream's limit is fixed when it opens: a read
    returns within the configured `timeout_s`, 10 s at most, and after a timeout the stream has to be opened anew.
    """

    def __init__(self, config: Config) -> None:
        self._label = config.label
        self._is_file = config.medium == "file"
        self._stall_s = _limit_s(config)
        self._seq = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()  # releasing a capture that another thread reads from crashes
        self._capture = _open(config)

    def read(self, timeout_s: float) -> Frame:  # noqa: ARG002 - fixed when it opens
        """See `Camera.read`. The image is an array of its own, `(H, W, 3) uint8` BGR, and read-only."""
        with self._lock:
            if self._closed.is_set():
                raise CameraLostError(f"{self._label} was closed")
            image = self._take()
        captured_ns = time.monotonic_ns()
        seq, self._seq = self._seq, self._seq + 1
        source = f"{Path(self._label).name}#{seq}" if self._is_file else ""
        return Frame(image, seq, captured_ns, source)

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
        with self._lock:
            self._capture.release()

    def _take(self) -> Image:
        import cv2

        started_s = time.monotonic()
        try:
            taken, image = self._capture.read()
        except cv2.error as error:
            raise CameraLostError(f"{self._label} gave a picture that OpenCV cannot read: {error.err}") from error
        if taken:
            return as_bgr(cast("Image", image))
        if self._is_file:
            raise EndOfStreamError(f"{self._label} has no more pictures")
        # OpenCV says only that there is no picture; how long it took tells a silent source from a broken one.
        if time.monotonic() - started_s >= self._stall_s:
            raise FrameTimeoutError(f"{self._label} gave no picture for {self._stall_s:g} s")
        raise CameraLostError(f"{self._label} stopped giving pictures: unplugged, switched off, or cut off")


def _limit_s(config: Config) -> float:
    return min(config.timeout_s, _LONGEST_BLOCK_S)


def _open(config: Config) -> "cv2.VideoCapture":
    import cv2

    is_file = config.medium == "file"
    if is_file and not Path(config.path).is_file():
        raise CameraLostError(f"there is no video file {config.path}")
    # A file's timeouts would count the time that decoding takes.
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
    timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(_limit_s(config) * 1000)]
    capture = cv2.VideoCapture(config.path, cv2.CAP_FFMPEG, [] if is_file else timeouts)
    if capture.isOpened():
        return capture
    if is_file:
        raise CameraLostError(f"{config.path} cannot be read as a video: it is damaged, or of a kind unknown to OpenCV")
    raise CameraLostError(
        f"{config.label} cannot be opened: is the camera on, is the address right, are name and password right?"
    )
