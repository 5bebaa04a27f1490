"""Cameras that OpenCV opens: V4L2 devices, network streams such as RTSP, GStreamer pipelines, and video files.

A video file comes as fast as it can be decoded; to play one at its own pace, or without a loss, use `replay`.

Where a change goes: the table of the configuration is in `settings`, how sources are read and secrets put into them in
`address`. A device is opened and read in `device`, with `controls` (what is asked of it), `clock` (its time stamps) and
`pixels` (its formats); a stream, pipeline or file in `stream`, with `freshness` (is it new?), `rtsp` (why does it not
open?) and `gstreamer`.
"""

from pathlib import Path

from edge_agent.cameras.opencv import gstreamer
from edge_agent.cameras.opencv.device import DeviceCamera
from edge_agent.cameras.opencv.settings import Config
from edge_agent.cameras.opencv.stream import StreamCamera, password_of
from edge_agent.core.ports import Camera
from edge_agent.errors import ConfigError
from edge_agent.opencv_setup import prepare


def create(config: Config) -> Camera:
    """Opens the camera.

    Raises:
        CameraLostError: it is not there, is busy, may not be opened, or does not answer.
        UnavailableError: OpenCV is not installed, or cannot read GStreamer pipelines and the source is one.
    """
    prepare()
    return DeviceCamera(config) if config.medium == "device" else StreamCamera(config)


def verify(config: Config) -> None:
    """Looks at all that can be known without opening the camera.

    Raises:
        ConfigError: the video file is not there, the password cannot be used, or OpenCV reads no GStreamer pipelines.
    """
    if config.medium == "file" and not Path(config.path).is_file():
        raise ConfigError(f"there is no video file {config.path}")
    verify_secrets(config)
    if config.medium == "pipeline":
        prepare()
        gstreamer.require()


def verify_secrets(config: Config) -> None:
    """Raises `ConfigError` where the password cannot be used: its file is missing, empty, or open to others."""
    password_of(config)


__all__ = ["Config", "create", "verify", "verify_secrets"]
