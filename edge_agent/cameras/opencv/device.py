"""V4L2 devices."""

import grp
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_agent.cameras.opencv.clock import Clock
from edge_agent.cameras.opencv.controls import Given, ask, read_back, refusals
from edge_agent.cameras.opencv.pixels import JPEG_FORMATS, Bytes, as_bgr, decoder
from edge_agent.cameras.opencv.settings import Config
from edge_agent.core.datatypes import Frame, Image, Later
from edge_agent.core.pool import Pool
from edge_agent.errors import BadFrameError, CameraLostError, FrameTimeoutError
from edge_agent.opencv_setup import FIRST_PICTURE_S

if TYPE_CHECKING:
    import cv2

_SLICE_S = 0.2
"""How long a read goes on after another thread has closed the camera."""


class DeviceCamera:
    """One V4L2 device. `close` may be called from any thread; a read that is under way then ends first.

    The picture of the formats named in `settings.Format` is decoded when it is first asked for, others as they come.
    `captured_ns` is the driver's stamp, which most take when the picture begins to come in, where that can be believed;
    else the time at which the picture was here. `seq` counts the pictures read: OpenCV does not say which ones the
    driver has dropped. A read returns within its `timeout_s`, except for the first (2 s).

    Attributes:
        given: what the device really gives, by the configuration's keys; from the first frame on also `clock`, whose
            time `captured_ns` is: `driver` or `arrival`. A new mapping when something changes.
        refused: what it gives otherwise than it was asked: what was asked, and what is given.
    """

    def __init__(self, config: Config) -> None:
        self._label = config.label
        self._seq = 0
        self._clock = Clock()
        self._closed = threading.Event()
        self._lock = threading.Lock()  # releasing a capture that another thread reads from crashes
        self._capture = _open(config)
        given = read_back(self._capture)
        self.refused = refusals(config, given)
        self.given: Mapping[str, Given] = given
        self._size = (int(given["width"]), int(given["height"]))
        self._decode = _take_over_decoding(self._capture, config, str(given["format"]), self._size)
        if config.reduced_decoding and given["format"] not in JPEG_FORMATS:
            self.refused = {**self.refused, "reduced_decoding": (True, False)}
        self._is_compressed = given["format"] in JPEG_FORMATS
        self._buffers, self._spare = Pool(), Pool()
        self._shape: tuple[int, ...] = (0,)  # of what the device gives

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. The image is `(H, W, 3) uint8` BGR, read-only, and nothing overwrites it while it is held."""
        with self._lock:
            if self._seq > 0:
                self._wait(timeout_s)
            if self._closed.is_set():
                raise CameraLostError(f"{self._label} was closed")
            stamp_ns, arrived_ns = self._grab()
            picture = self._retrieve()
        captured_ns = self._clock.captured_ns(stamp_ns, arrived_ns)
        if self.given.get("clock") != self._clock.source:
            self.given = {**self.given, "clock": self._clock.source}
        seq, self._seq = self._seq, self._seq + 1
        return Frame(picture, seq, captured_ns)

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

    def _grab(self) -> tuple[int, int]:
        """Takes the buffer with the next picture; the driver's stamp on it, and when it was here."""
        import cv2

        started_s = time.monotonic()
        if self._capture.grab():
            arrived_ns = time.monotonic_ns()
            return round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1000) * 1000, arrived_ns  # it has microseconds
        # OpenCV says only that there is no picture; how long it took tells a silent source from a broken one.
        if time.monotonic() - started_s >= FIRST_PICTURE_S:
            raise FrameTimeoutError(f"{self._label} gave no picture for {FIRST_PICTURE_S:g} s")
        raise CameraLostError(f"{self._label} stopped giving pictures: unplugged, switched off, or cut off")

    def _retrieve(self) -> Image | Later:
        """What is in the buffer, as a copy of our own; the buffer goes back to the driver."""
        import cv2

        buffer = None if self._is_compressed else self._buffers.take(self._shape)  # a JPEG is never as long as the last
        try:
            taken, data = self._capture.retrieve(buffer)
        except cv2.error as error:
            raise CameraLostError(f"{self._label} gave a picture that OpenCV cannot read: {error.err}") from error
        if not taken or data is None:  # the buffer is empty: the next may not be
            return Later(_no_picture, self._size)
        image = cast("Image", data)
        self._shape = image.shape
        return self._decode(image) if self._decode else as_bgr(image, self._spare)


def _open(config: Config) -> "cv2.VideoCapture":
    import cv2

    capture = cv2.VideoCapture(config.path, cv2.CAP_V4L2)
    if capture.isOpened():
        ask(capture, config)
    if not capture.isOpened():  # it closes when another program has taken it meanwhile
        raise CameraLostError(device_trouble(config.path))
    return capture


def _take_over_decoding(
    capture: "cv2.VideoCapture", config: Config, format_: str, size: tuple[int, int]
) -> Callable[[Bytes], Later] | None:
    """What makes a picture of a buffer; None where OpenCV has to do it."""
    import cv2

    decode = decoder(format_, size, halves=config.reduced_decoding)
    return decode if decode and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0) else None


def _no_picture() -> Image:
    raise BadFrameError("the camera gave an empty picture")


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
