"""OpenCV, made ready for a daemon: quiet, and with the timeouts that can be set from outside alone."""

import os

from edge_agent.errors import UnavailableError

FIRST_PICTURE_S = 2.0
"""A device's first picture may take so long."""

_SETTINGS = {
    # TCP, for over UDP a lost packet smears the picture; and no pictures spent on guessing how often they come, which
    # costs 0.8 s at the opening.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp|fpsprobesize;0",
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
            "OpenCV is not installed, and cameras need it: pip install opencv-python-headless, or apt install python3-opencv"
        ) from error
    # It writes to stderr; we say it in our own words. OpenCV 5 has moved the function, 0 is LOG_LEVEL_SILENT in both.
    set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_log_level(0)


def opencv_version() -> tuple[int, int]:
    """The first two numbers of the version that is installed: (4, 10)."""
    import cv2

    major, minor = cv2.__version__.split(".")[:2]
    return int(major), int(minor)
