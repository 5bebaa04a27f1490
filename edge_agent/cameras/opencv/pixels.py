"""From what a camera gives to a picture; from the bytes of a V4L2 buffer only when somebody asks for the pixels.

OpenCV would do it for every frame as it comes, also for those that nobody looks at. Some of its versions take NV12 for
RGB (4.9), and make a black picture of a JPEG that is broken.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.datatypes import Image, Later
from edge_agent.core.pool import Pool, read_only
from edge_agent.errors import BadFrameError

Bytes = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height in pixels."""

JPEG_FORMATS = frozenset({"MJPG", "JPEG"})

_LAYOUTS: dict[str, tuple[tuple[int, ...], int, str | None]] = {
    "YUYV": ((2,), 2, "COLOR_YUV2BGR_YUYV"),
    "UYVY": ((2,), 2, "COLOR_YUV2BGR_UYVY"),
    "NV12": ((), 3, "COLOR_YUV2BGR_NV12"),
    "NV21": ((), 3, "COLOR_YUV2BGR_NV21"),
    "YU12": ((), 3, "COLOR_YUV2BGR_IYUV"),
    "YV12": ((), 3, "COLOR_YUV2BGR_YV12"),
    "GREY": ((), 2, "COLOR_GRAY2BGR"),
    "BGR3": ((3,), 2, None),
    "RGB3": ((3,), 2, "COLOR_RGB2BGR"),
}
"""Of each FourCC its channels, its rows per two rows of the picture, and OpenCV's conversion.

Layouts: https://docs.kernel.org/userspace-api/media/v4l/pixfmt.html
"""

_START, _SCAN, _END = b"\xff\xd8", 0xDA, b"\xff\xd9"
_FILL = 0xFF  # any number of these may stand before a marker (T.81, B.1.1.2)
_NO_FRAME_HEADERS = frozenset({0xC4, 0xC8, 0xCC})  # Huffman tables, reserved, arithmetic conditioning
_AT_ONCE = 4096  # bytes behind a JPEG's end are few, where there are any


def decoder(format_: str, size: Size, *, halves: bool = False) -> Callable[[Bytes], Later] | None:
    """What makes a `(H, W, 3) uint8` BGR picture of a buffer's bytes; None: OpenCV has to do it itself.

    With `halves` a JPEG may be decoded at half its size, where that is asked for.
    """
    if format_ in JPEG_FORMATS:
        return partial(_jpeg, size=size, halves=halves)
    return partial(_raw, size=size, layout=_LAYOUTS[format_], spare=Pool()) if format_ in _LAYOUTS else None


def _raw(data: Bytes, *, size: Size, layout: tuple[tuple[int, ...], int, str | None], spare: Pool) -> Later:
    return Later(partial(_decode_raw, data, size=size, layout=layout, spare=spare), size)


def _decode_raw(data: Bytes, *, size: Size, layout: tuple[tuple[int, ...], int, str | None], spare: Pool) -> Image:
    import cv2

    channels, half_rows, conversion = layout
    width, height = size
    shape = (height * half_rows // 2, width, *channels)
    needed = int(np.prod(shape))
    if data.size < needed:
        raise BadFrameError(f"the camera gave {data.size} of the {needed} bytes of a picture")
    pixels = cast("Image", data.reshape(-1)[:needed].reshape(shape))
    if conversion is None:
        return read_only(pixels)
    return read_only(cast("Image", cv2.cvtColor(pixels, getattr(cv2, conversion), dst=spare.take((height, width, 3)))))


def _jpeg(data: Bytes, *, size: Size, halves: bool) -> Later:
    return Later(partial(decode_jpeg, data, size=size), size, partial(halve_jpeg, data, size=size) if halves else None)


def decode_jpeg(data: Bytes, *, size: Size) -> Image:
    """The picture, `(H, W, 3) uint8` BGR, read-only. Bytes behind its end do not matter.

    Of one that breaks off OpenCV would make a picture that is grey below: nobody could see a defect there.

    Raises:
        BadFrameError: it is empty, broken, cut off, or not of the size that was agreed upon.
    """
    import cv2

    return _decode_jpeg(data, size, cv2.IMREAD_COLOR)


def halve_jpeg(data: Bytes, *, size: Size) -> Image:
    """`decode_jpeg`, but the sides are half as long, rounded up: fewer of its waves are added up (DCT scaling)."""
    import cv2

    return _decode_jpeg(data, size, cv2.IMREAD_REDUCED_COLOR_2)


def _decode_jpeg(data: Bytes, size: Size, how: int) -> Image:
    import cv2

    jpeg = data.reshape(-1).data
    told, scan_at = _headers(jpeg)
    if told is None:
        raise BadFrameError(f"the camera gave {len(jpeg)} bytes that are no JPEG")
    if told != size:  # also: memory for 65535x65535 pixels, because a bit fell over
        raise BadFrameError(f"the camera gave a JPEG of {told[0]}x{told[1]} where {size[0]}x{size[1]} is agreed")
    if scan_at is None or not _ends(jpeg, scan_at):
        raise BadFrameError(f"the camera gave a JPEG that breaks off after {len(jpeg)} bytes")
    try:
        image = cv2.imdecode(data, how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFrameError(f"the camera gave a JPEG that OpenCV cannot read: {error.err}") from error
    if image is None:
        raise BadFrameError("the camera gave a JPEG that OpenCV cannot read")
    return read_only(cast("Image", image))


def jpeg_size(jpeg: bytes | memoryview) -> Size | None:
    """Width and height from the frame header (ITU-T T.81, B.2.2); None: these bytes are no JPEG."""
    return _headers(jpeg)[0]


def _headers(jpeg: bytes | memoryview) -> tuple[Size | None, int | None]:
    """Width and height, and where the first scan begins; None for what does not come."""
    at, size = len(_START), None
    if bytes(jpeg[:at]) != _START:
        return None, None
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:  # noqa: PLR2004 - what every marker begins with
        marker, length = struct.unpack_from(">xBH", jpeg, at)
        if marker == _FILL:
            at += 1
            continue
        if marker == _SCAN:
            return size, at
        if marker in range(0xC0, 0xD0) and marker not in _NO_FRAME_HEADERS and at + 9 <= len(jpeg):
            height, width = struct.unpack_from(">HH", jpeg, at + 5)
            size = (width, height)
        at += 2 + length
    return size, None


def _ends(jpeg: bytes | memoryview, scan_at: int) -> bool:
    """Whether the end marker comes, sought from behind: inside a scan a byte FF is followed by 00 (T.81, B.1.1.5)."""
    end = len(jpeg)
    while end > scan_at:
        start = max(scan_at, end - _AT_ONCE)
        if _END in bytes(jpeg[start : end + 1]):
            return True
        end = start
    return False


def as_bgr(image: Image, spare: Pool) -> Image:
    """Grey and alpha pictures as `(H, W, 3)` BGR; what is given is a read-only view."""
    import cv2

    channels = image.shape[2] if image.ndim == 3 else 1  # noqa: PLR2004 - (H, W) or (H, W, C)
    conversion = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}.get(channels)
    if conversion is not None:
        # what it returns: one of 16 bits does not fit, and what lies in the spare memory is an older picture
        image = cast("Image", cv2.cvtColor(image, conversion, dst=spare.take((*image.shape[:2], 3))))
    return read_only(image)
