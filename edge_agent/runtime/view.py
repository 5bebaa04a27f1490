"""What of a camera's picture is looked at, and which way up: turned by quarters and cut, whatever the camera."""

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import cv2

from edge_agent.core.datatypes import Frame, Image, Later
from edge_agent.core.pool import Pool, read_only
from edge_agent.core.ports import Camera
from edge_agent.errors import ConfigError

Rotation = Literal[0, 90, 180, 270]
"""Degrees, clockwise as a person sees it."""

Roi = tuple[tuple[float, float], tuple[float, float]]
"""The corners (x0, y0) and (x1, y1), in fractions of the picture after it was turned."""

_WHOLE: Roi = ((0.0, 0.0), (1.0, 1.0))
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class View:
    """Turns a picture, and takes its region of interest.

    The region is cut first, where it lies in the picture that the camera gave, so that only what is needed is turned.
    """

    rotation: Rotation = 0
    roi: Roi | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every picture stays as it is."""
        return self.rotation == 0 and self.roi in (None, _WHOLE)

    def of(self, picture: Image | Later, spare: Pool) -> Image | Later:
        """What is seen of a picture; a part of it that is not turned is a view of its memory, at no cost.

        What costs something is done when the image is first asked for, into memory of `spare`: a picture that nobody
        wants is not turned.

        Raises:
            ConfigError: the region holds no pixel of a picture of this size.
        """
        size = picture.size if isinstance(picture, Later) else (picture.shape[1], picture.shape[0])
        size_seen = self.size(size)
        if isinstance(picture, Later):
            return Later(lambda: self._see(picture.image, spare), size_seen)
        is_free = self.rotation == 0
        return self._see(picture, spare) if is_free else Later(lambda: self._see(picture, spare), size_seen)

    def size(self, given_wh: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels of what is seen of a picture of that size.

        Raises:
            ConfigError: the region holds no pixel of it.
        """
        left, top, right, bottom = self._region(self._turned(given_wh))
        return right - left, bottom - top

    def size_to_give(self, sensor_wh: tuple[int, int], box_wh: tuple[int, int], *, fill: bool) -> tuple[int, int]:
        """How large a camera's whole picture should be, so that what is seen of it just fits into a box.

        The proportions are the sensor's, and it is never enlarged. With `fill` what is seen covers the box instead.
        """
        (width, height), ((x0, y0), (x1, y1)) = self._turned(sensor_wh), self.roi or _WHOLE
        ratios = box_wh[0] / (width * (x1 - x0)), box_wh[1] / (height * (y1 - y0))
        ratio = min(1.0, max(ratios) if fill else min(ratios))
        return max(1, round(sensor_wh[0] * ratio)), max(1, round(sensor_wh[1] * ratio))

    def _turned(self, wh: tuple[int, int]) -> tuple[int, int]:
        return wh if self.rotation in (0, 180) else (wh[1], wh[0])

    def _region(self, turned_wh: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of the turned picture, the last two exclusive."""
        (x0, y0), (x1, y1) = self.roi or _WHOLE
        width, height = turned_wh
        left, top, right, bottom = round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)
        if left >= right or top >= bottom:
            raise ConfigError(f"roi {self.roi} holds no pixel of a picture of {width}x{height}: make it larger")
        return left, top, right, bottom

    def _see(self, image: Image, spare: Pool) -> Image:
        height, width = image.shape[:2]
        left, top, right, bottom = self._region(self._turned((width, height)))
        rows, columns = {
            0: (slice(top, bottom), slice(left, right)),
            90: (slice(height - right, height - left), slice(top, bottom)),
            180: (slice(height - bottom, height - top), slice(width - right, width - left)),
            270: (slice(left, right), slice(width - bottom, width - top)),
        }[self.rotation]
        seen = image[rows, columns]
        if self.rotation == 0:
            return seen
        turned = cv2.rotate(seen, _TURNS[self.rotation], dst=spare.take((bottom - top, right - left, *image.shape[2:])))
        return read_only(cast("Image", turned))


class ViewedCamera:
    """A camera that gives what a view shows of another's pictures. All else about it is the other's own."""

    def __init__(self, camera: Camera, view: View) -> None:
        self._camera, self._view = camera, view
        self._spare = Pool()

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`.

        Raises:
            ConfigError: the region of interest holds no pixel of the camera's picture.
        """
        frame = self._camera.read(timeout_s)
        return replace(frame, picture=self._view.of(frame.picture, self._spare))

    def close(self) -> None:
        """See `Camera.close`."""
        self._camera.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)
