"""Cameras that OpenCV opens: V4L2 devices, network streams such as RTSP, and video files.

A video file comes as fast as it can be decoded; to play one at its own pace, or without a loss, use `replay`.
"""

from pathlib import Path

from edge_agent.cameras.opencv.device import DeviceCamera
from edge_agent.cameras.opencv.library import prepare
from edge_agent.cameras.opencv.settings import Config
from edge_agent.cameras.opencv.stream import StreamCamera
from edge_agent.core.ports import Camera
from edge_agent.errors import ConfigError


def create(config: Config) -> Camera:
    """Opens the camera.

    Raises:
        CameraLostError: it is not there, is busy, may not be opened, or does not answer.
        UnavailableError: OpenCV is not installed.
    """
    prepare()
    return DeviceCamera(config) if config.medium == "device" else StreamCamera(config)


def verify(config: Config) -> None:
    """Raises `ConfigError` where the source is a video file that is not there. Opens nothing."""
    if config.medium == "file" and not Path(config.path).is_file():
        raise ConfigError(f"there is no video file {config.path}")


__all__ = ["Config", "create", "verify"]
