"""The frames that a benchmark shows: made beforehand, so that nothing of that is measured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from edge_agent.cameras import replay, simulator
from edge_agent.cameras.opencv.pixels import decoder
from edge_agent.cameras.simulator.line import Line
from edge_agent.core.datatypes import Array, Image, Later
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, UsageError

MOST = 24
"""Enough that no frame is still in the processor's caches when it comes round again."""

_FEWEST, _BYTES = 6, 128 << 20
_QUALITY = 90  # of a hundred: about what USB cameras have
_LOOK_AT_S = 4.0  # by then bottles stand all along the simulated belt


@dataclass(frozen=True, slots=True)
class Reel:
    """What a camera gives, again and again: arrays, and what makes a frame's picture of one."""

    arrays: Sequence[Array]
    picture_of: Callable[[Array], Image | Later] = field(default=lambda array: array)


def jpegs(frames: Sequence[Image]) -> Reel:
    """The frames as a camera with MJPG gives them: they are decoded on their road."""
    height, width = frames[0].shape[:2]
    picture_of = decoder("MJPG", (width, height))
    if picture_of is None:
        raise AssertionError("MJPG is a format of cameras")
    encoded = [cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].reshape(-1) for frame in frames]
    return Reel(encoded, picture_of)


def pictures(source: Path | None, size: tuple[int, int]) -> list[Image]:
    """Frames of (width, height): those of a folder or a video; a single picture, by default of the simulated line, is moved along.

    Raises:
        UsageError: the source cannot be read, or there is no simulated line of that size.
    """
    most = max(_FEWEST, min(MOST, _BYTES // (3 * size[0] * size[1])))
    found = _simulated(size) if source is None else _read(source, size, most)
    frames = found if len(found) > 1 else moved_along(found[0], most)
    for frame in frames:
        frame.flags.writeable = False
    return frames


def moved_along(picture: Image, steps: int) -> list[Image]:
    """The picture, each time further to the right; what leaves there comes in on the left."""
    width = picture.shape[1]
    return [np.ascontiguousarray(np.roll(picture, width * step // steps, axis=1)) for step in range(steps)]


def _simulated(size: tuple[int, int]) -> list[Image]:
    try:
        config = simulator.Config(width=size[0], height=size[1])
    except ValueError:
        raise UsageError(
            f"--size: there is no simulated line of {size[0]}x{size[1]}; name pictures of your own by --source"
        ) from None
    picture, _ = Line(config).look(_LOOK_AT_S)
    return [picture]


def _read(source: Path, size: tuple[int, int], most: int) -> list[Image]:
    config = replay.Config(source=source)
    try:
        replay.verify(config)
        with closing(replay.ReplayCamera(config)) as camera:
            return [np.asarray(cv2.resize(image, size), np.uint8) for image in islice(_images(camera), most)]
    except (ConfigError, CameraLostError) as error:
        raise UsageError(f"--source: {error}") from None


def _images(camera: replay.ReplayCamera) -> Iterator[Image]:
    try:
        while True:
            yield camera.read(timeout_s=10.0).image
    except EndOfStreamError:
        return
