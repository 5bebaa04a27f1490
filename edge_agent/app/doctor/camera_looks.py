"""One look at each camera: through the agent that has it, or by opening it for a moment where nobody does."""

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from edge_agent.app.cameras import camera_opener
from edge_agent.app.doctor.context import Context
from edge_agent.config import CameraConfig
from edge_agent.core.ports import Camera
from edge_agent.errors import BadFrameError, ConfigError, EdgeAgentError, EndOfStreamError
from edge_agent.hardware.profile import Choice

LOOK_S = 1.5
FIRST = 3
"""Pictures that do not count for the rate: a device is still finding its pace."""
LIMIT_S = 6.0


@dataclass
class CameraLook:
    """What was seen. `fps` is measured; None: not known. `trouble` is why there are no pictures."""

    by_agent: bool = False
    trouble: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    fps: float | None = None
    pictures: int = 0
    faults: tuple[str, ...] = ()


def look_at_cameras(context: Context) -> dict[str, CameraLook]:
    """By the cameras' ids. Cameras are opened side by side; one that hangs is left behind."""
    if context.is_up:
        return {camera.id: _through_agent(context, camera) for camera in context.config.cameras}
    choice, looks = context.choice, {camera.id: CameraLook() for camera in context.config.cameras}
    if isinstance(choice, ConfigError):
        return {name: CameraLook(trouble=str(choice)) for name in looks}
    looking = [
        (looks[camera.id], threading.Thread(target=_open, args=(camera, choice, looks[camera.id]), daemon=True))
        for camera in context.config.cameras
    ]
    for _, thread in looking:
        thread.start()
    until_s = time.monotonic() + LIMIT_S
    for look, thread in looking:
        thread.join(max(0.0, until_s - time.monotonic()))
        if thread.is_alive():
            look.trouble = f"its driver has not come back for {LIMIT_S:g} s"
    return looks


def _through_agent(context: Context, camera: CameraConfig) -> CameraLook:
    told = context.health.get("cameras")
    facts = told.get(camera.id) if isinstance(told, Mapping) else None
    if not isinstance(facts, Mapping):
        return CameraLook(by_agent=True)
    condition = str(facts.get("condition", "unknown"))
    return CameraLook(
        by_agent=True,
        trouble=None if condition in ("open", "finished") else f"the agent says that it is {condition}",
        fps=facts.get("fps"),
        pictures=int(facts.get("frames") or 0),
        faults=tuple(map(str, facts.get("faults") or ())),
    )


def _open(camera: CameraConfig, choice: Choice, look: CameraLook) -> None:
    """Fills in the look; never raises."""
    try:
        with closing(camera_opener(camera, choice)()) as source:
            _read(source, camera, look)
            look.given = dict(getattr(source, "given", {}))
            look.refused = dict(getattr(source, "refused", {}))
    except EdgeAgentError as error:
        look.trouble = str(error)
    except Exception as error:  # noqa: BLE001 - a driver may raise anything, and that is what is looked for
        look.trouble = f"its driver fails: {type(error).__name__}: {error}"


def _read(source: Camera, camera: CameraConfig, look: CameraLook) -> None:
    times_ns: list[int] = []
    complaint: BadFrameError | None = None
    until_s = time.monotonic() + LOOK_S
    while time.monotonic() < until_s or not look.pictures:
        try:
            frame = source.read(camera.timeout_s)
            frame.image  # noqa: B018 - decodes it
        except BadFrameError as error:
            complaint = error
            if time.monotonic() >= until_s + camera.timeout_s:
                raise
            continue
        except EndOfStreamError:
            if complaint and not look.pictures:
                raise complaint from None
            break
        look.pictures += 1
        times_ns.append(frame.captured_ns)
    counted = times_ns[FIRST:]
    if len(counted) > FIRST and counted[-1] > counted[0]:
        look.fps = 1e9 * (len(counted) - 1) / (counted[-1] - counted[0])
