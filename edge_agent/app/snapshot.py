"""One picture from a camera of a configuration, to a local file."""

import time
from contextlib import closing
from pathlib import Path

from edge_agent.app.agent import camera_opener, choose_profile, engine_request
from edge_agent.app.annotate import annotate as draw
from edge_agent.app.annotate import write_picture
from edge_agent.app.engine import open_engine
from edge_agent.config import AgentConfig, CameraConfig, LineTrigger
from edge_agent.core.datatypes import Detections, Image
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, EndOfStreamError, FrameTimeoutError

SETTLE_S = 1.0


def take(config: AgentConfig, camera: CameraConfig, out: Path, *, annotate: bool) -> tuple[int, int]:
    """Writes the picture and returns its width and height. Live cameras get a second to find their exposure.

    Raises:
        CameraLostError: the camera cannot be opened, or gives no frame.
        UsageError: the file cannot be written.
    """
    _, choice = choose_profile(config)
    source: Camera = camera_opener(camera, choice)()
    with closing(source):
        picture = _settled(source, camera)
    if annotate:
        engine = open_engine(engine_request(config, choice))
        with closing(engine.backend):
            detections, _ = engine.look(picture)
        line = camera.trigger.line if isinstance(camera.trigger, LineTrigger) else None
        picture = draw(picture, detections or Detections.empty(), engine.model.labels, line)
    write_picture(out, picture)
    return picture.shape[1], picture.shape[0]


def _settled(source: Camera, camera: CameraConfig) -> Image:
    """The first frame of a replay; of a live camera the first one after a second, of a short video its last."""
    until_s = time.monotonic() + (0.0 if camera.kind == "replay" else SETTLE_S)
    image: Image | None = None
    while True:
        try:
            image = source.read(camera.timeout_s).image
        except FrameTimeoutError:
            if time.monotonic() > until_s + camera.timeout_s:
                raise
            continue
        except EndOfStreamError as error:
            if image is None:
                raise CameraLostError(f"camera {camera.id} has no picture: {error}") from error
            return image
        if time.monotonic() >= until_s:
            return image
