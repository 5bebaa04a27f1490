"""Picamera2, made ready for a daemon: quiet, and with a sentence where it is not to be had."""

import logging
import os
from typing import Any

from edge_agent.errors import CameraLostError, UnavailableError

_LOGS = "*:ERROR"
"""libcamera writes to standard error by itself, and at INFO several lines for each opening."""


def load() -> Any:
    """The library.

    Raises:
        UnavailableError: it is not installed, is too old, or does not load.
    """
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", _LOGS)  # read once, when libcamera is loaded
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)  # what fails is raised too; we say it in our own words
    try:
        import picamera2
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"Picamera2 is not installed ({error}): apt install python3-picamera2, and let the virtual environment see "
            "it: python3 -m venv --system-site-packages, with the system's own Python"
        ) from error
    except (ImportError, ValueError, OSError) as error:  # ValueError: numpy's, of a module built for another numpy
        raise UnavailableError(
            f"Picamera2 does not load: {error}. If that is about numpy, Raspberry Pi OS 12 needs: pip install 'numpy<2'"
        ) from error
    if not hasattr(picamera2.Picamera2, "cancel_all_and_flush"):
        raise UnavailableError("Picamera2 is too old: apt update, then apt install python3-picamera2")
    return picamera2


def find(library: Any, wanted: int | str) -> tuple[int, str]:
    """The number of the camera that is meant, and its name for people.

    Raises:
        CameraLostError: it is not there, or the text fits several.
    """
    cameras = library.Picamera2.global_camera_info()
    names = [str(camera.get("Model", camera.get("Id", "?"))) for camera in cameras]
    if isinstance(wanted, str):
        found = [i for i, camera in enumerate(cameras) if wanted in (camera.get("Model"), camera.get("Id"))]
    else:
        found = [wanted] if wanted < len(cameras) else []
    if len(found) == 1:
        return found[0], f"camera {names[found[0]]}"
    there = ", ".join(f"{i} ({name})" for i, name in enumerate(names)) or "none at all"
    if found:
        raise CameraLostError(f"there are several cameras {wanted!r} (there is {there}): give the number, or the id")
    raise CameraLostError(f"there is no camera {wanted!r} (there is {there}): `rpicam-hello --list-cameras` shows them")


def open_number(library: Any, number: int) -> Any:
    """A `Picamera2`. One that cannot be opened leaves a pipe open in Picamera2 0.3: a daemon that tries on runs out."""
    camera = library.Picamera2.__new__(library.Picamera2)
    try:
        camera.__init__(number)
    except Exception:
        reading = getattr(camera, "notifymeread", None)
        if reading is not None and not reading.closed:  # `Picamera2.close` ends both together
            reading.close()
            os.close(camera.notifyme_w)
        raise
    return camera


def reason(error: BaseException) -> str:
    """The innermost cause in the library's words: its own errors say only that opening did not work."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__
