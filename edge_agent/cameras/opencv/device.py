"""V4L2 devices."""

import grp
import os
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_agent.cameras.opencv.library import FIRST_PICTURE_S, as_bgr
from edge_agent.cameras.opencv.settings import Config
from edge_agent.core.datatypes import Frame, Image
from edge_agent.errors import CameraLostError, FrameTimeoutError

if TYPE_CHECKING:
    import cv2

_SLICE_S = 0.2
"""How long a read goes on after another thread has closed the camera."""


class DeviceCamera:
    """One V4L2 device. `close` may be called from any thread; a read that is under way then ends first.

    `captured_ns` is taken when the frame has arrived and is decoded. A read returns within its `timeout_s`, except for
    the first (2 s).
    """

    def __init__(self, config: Config) -> None:
        self._label = config.label
        self._seq = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()  # releasing a capture that another thread reads from crashes
        self._capture = _open(config)

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. The image is an array of its own, `(H, W, 3) uint8` BGR, and read-only."""
        with self._lock:
            if self._seq > 0:
                self._wait(timeout_s)
            if self._closed.is_set():
                raise CameraLostError(f"{self._label} was closed")
            image = self._take()
        captured_ns = time.monotonic_ns()
        seq, self._seq = self._seq, self._seq + 1
        return Frame(image, seq, captured_ns)

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
        with self._lock:
            self._capture.release()

    def _wait(self, timeout_s: float) -> None:
        """Waits for the next frame, without taking it."""
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
            return as_bgr(cast("Image", image))
        # OpenCV says only that there is no picture; how long it took tells a silent source from a broken one.
        if time.monotonic() - started_s >= FIRST_PICTURE_S:
            raise FrameTimeoutError(f"{self._label} gave no picture for {FIRST_PICTURE_S:g} s")
        raise CameraLostError(f"{self._label} stopped giving pictures: unplugged, switched off, or cut off")


def _open(config: Config) -> "cv2.VideoCapture":
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
