"""How each camera of a configuration is opened: what the board, the model and the view add to its own table."""

from collections.abc import Callable
from functools import partial
from typing import Any

from edge_agent import plugins
from edge_agent.config import CameraConfig
from edge_agent.core.heads import input_wh, picture_of
from edge_agent.core.ports import Camera
from edge_agent.hardware.profile import Choice
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.view import View, ViewedCamera

Size = tuple[int, int]


def camera_opener(
    camera: CameraConfig, choice: Choice, engine: Callable[[], Engine | None] = lambda: None
) -> Callable[[], Camera]:
    """Opens the camera, turned and cut as configured.

    What the configuration of a device leaves open is what the profile says, except for a camera that scales for
    nothing: it gives the size at which the model looks. `engine` is asked for it when the camera is opened.
    """
    view = View(camera.rotation, camera.roi)
    options: dict[str, Any] = {}
    if choice.profile and (_is_bare_device(camera) or getattr(camera, "wants_model_size", False)):
        wanted = choice.profile.capture
        fps = getattr(camera, "fps", None) or wanted.fps
        if getattr(camera, "wants_model_size", False):
            camera = camera.model_copy(update={"fps": fps})
            options["size_of"] = partial(_size_of, view, engine, (wanted.width, wanted.height))
        else:
            camera = camera.model_copy(update={"width": wanted.width, "height": wanted.height, "fps": fps})
    create = partial(plugins.load("cameras", camera.kind).create, camera, **options)
    return create if view.is_whole else lambda: ViewedCamera(create(), view)


def _is_bare_device(camera: CameraConfig) -> bool:
    return getattr(camera, "medium", None) == "device" and getattr(camera, "width", None) is None


def _size_of(view: View, engine: Callable[[], Engine | None], otherwise: Size, sensor_wh: Size) -> Size:
    """The size of the whole picture at which what is seen of it needs no resizing; without an engine, the profile's.

    Always in the sensor's proportions, so that lines and regions in fractions mean the same with and without a model.
    """
    opened = engine()
    picture = picture_of(opened.model.inputs) if opened else None
    box = input_wh(picture) if picture else None
    fill = opened is not None and opened.decoder.input_format.fit in ("stretch", "centre_crop")
    return view.size_to_give(sensor_wh, box or otherwise, fill=fill)
