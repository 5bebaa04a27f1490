"""OpenCV, made ready for a daemon: quiet, and with the timeouts that can be set from outside alone."""

import os
from typing import cast

from edge_agent.core.datatypes import Image
from edge_agent.errors import UnavailableError

FIRST_PICTURE_S = 2.0
"""A device's first picture may take so long."""

_SETTINGS = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp",  # over UDP a lost packet smears the picture
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # AV_LOG_QUIET: what FFmpeg says names the URL, password included
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": f"{FIRST_PICTURE_S:.0f}",  # for a device's first picture; else 10
}
"""OpenCV takes these from the environment alone, when it first needs them. What an operator has set there stands."""


def prepare() -> None:
    """To be called before anything else of OpenCV.

    Raises:
        UnavailableError: OpenCV is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError as error:
        raise UnavailableError(
            "the camera needs OpenCV: pip install opencv-python-headless, or apt install python3-opencv"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes to stderr; we say it in our own words


def as_bgr(image: Image) -> Image:
    """Grey and alpha pictures as `(H, W, 3)` BGR; the array is made read-only."""
    import cv2

    channels = image.shape[2] if image.ndim == 3 else 1  # noqa: PLR2004 - (H, W) or (H, W, C)
    conversion = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}.get(channels)
    if conversion is not None:
        image = cast("Image", cv2.cvtColor(image, conversion))
    image.flags.writeable = False
    return image
