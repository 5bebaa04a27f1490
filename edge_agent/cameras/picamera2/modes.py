"""How the sensor is read out, and what is asked of it. Nothing here touches a device."""

from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.cameras.picamera2.settings import Config

Given = str | int | float
_WHOLE = 0.99
"""A mode that sees so much of the sensor's area sees all of it."""

_US_PER_S, _US_PER_MS = 1_000_000, 1000
_AF_MANUAL, _AF_CONTINUOUS = 0, 2  # libcamera's AfModeEnum


def whole_modes(modes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of `Picamera2.sensor_modes` that see all that the sensor sees, the smallest first.

    Others are cut out of its middle: a picture that is nearer than it should be. Empty where the camera has no modes
    of its own, as USB cameras have none.
    """
    known = [mode for mode in modes if "crop_limits" in mode]
    most = max((_area(mode["crop_limits"]) for mode in known), default=0)
    whole = [mode for mode in known if _area(mode["crop_limits"]) >= _WHOLE * most]
    return sorted(whole, key=lambda mode: (_area(mode["size"]), -mode["bit_depth"]))


def choose_mode(whole: Sequence[Mapping[str, Any]], size: tuple[int, int], fps: float) -> Mapping[str, Any]:
    """The smallest that is fast enough and has at least the pixels wanted; speed goes before pixels."""
    fast = [mode for mode in whole if mode["fps"] >= fps] or [max(whole, key=lambda mode: mode["fps"])]
    large = [mode for mode in fast if mode["size"][0] >= size[0] and mode["size"][1] >= size[1]]
    return large[0] if large else fast[-1]


def proportions(mode: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of what the mode sees, in pixels of the sensor."""
    width, height = mode["crop_limits"][-2:]
    return width, height


def controls(config: Config, fps: float, known: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of the camera, of those controls that it knows.

    Picamera2 sets the modes that newer libcameras want beside an exposure or a gain.
    """
    duration_us = round(_US_PER_S / fps)
    wanted: dict[str, Any] = {"FrameDurationLimits": (duration_us, duration_us)}
    if config.exposure != "auto":
        wanted["ExposureTime"] = round(config.exposure * _US_PER_MS)
    if config.gain != "auto":
        wanted["AnalogueGain"] = float(config.gain)
    wanted["AfMode"] = _AF_CONTINUOUS if config.focus == "auto" else _AF_MANUAL
    if config.focus != "auto":
        wanted["LensPosition"] = float(config.focus)
    return {name: value for name, value in wanted.items() if name in known}


def given(config: Config, size: tuple[int, int], fps: float, known: Mapping[str, Any]) -> dict[str, Given]:
    """What the camera really does, by the configuration's keys and in its units; what it cannot set is not in it.

    `known` is `Picamera2.camera_controls` once it is configured: for each control the least, the most, the default.
    """
    frame_us = _nearest(_US_PER_S / fps, known["FrameDurationLimits"])
    does: dict[str, Given] = {"width": size[0], "height": size[1], "fps": round(_US_PER_S / frame_us, 3)}
    wishes: dict[str, tuple[str, float | str]] = {
        "exposure": ("ExposureTime", config.exposure),
        "gain": ("AnalogueGain", config.gain),
        "focus": ("LensPosition", config.focus),
    }
    for key, (control, wish) in wishes.items():
        if control not in known:
            continue
        if isinstance(wish, str):
            does[key] = wish
        elif key == "exposure":  # no longer than a frame takes
            does[key] = round(_nearest(min(wish * _US_PER_MS, frame_us), known[control]) / _US_PER_MS, 3)
        else:
            does[key] = round(_nearest(wish, known[control]), 3)
    return does


def refused(config: Config, does: Mapping[str, Given]) -> dict[str, tuple[Given, Given | None]]:
    """Each setting that differs: what was asked, and what is given; None: it cannot be set."""
    asked = {key: getattr(config, key) for key in ("width", "height", "fps", "exposure", "gain", "focus")}
    return {
        key: (wish, does.get(key))
        for key, wish in asked.items()
        if wish not in (None, "auto") and not _agree(does.get(key), wish)
    }


def _nearest(value: float, limits: Sequence[float]) -> float:
    """The nearest that the camera can do."""
    return min(max(value, limits[0]), limits[1])


def _agree(real: Given | None, asked: float) -> bool:
    """Times and gains are rounded to what the sensor can do: a hundredth off is no refusal. Pixels are exact."""
    if real is None or isinstance(real, str):
        return False
    return real == asked if isinstance(asked, int) else abs(real - asked) <= 0.01 * asked


def _area(shape: Sequence[int]) -> int:
    return int(shape[-2]) * int(shape[-1])
