"""How each camera of a configuration is opened: what the board, the model and the view add to its own table."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from edge_agent import plugins
from edge_agent.app.road import Road
from edge_agent.clock import SYSTEM, Clock
from edge_agent.config import CameraConfig, ExternalTrigger
from edge_agent.core.heads import input_wh, picture_of
from edge_agent.core.ports import Camera
from edge_agent.hardware.profile import Choice
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.view import View, ViewedCamera

Size = tuple[int, int]


def make_capture(camera: CameraConfig, road: Road, clock: Clock = SYSTEM) -> Capture:
    """The camera's capture into its mailbox. With another clock than the system's its driver must be able to take it."""
    options = {} if clock is SYSTEM else {"clock": clock}
    open_ = camera_opener(camera, road.choice, lambda: road.pipeline.engine, **options)
    seed = f"{road.scribe.identity.session} {camera.id}"
    return Capture(camera.id, open_, road.mailboxes[camera.id], timeout_s=camera.timeout_s, clock=clock, seed=seed)


def takes_clock(camera: CameraConfig) -> bool:
    """Whether its driver can be given a clock: one that makes its pictures itself can, one with a device cannot."""
    return "clock" in signature(plugins.load("cameras", camera.kind).create).parameters


def camera_opener(
    camera: CameraConfig, choice: Choice, engine: Callable[[], Engine | None] = lambda: None, **options: Any
) -> Callable[[], Camera]:
    """Opens the camera, turned and cut as configured.

    What the configuration of a device leaves open is what the profile says, except for a camera that scales for
    nothing: it gives the size at which the model looks. `engine` is asked for it when the camera is opened. `options`
    are the driver's own.
    """
    view = View(camera.rotation, camera.roi)
    if choice.profile and (_is_bare_device(camera) or getattr(camera, "wants_model_size", False)):
        wanted = choice.profile.capture
        fps = getattr(camera, "fps", None) or wanted.fps
        if getattr(camera, "wants_model_size", False):
            camera = camera.model_copy(update={"fps": fps})
            options["size_of"] = partial(_size_of, view, engine, (wanted.width, wanted.height))
        else:
            camera = camera.model_copy(update={"width": wanted.width, "height": wanted.height, "fps": fps})
    driver = plugins.load("cameras", camera.kind)
    if isinstance(camera.trigger, ExternalTrigger) and "copies" in signature(driver.create).parameters:
        options["copies"] = True  # the ring would keep the camera's buffers
    runs_on = hasattr(driver, "opener")  # what it shows goes on while it is closed
    open_ = driver.opener(camera, **options) if runs_on else partial(driver.create, camera, **options)
    return open_ if view.is_whole else lambda: ViewedCamera(open_(), view)


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
