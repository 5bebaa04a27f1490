"""The Raspberry Pi's own cameras (CSI ribbon cable), by Picamera2 and libcamera.

The names are those of the Picamera2 manual; what it leaves open was read in Picamera2's and libcamera's source.
"""

from collections.abc import Callable

from edge_agent.cameras.picamera2.device import Picamera2Camera
from edge_agent.cameras.picamera2.library import load
from edge_agent.cameras.picamera2.settings import Config
from edge_agent.core.ports import Camera


def create(
    config: Config, size_of: Callable[[tuple[int, int]], tuple[int, int]] | None = None, *, copies: bool = False
) -> Camera:
    """Opens the camera.

    `size_of` tells which (width, height) is wanted of a sensor that sees so many pixels, where `config` does not. With
    `copies` pictures are not the camera's own buffers, so that any number of them can be kept.

    Raises:
        CameraLostError: it is not there, or another program uses it.
        UnavailableError: Picamera2 is not installed, or does not load.
    """
    return Picamera2Camera(load(), config, size_of, copies=copies)


def verify(config: Config) -> None:  # noqa: ARG001 - as of every kind
    """Raises `UnavailableError` where Picamera2 is not installed, or does not load. Opens nothing."""
    load()


__all__ = ["Config", "create"]
