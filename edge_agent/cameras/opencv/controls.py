"""What is asked of a V4L2 device, and what it really gives.

The names are the configuration's, and so are the units: OpenCV counts exposure as V4L2_CID_EXPOSURE_ABSOLUTE does, in
100 µs, and gain and focus as the driver does (modules/videoio/src/cap_v4l.cpp).
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edge_agent.cameras.opencv.settings import Config

if TYPE_CHECKING:
    import cv2

Given = str | int | float
Refusals = Mapping[str, tuple[Given, Given | None]]
"""Each setting that differs: what was asked, and what is given; None: the device does not say, or has no such thing."""

BUFFERS = 2
"""One is filled while the other is emptied. With one a camera that sends without a pause loses every second picture
(30 per second: 15 come, with two 30); with more, more old ones are read after each delay, and no newer."""

_UNITS_PER_MS = 10
_AUTO, _MANUAL, _APERTURE_PRIORITY = 0, 1, 3  # V4L2_EXPOSURE_...; UVC cameras have the latter two, as a rule


def ask(capture: "cv2.VideoCapture", config: Config) -> None:
    """Before the first read only: most of these restart the device. They are requests, and a refusal is no error."""
    import cv2

    capture.set(cv2.CAP_PROP_MODE, 0)  # the driver's own numbers, whatever the environment says
    capture.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
    if config.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.format))
    if config.width is not None and config.height is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
    if config.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, config.fps)  # it takes whole numbers, and rounds
    _ask_controls(capture, config)


def _ask_controls(capture: "cv2.VideoCapture", config: Config) -> None:
    """The automatics go off before their values are set: until then a driver refuses them."""
    import cv2

    if config.exposure is not None:
        modes = (_APERTURE_PRIORITY, _AUTO) if config.exposure == "auto" else (_MANUAL,)
        any(capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, mode) for mode in modes)  # the first that it has
    if isinstance(config.exposure, float):
        capture.set(cv2.CAP_PROP_EXPOSURE, max(1, round(config.exposure * _UNITS_PER_MS)))
    if config.gain is not None:
        capture.set(cv2.CAP_PROP_GAIN, config.gain)
    if config.focus is not None:
        capture.set(cv2.CAP_PROP_AUTOFOCUS, 1 if config.focus == "auto" else 0)
    if isinstance(config.focus, int):
        capture.set(cv2.CAP_PROP_FOCUS, config.focus)


def read_back(capture: "cv2.VideoCapture") -> dict[str, Given]:
    """What the device gives; what it does not say is not in it."""
    return dict(_read(capture))


def size_of(capture: "cv2.VideoCapture") -> tuple[int, int]:
    """(width, height) in pixels of what it gives."""
    import cv2

    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def fourcc_of(capture: "cv2.VideoCapture") -> str:
    """How it packs its pixels: a FourCC."""
    import cv2

    return (int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace")


def _read(capture: "cv2.VideoCapture") -> Iterator[tuple[str, Given]]:
    import cv2

    yield from zip(("width", "height"), size_of(capture), strict=True)
    yield "format", fourcc_of(capture)
    fps = capture.get(cv2.CAP_PROP_FPS)
    if math.isfinite(fps) and fps > 0:
        yield "fps", round(fps, 3)
    exposure, automatic = capture.get(cv2.CAP_PROP_EXPOSURE), capture.get(cv2.CAP_PROP_AUTO_EXPOSURE)
    if automatic in (_AUTO, _APERTURE_PRIORITY):
        yield "exposure", "auto"
    elif exposure >= 0:  # -1: there is no such control
        yield "exposure", exposure / _UNITS_PER_MS
    gain = capture.get(cv2.CAP_PROP_GAIN)
    if gain >= 0:
        yield "gain", int(gain)
    focus, automatic = capture.get(cv2.CAP_PROP_FOCUS), capture.get(cv2.CAP_PROP_AUTOFOCUS)
    if automatic > 0:
        yield "focus", "auto"
    elif focus >= 0:
        yield "focus", int(focus)


def refusals(config: Config, given: Mapping[str, Given]) -> Refusals:
    """The settings that were asked for and are not given, with both; what is only rounded is given."""
    asked = {key: getattr(config, key) for key in ("width", "height", "fps", "format", "exposure", "gain", "focus")}
    return {
        key: (wish, given.get(key))
        for key, wish in asked.items()
        if wish is not None and not _agree(key, wish, given.get(key))
    }


def _agree(key: str, asked: Given, given: Given | None) -> bool:
    if isinstance(asked, str) or not isinstance(given, int | float):
        return asked == given
    tolerance = {"fps": 0.01 * asked, "exposure": 0.5 / _UNITS_PER_MS}.get(key, 0)
    return abs(asked - given) <= tolerance + 1e-9
