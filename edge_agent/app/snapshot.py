"""One picture from a camera of a configuration, to a local file."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_agent.app.annotate import annotate as draw
from edge_agent.app.annotate import write_picture
from edge_agent.app.baseline import write
from edge_agent.app.cameras import camera_opener
from edge_agent.app.engine import open_engine
from edge_agent.app.road import choose_profile, engine_request
from edge_agent.config import AgentConfig, CameraConfig, LineTrigger
from edge_agent.core.baseline import Baseline, sum_up
from edge_agent.core.datatypes import Detections, FloatArray, Frame, Image
from edge_agent.core.eyesight import Look, look_at, sampled
from edge_agent.core.ports import Camera
from edge_agent.errors import BadFrameError, CameraLostError, EndOfStreamError, FrameTimeoutError

SETTLE_S = 1.0
LOOK_S = 5.0
FEWEST, MOST = 5, 300
"""Pictures that make a baseline."""


def take(config: AgentConfig, camera: CameraConfig, out: Path, *, annotate: bool) -> tuple[int, int]:
    """Writes the picture and returns its width and height. Live cameras get a second to find their exposure.

    Raises:
        CameraLostError: the camera cannot be opened, or gives no frame.
        UsageError: the file cannot be written.
    """
    _, choice = choose_profile(config)
    source: Camera = camera_opener(camera, choice)()
    with closing(source):
        picture = _settled(Pictures(source, camera.timeout_s), camera)
    if annotate:
        engine = open_engine(engine_request(config, choice), or_stand_in=True)
        with closing(engine.backend):
            detections, _ = engine.look(picture)
        trigger = camera.trigger
        where = (trigger.line, trigger.direction) if isinstance(trigger, LineTrigger) else ()
        picture = draw(picture, detections or Detections.empty(), engine.model.labels, *where)
    write_picture(out, picture)
    return picture.shape[1], picture.shape[0]


class Pictures:
    """A camera's pictures one after the other; what is none is passed over, and counted."""

    def __init__(self, source: Camera, timeout_s: float) -> None:
        self._source, self._timeout_s = source, timeout_s
        self.skipped = 0
        self.complaint: BadFrameError | None = None

    def next(self) -> Frame:
        """Raises what the camera does; late and broken pictures only when no good one came in time."""
        until_s = time.monotonic() + self._timeout_s
        while True:
            try:
                frame = self._source.read(self._timeout_s)
                return replace(frame, picture=frame.image)
            except BadFrameError as error:
                self.skipped, self.complaint = self.skipped + 1, error
                if time.monotonic() > until_s:
                    raise
            except FrameTimeoutError:
                if time.monotonic() > until_s:
                    raise


def _settled(pictures: Pictures, camera: CameraConfig) -> Image:
    """The first frame of a replay; of a live camera the first one after a second, of a short video its last."""
    until_s = time.monotonic() + (0.0 if camera.kind == "replay" else SETTLE_S)
    image: Image | None = None
    while image is None or time.monotonic() < until_s:
        try:
            image = pictures.next().image
        except EndOfStreamError as error:
            if image is None:
                raise CameraLostError(f"camera {camera.id} has no picture: {pictures.complaint or error}") from error
            break
    return image


def take_baseline(
    config: AgentConfig, camera: CameraConfig, out: Path, tell: Callable[[float], None], *, look_s: float = LOOK_S
) -> tuple[Baseline, int]:
    """Looks at the camera for `look_s`, or to the end of a recording, and writes what it sees as its baseline.

    Also returns how many frames were passed over, because they are no pictures. `tell` is called with the share that is done, 0 to 1.

    Raises:
        CameraLostError: the camera cannot be opened, gives too few pictures, or changes their size.
        UsageError: the file cannot be written.
    """
    _, choice = choose_profile(config)
    source: Camera = camera_opener(camera, choice)()
    with closing(source):
        pictures = Pictures(source, camera.timeout_s)
        _settled(pictures, camera)
        found = _watched(pictures, camera, tell, look_s)
    write(out, found)
    return found, pictures.skipped


def _watched(pictures: Pictures, camera: CameraConfig, tell: Callable[[float], None], look_s: float) -> Baseline:
    began_s, looks, times = time.monotonic(), list[Look](), list[tuple[int, int]]()
    smooth: FloatArray | float = 0.0
    while len(looks) < MOST and ((past_s := time.monotonic() - began_s) < look_s or len(looks) < FEWEST):
        tell(min(1.0, past_s / look_s))
        try:
            frame = pictures.next()
        except EndOfStreamError:
            break
        look = look_at(frame.image)
        if looks and look.size != looks[0].size:
            raise CameraLostError(f"camera {camera.id} changed the size of its pictures meanwhile; try again")
        smooth = smooth + sampled(frame.image, len(looks)).astype(np.float32)
        looks.append(look)
        times.append((frame.seq, frame.captured_ns))
    if len(looks) < FEWEST:
        raise CameraLostError(f"camera {camera.id} gave {len(looks)} pictures; a baseline needs {FEWEST} or more")
    (first, began_ns), (last, ended_ns) = times[0], times[-1]
    fps = 1e9 * (last - first) / (ended_ns - began_ns) if ended_ns > began_ns else None
    return sum_up(camera.id, looks, smooth / np.float32(len(looks)), fps)
