"""What each camera's eyesight is measured against: its table, its baseline, and what was asked of the device."""

from edge_agent.app import baseline as baseline_file
from edge_agent.config import CameraConfig, ConfigProblemsError, LineTrigger, Loaded, Problem
from edge_agent.config.health import DARK_BELOW, OVEREXPOSED_ABOVE, HealthConfig
from edge_agent.core.baseline import Baseline
from edge_agent.core.health_judge import NO_BOUND, Bound, Limits
from edge_agent.core.scene import Scene
from edge_agent.errors import ConfigError
from edge_agent.runtime.view import View

_RECORDED = ("replay",)
_ENCODED = ("stream", "pipeline")
_FROZEN_S = 2.0  # a real sensor never repeats itself
_FROZEN_STREAM_S = 30.0  # encoders that save may repeat a still scene until the next key frame: up to some 20 s
_USUAL_CLIPPED = 0.95
_TELLING = 0.5  # a sharpness that falls below half of its own median while all is well tells nothing
_LEAVE = 1.2  # back above a lower bound by so much


def is_watched(camera: CameraConfig) -> bool:
    """Whether its health is looked at: live cameras by default, recordings where the table is written."""
    return camera.health.enabled if camera.health else is_live(camera)


def is_live(camera: CameraConfig) -> bool:
    """Whether the pictures come from a sensor now. Recordings stand still, repeat, and come at any rate."""
    return camera.kind not in _RECORDED and getattr(camera, "medium", None) != "file"


def limits_of(camera: CameraConfig) -> Limits | None:
    """What the camera must keep to; None where it is not watched.

    Raises:
        ConfigError: its baseline cannot be used.
    """
    if not is_watched(camera):
        return None
    told = camera.health or HealthConfig()
    size, base = _asked_size(camera), None
    if told.baseline is not None:
        base = baseline_file.read(told.baseline, camera.id)
        if size is not None and base.size != size:
            was, now = "{}x{}".format(*base.size), "{}x{}".format(*size)
            raise ConfigError(f"{told.baseline} was taken at {was}, the camera is to give {now}; take it anew")
    return Limits(
        brightness=_lower(told.dark_below, 0.5 * base.brightness.low if base else DARK_BELOW),
        clipped=_clipped(told, base),
        structure=_lower(told.covered_below, 0.25 * base.structure.low if base else 0.0),
        sharpness=_sharpness(told, base),
        in_place=_lower(told.moved_below, 0.0) if base else NO_BOUND,
        frozen_s=_frozen_s(camera, told),
        size=base.size if base else size,
        fps=_rate(camera, told, base),
        scene=Scene(base.plane, base.steady) if base else None,
        for_s=told.for_s,
        clear_s=told.clear_s,
    )


def all_limits(loaded: Loaded) -> list[Limits | None]:
    """Of each camera, in their order.

    Raises:
        ConfigProblemsError: baselines cannot be used, each with its line.
    """
    if problems := health_problems(loaded):
        raise ConfigProblemsError(problems)
    return [limits_of(camera) for camera in loaded.config.cameras]


def health_problems(loaded: Loaded) -> list[Problem]:
    """The baselines that cannot be used, and what is asked for in vain because the health is looked at."""
    problems = []
    for index, camera in enumerate(loaded.config.cameras):
        if in_vain := _whole_picture_for(camera):
            message = f"does nothing where the whole picture is needed, and {in_vain}"
            problems.append(loaded.problem(("cameras", index, "reduced_decoding"), message))
        try:
            limits_of(camera)
        except ConfigError as error:
            problems.append(loaded.problem(("cameras", index, "health", "baseline"), str(error)))
    return problems


def _whole_picture_for(camera: CameraConfig) -> str:
    """What the whole picture is needed for, though smaller ones are asked for; empty where all is well."""
    if not getattr(camera, "reduced_decoding", False):
        return ""
    if is_watched(camera):
        return "the camera's health is looked at: set enabled = false in [cameras.health], or leave this out"
    if camera.rotation or camera.roi:
        return "rotation and roi go by it: leave them or this out"
    return ""


def _lower(told: float | None, otherwise: float) -> Bound:
    enter = otherwise if told is None else told
    return Bound(enter, _LEAVE * enter)


def _clipped(told: HealthConfig, base: Baseline | None) -> Bound:
    """Half of what is not clipped when all is well must be left; back at half of the way from there to normal."""
    usual = base.clipped.high if base else _USUAL_CLIPPED
    if told.overexposed_above is not None:
        return Bound(told.overexposed_above, min(0.9 * told.overexposed_above, 1.0))
    enter = (1 + usual) / 2 if base else OVEREXPOSED_ABOVE
    return Bound(enter, (enter + usual) / 2)


def tells_focus(base: Baseline) -> bool:
    """Whether blur could be told by this baseline: there are edges, and they are there all the time."""
    usual = base.sharpness
    return usual is not None and usual.low > 0 and usual.low >= _TELLING * usual.median


def _sharpness(told: HealthConfig, base: Baseline | None) -> Bound:
    if base is None or base.sharpness is None or not tells_focus(base):
        return NO_BOUND
    return _lower(told.blurred_below * base.sharpness.low, 0.0)


def _frozen_s(camera: CameraConfig, told: HealthConfig) -> float:
    if told.frozen_s is not None:
        return told.frozen_s
    if not is_live(camera):
        return 0.0
    return _FROZEN_STREAM_S if getattr(camera, "medium", None) in _ENCODED else _FROZEN_S


def _asked_size(camera: CameraConfig) -> tuple[int, int] | None:
    """What is seen of the picture, where the table of a live camera asks for a size of it."""
    width, height = getattr(camera, "width", None), getattr(camera, "height", None)
    if width is None or height is None or not is_live(camera):
        return None
    return View(camera.rotation, camera.roi).size((width, height))


def _rate(camera: CameraConfig, told: HealthConfig, base: Baseline | None) -> tuple[float, float] | None:
    """What is asked for, else that of the baseline; not where parts may trigger the camera, unless it is wished."""
    is_paced = is_live(camera) and isinstance(camera.trigger, LineTrigger)
    if not is_paced and "rate_tolerance" not in told.model_fields_set:
        return None
    wanted = getattr(camera, "fps", None) or (base.fps if base is not None and is_paced else None)
    if wanted is None or told.rate_tolerance == 0:
        return None
    return (1 - told.rate_tolerance) * wanted, (1 + told.rate_tolerance) * wanted
