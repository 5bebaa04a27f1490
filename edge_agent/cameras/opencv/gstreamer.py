"""GStreamer pipelines, where the local OpenCV has GStreamer."""

import ctypes
import re
from typing import TYPE_CHECKING

from edge_agent.core.datatypes import Image
from edge_agent.errors import CameraLostError, UnavailableError
from edge_agent.opencv_setup import opencv_version

if TYPE_CHECKING:
    import cv2

_OLDEST = (4, 7)
"""From then on OpenCV gives up a pipeline that is silent; before, it waits for ever (opencv/opencv#22919)."""

_SINK = {"drop": "true", "max-buffers": "1", "sync": "false"}
"""The newest picture, at once: neither a queue nor a clock holds it back."""

_FATAL_ERRORS = 1  # GST_PARSE_FLAG_FATAL_ERRORS: no pipeline at all, rather than what is left of it


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


def require() -> None:
    """Raises `UnavailableError` where the local OpenCV cannot read pipelines."""
    import cv2

    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):  # a list of backends names those that could be loaded
        raise UnavailableError(
            "the source is a GStreamer pipeline, and this OpenCV is built without GStreamer, as all from pip are: use "
            "the system's (JetPack 6 has it; Debian 13: apt install python3-opencv), in a virtual environment made with "
            "--system-site-packages and without opencv-python"
        )
    if opencv_version() < _OLDEST:
        raise UnavailableError(
            f"the source is a GStreamer pipeline, and this OpenCV {cv2.__version__} would wait for ever for one that "
            "falls silent: 4.7 or newer is needed (JetPack 6 and Debian 13 have it)"
        )


def complaint(pipeline: str) -> str | None:
    """What GStreamer has against the pipeline before anything is opened: an element that it does not have, for example.

    OpenCV starts what is left of such a pipeline, and waits for it for 40 s (seen with 4.10). None where all is well, or
    where GStreamer cannot be asked.

    Args:
        pipeline: without secrets, for the answer may hold any of it.
    """
    try:
        library = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        return None
    library.gst_parse_launch_full.restype = ctypes.c_void_p
    library.gst_init(None, None)
    error = ctypes.POINTER(_GError)()
    made = library.gst_parse_launch_full(pipeline.encode(), None, _FATAL_ERRORS, ctypes.byref(error))
    if made:
        library.gst_object_unref(ctypes.c_void_p(made))
    if not error:
        return None
    message: bytes = error.contents.message
    library.g_clear_error(ctypes.byref(error))
    return message.decode(errors="replace")


def open_pipeline(pipeline: str, label: str, open_ms: int, read_ms: int) -> "cv2.VideoCapture":
    """Starts the pipeline, of which `complaint` has nothing to say.

    Args:
        pipeline: as `gst-launch-1.0` takes it, secrets included.
        label: its name in messages.
        open_ms: it has to run within so many milliseconds.
        read_ms: and then give each picture within so many.

    Raises:
        CameraLostError: it does not start.
    """
    import cv2

    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    capture = cv2.VideoCapture(with_sink(pipeline), cv2.CAP_GSTREAMER, options)
    if not capture.isOpened():
        raise CameraLostError(
            f"{label} does not start: is the camera there, and is it free? "
            "`gst-launch-1.0 -v` with the same words, and fakesink for appsink, says what is wrong"
        )
    return capture


def with_sink(pipeline: str) -> str:
    """The pipeline with an end that gives BGR, and the newest picture only.

    What the pipeline says itself stands; an `appsink` that is not its last element is left alone.
    """
    parts = re.split(r"\s!\s", pipeline.strip())
    last = parts[-1].split()
    if "appsink" not in pipeline:
        return f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! appsink {_written(_SINK)}"
    if last[0] != "appsink":
        return pipeline
    missing = {name: value for name, value in _SINK.items() if not any(word.startswith(f"{name}=") for word in last)}
    return f"{pipeline.rstrip()} {_written(missing)}".rstrip()


def refuse_raw(image: Image, capture: "cv2.VideoCapture", label: str) -> None:
    """Raises `CameraLostError` for what is no picture yet: YUV planes and JPEG bytes would pass as a grey one."""
    import cv2

    wh = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    channels = image.shape[2] if image.ndim == 3 else 1  # noqa: PLR2004 - (H, W) or (H, W, C)
    if (image.shape[1], image.shape[0]) != wh or channels not in (1, 3, 4):
        raise CameraLostError(
            f"{label} gives no BGR pictures: end it with `videoconvert ! video/x-raw,format=BGR`, "
            "with jpegdec before that where it gives JPEG"
        )


def _written(properties: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in properties.items())
