"""Cameras and input lines: are they there, may the agent have them, and do they give what is asked?"""

import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent import plugins
from edge_agent.app.doctor.camera_looks import CameraLook, look_at_cameras
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.who import READ, WRITE, group_of
from edge_agent.config import CameraConfig
from edge_agent.errors import ConfigError, UnavailableError

SLOW = 0.9
"""A rate below so much of the one that was asked for is too low: drivers round, and a second is short."""
MANY_PIXELS = 640 * 480
COMPRESSED = ("MJPG", "JPEG")
REPLAYS = ("replay", "simulator")


def device_of(camera: CameraConfig) -> Path | None:
    """The file of a V4L2 device; None for other cameras."""
    return Path(str(getattr(camera, "path", ""))) if getattr(camera, "medium", None) == "device" else None


def look_at_presence(context: Context) -> Iterator[Finding]:
    """Whether the file of each device or recording is there."""
    for camera in context.config.cameras:
        device = device_of(camera)
        source = device or getattr(camera, "source", None)
        if not isinstance(source, Path):
            yield skip(f"a {camera.kind} camera has no file here; camera-opens looks at it", camera.id)
        elif os.path.exists(source):  # noqa: PTH110 - Path.exists raises where a parent folder may not be entered
            yield ok(f"{source} is there", camera.id)
        elif device:
            where = context.camera_place(camera, "source")
            evidence = f"there is no {source}, which {where} names; there is {_devices()}"
            yield fail(evidence, "plug the camera in: `ls /dev/v4l/by-id/` has to show it", camera.id)
        else:
            where = context.camera_place(camera, "source")
            yield fail(f"there is no {source}", f"mend `source` at {where}", camera.id)


def _devices() -> str:
    found = sorted((*Path("/dev/v4l/by-id").glob("*"), *Path("/dev").glob("video*")))
    return ", ".join(map(str, found[:4])) or "no camera at all"


def look_at_access(context: Context) -> Iterator[Finding]:
    """Whether the agent's user may use each device: whoever calls the doctor may be somebody else."""
    user = context.agent
    for camera in context.config.cameras:
        device = device_of(camera)
        if device is None:
            yield skip(f"a {camera.kind} camera has no device file", camera.id)
        elif not os.path.exists(device):  # noqa: PTH110 - as above
            yield skip("see camera-present", camera.id)
        elif user.may(device, READ | WRITE):
            yield ok(f"{user.name} may use {device}", camera.id)
        else:
            yield fail(f"{user.name}, the agent's user, may not use {device}", _join(context, device), camera.id)


def _join(context: Context, device: Path) -> str:
    joins = f"sudo usermod -aG {group_of(device)} {context.agent.name}"
    return f"{joins} && {context.restart}" if context.is_service else f"{joins}, and log in again"


def look_at_opening(context: Context) -> Iterator[Finding]:
    """Whether each camera gives pictures."""
    for camera, look in _looks(context):
        device = device_of(camera)
        if look.trouble is None and look.by_agent and not look.pictures:
            yield skip(f"the agent has it, and does not tell you: {context.silent}", camera.id)
        elif look.trouble is None:
            whose = "the agent gets pictures" if look.by_agent else f"{look.pictures} pictures came"
            yield ok(whose, camera.id)
        elif _is_missing(camera):
            yield skip("see camera-present", camera.id)
        elif device and not context.agent.is_me and context.agent.may(device, READ | WRITE) and not _mine(device):
            yield skip(f"you may not use {device}, but the agent may: try `sudo edge-agent doctor`", camera.id)
        else:
            yield fail(look.trouble, _open_fix(context, camera, look), camera.id)


def _is_missing(camera: CameraConfig) -> bool:
    source = device_of(camera) or getattr(camera, "source", None)
    return isinstance(source, Path) and not os.path.exists(source)  # noqa: PTH110 - as above


def _mine(device: Path) -> bool:
    return os.access(device, os.R_OK | os.W_OK, effective_ids=True)


def _open_fix(context: Context, camera: CameraConfig, look: CameraLook) -> str:
    device = device_of(camera)
    if look.by_agent:
        return "edge-agent explain camera_lost"
    if device and not context.agent.may(device, READ | WRITE):
        return _join(context, device)
    if device:
        return f"end the program that has it: sudo fuser -v {device} names it"
    if camera.kind == "picamera2":
        return _picamera2_fix(look.trouble or "")
    where = context.camera_place(camera, "source")
    if camera.kind == "replay":
        return f"put pictures or a video there, or mend `source` at {where}"
    return f"switch the camera on; its address is at {where}"


def _picamera2_fix(trouble: str) -> str:
    if "not installed" in trouble:
        return "sudo apt install python3-picamera2; docs/operations.md says which virtual environment sees it"
    return "check the ribbon cable with the power off; `rpicam-hello --list-cameras` has to show the camera"


def look_at_format(context: Context) -> Iterator[Finding]:
    """Settings that the device does not do as asked."""
    for camera, look in _looks(context):
        if look.by_agent or look.trouble:
            yield skip("seen only while the agent is stopped" if look.by_agent else "see camera-opens", camera.id)
        elif not look.given:
            yield skip(f"a {camera.kind} camera does not say what it gives", camera.id)
        elif not look.refused:
            told = ", ".join(f"{key} {value}" for key, value in look.given.items())
            yield ok(told, camera.id)
        else:
            yield from (_refused(context, camera, key, *values) for key, values in look.refused.items())


def _refused(context: Context, camera: CameraConfig, key: str, asked: object, given: object) -> Finding:
    where = context.camera_place(camera, key)
    if given is None:
        return warn(f"it has no {key}", f"remove `{key}` at {where}", camera.id)
    value = f'"{given}"' if isinstance(given, str) else given
    fix = f"set `{key} = {value}` at {where}"
    return warn(f"{key}: {asked} was asked for, and {given} is given", fix, camera.id)


def look_at_rate(context: Context) -> Iterator[Finding]:
    """The rate that is reached against the one that is asked for."""
    for camera, look in _looks(context):
        wanted = _wanted_fps(context, camera)
        if camera.kind in REPLAYS or wanted is None:
            yield skip("no rate is asked of it", camera.id)
        elif look.fps is None:
            yield skip("its rate is not known; see camera-opens", camera.id)
        elif look.fps < SLOW * wanted:
            told = f"{look.fps:.1f} pictures/s come, and {wanted:g} are asked for"
            yield warn(told, _rate_fix(context, camera, look), camera.id)
        else:
            yield ok(f"{look.fps:.1f} pictures/s", camera.id)


def _wanted_fps(context: Context, camera: CameraConfig) -> float | None:
    fps = getattr(camera, "fps", None)
    if fps or device_of(camera) is None:
        return fps or None
    choice = context.choice
    return choice.profile.capture.fps if not isinstance(choice, ConfigError) and choice.profile else None


def _rate_fix(context: Context, camera: CameraConfig, look: CameraLook) -> str:
    device, given = device_of(camera), look.given
    is_large = int(given.get("width", 0)) * int(given.get("height", 0)) > MANY_PIXELS
    if "fps" in look.refused:
        return f"set `fps = {look.refused['fps'][1]}` at {context.camera_place(camera, 'fps')}, which is what it can do"
    if device and given and given.get("format") not in COMPRESSED and is_large:
        return f'set `format = "MJPG"` at {context.camera_place(camera, "format")}: USB is too slow for {given.get("format")}'
    if device:
        return f"v4l2-ctl -d {device} -c exposure_dynamic_framerate=0, which keeps the rate in the dark"
    return f"set `fps` at {context.camera_place(camera, 'fps')} to what it gives"


def look_at_pictures(context: Context) -> Iterator[Finding]:
    """Faults that the running agent sees in the pictures."""
    for camera, look in _looks(context):
        if not look.by_agent or not context.health:
            yield skip("only the running agent looks at that", camera.id)
        elif look.faults:
            yield fail(f"the picture is {', '.join(look.faults)}", "edge-agent explain camera_unhealthy", camera.id)
        else:
            yield ok("the agent finds no fault", camera.id)


def look_at_inputs(context: Context) -> Iterator[Finding]:
    """The library and the chips of `gpio` triggers."""
    user = context.agent
    triggers = [(camera, camera.trigger) for camera in context.config.cameras]
    inputs = [(camera, Path(trigger.chip)) for camera, trigger in triggers if hasattr(trigger, "chip")]
    for camera, chip in inputs:
        if missing := _missing_library(context, camera):
            yield missing
        if not os.path.exists(chip):  # noqa: PTH110 - as above
            found = ", ".join(sorted(map(str, Path("/dev").glob("gpiochip*")))) or "none at all"
            where = context.place("cameras", context.config.cameras.index(camera), "trigger", "chip")
            yield fail(
                f"there is no {chip}; there is {found}", f"mend `chip` at {where}; `gpiodetect` lists them", camera.id
            )
        elif not user.may(chip, READ | WRITE):
            yield fail(f"{user.name}, the agent's user, may not use {chip}", _join(context, chip), camera.id)
        elif f"trigger_lost:{camera.id}" in context.reasons:
            yield fail("the agent has lost the input line", "edge-agent explain trigger_lost", camera.id)
        else:
            yield ok(f"{chip} may be used by {user.name}", camera.id)
    if not inputs:
        yield skip("no camera is triggered by an input line")


def _missing_library(context: Context, camera: CameraConfig) -> Finding | None:
    """What to install for a camera's input line; None where it is there, or an agent runs, which would not without."""
    if context.is_up:
        return None
    try:
        plugins.load("sensors", camera.trigger.kind).verify(camera.trigger)
    except UnavailableError as error:
        what, _, how = str(error).partition(": ")
        return fail(what, f"{'sudo ' * context.is_service}{context.python} -m {how}", camera.id)
    return None


def _looks(context: Context) -> Iterator[tuple[CameraConfig, CameraLook]]:
    """Every camera with its look; taken once."""
    looks = context.once(look_at_cameras)
    for camera in context.config.cameras:
        yield camera, looks[camera.id]


CHECKS = (
    Check("camera-present", "cameras", "a device or recording that is not there", look_at_presence, "configuration"),
    Check("camera-access", "cameras", "a device that the agent's user may not use", look_at_access, "configuration"),
    Check("camera-opens", "cameras", "a camera that gives no pictures", look_at_opening, "configuration"),
    Check("camera-settings", "cameras", "a format, size or setting it does not have", look_at_format, "configuration"),
    Check("camera-rate", "cameras", "fewer pictures a second than asked for", look_at_rate, "configuration"),
    Check("camera-picture", "cameras", "what the agent sees wrong with pictures", look_at_pictures, "configuration"),
    Check(
        "trigger-input", "cameras", "a `gpio` trigger without its library or its chip", look_at_inputs, "configuration"
    ),
)
