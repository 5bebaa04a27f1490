"""One picture from a camera of a configuration, to a local file."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from edge_agent.app.agent import choose_profile, engine_request
from edge_agent.app.annotate import annotate as draw
from edge_agent.app.annotate import write_picture
from edge_agent.app.baseline import write
from edge_agent.app.cameras import camera_opener
from edge_agent.app.engine import open_engine
from edge_agent.config import AgentConfig, CameraConfig, LineTrigger
from edge_agent.core.baseline import Baseline, sum_up
from edge_agent.core.datatypes import Detections, FloatArray, Frame, Image
from edge_agent.core.eyesight import Look, look_at, sampled
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, EndOfStreamError, FrameTimeoutError

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


def take_baseline(
    config: AgentConfig, camera: CameraConfig, out: Path, tell: Callable[[float], None], *, look_s: float = LOOK_S
) -> Baseline:
    """Looks at the camera for `look_s`, or to the end of a recording, and writes what it sees as its baseline.

    `tell` is called with the share that is done, 0 to 1.

    Raises:
        CameraLostError: the camera cannot be opened, gives too few pictures, or changes their size.
        UsageError: the file cannot be written.
    """
    _, choice = choose_profile(config)
    source: Camera = camera_opener(camera, choice)()
    with closing(source):
        _settled(source, camera)
        found = _watched(source, camera, tell, look_s)
    write(out, found)
    return found


def _watched(source: Camera, camera: CameraConfig, tell: Callable[[float], None], look_s: float) -> Baseline:
    began_s, looks, times = time.monotonic(), list[Look](), list[tuple[int, int]]()
    smooth: FloatArray | float = 0.0
    while len(looks) < MOST and ((past_s := time.monotonic() - began_s) < look_s or len(looks) < FEWEST):
        tell(min(1.0, past_s / look_s))
        frame = _next(source, camera)
        if frame is None:
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


def _next(source: Camera, camera: CameraConfig) -> Frame | None:
    """The next picture; None at the end of a recording."""
    until_s = time.monotonic() + camera.timeout_s
    while True:
        try:
            return source.read(camera.timeout_s)
        except FrameTimeoutError:
            if time.monotonic() > until_s:
                raise
        except EndOfStreamError:
            return None
