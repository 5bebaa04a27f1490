"""A user's configuration with the simulator in place of its cameras, scored over its own broker."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent.app.demo import toml
from edge_agent.app.demo.children import children
from edge_agent.app.demo.simulated import Wish
from edge_agent.app.demo.trial import Finished, Plan, Viewer, conduct, stopped_by_signals, work_folder, write_arm
from edge_agent.app.run import single_instance
from edge_agent.cameras.simulator.settings import LABELS
from edge_agent.config import AgentConfig, CameraConfig, ConfigProblemsError, LineTrigger, Loaded, Problem, load
from edge_agent.errors import UsageError

_PART = "bottle"
_HIGH, _LOW = 424.0, 444.0
"""How high the middle of a bottle travels, with and without its cap: pixels from the top of a picture of 1280x720."""

_KEPT = ("id", "trigger", "rules", "health", "timeout_s")
_ASKED = ("width", "height", "fps")
_DROPPED = ("rotation", "roi")


def simulate_line(path: Path, wish: Wish, labels: Mapping[str, str], viewer: Viewer, keep: Path | None) -> Finished:
    """Runs the configuration's line on simulated cameras, and scores it.

    `labels`: what the user's model calls what the simulator shows; names that are not given stay as they are.

    Raises:
        ConfigProblemsError: the file is wrong, or asks for what the simulator cannot show.
        UsageError: `labels` names what the simulator does not show.
        FatalError: the agent of this configuration is running on this machine.
        ChildDiedError, PublisherLostError: as of `conduct`.
        KeyboardInterrupt: somebody stopped it before the line ran.
    """
    check_labels(labels)
    loaded = load(path)
    with single_instance(path), stopped_by_signals() as stop, work_folder(keep) as folder, children() as started:
        truths = {camera.id: folder / f"{camera.id}.truth.jsonl" for camera in loaded.config.cameras}
        simulated = write_simulated(loaded, wish, labels, truths, folder)
        for note in notes(loaded.config, labels):
            viewer.say(note)
        arm = write_arm(simulated.config, folder, ack=False) if simulated.config.mqtt is not None else None
        plan = Plan(simulated.path, simulated.config, truths, arm, wish.seconds, labels, is_shared=arm is not None)
        return conduct(plan, folder, started, viewer, stop)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises `UsageError` where a name is none of the simulator's."""
    for label in labels:
        if label not in LABELS:
            raise UsageError(f"--map: the simulator shows no {label!r}; it shows {', '.join(LABELS)}")


def write_simulated(
    loaded: Loaded, wish: Wish, labels: Mapping[str, str], truths: Mapping[str, Path], folder: Path
) -> Loaded:
    """The configuration with simulated cameras, written into the folder and read again.

    Raises:
        ConfigProblemsError: a trigger that cannot be simulated.
    """
    config = loaded.config
    cameras, problems = list[dict[str, Any]](), list[Problem]()
    for number, camera in enumerate(config.cameras):
        faults = list(_unfit(loaded, number, camera, labels))
        problems += faults
        if not faults:
            cameras.append(_camera_table(camera, wish.camera_keys(truths[camera.id], number)))
    if problems:
        raise ConfigProblemsError(problems)
    log = {"level": config.log.level, "format": "json"}
    given = config.model_dump(mode="json", exclude_unset=True)
    records = {**given.get("records", {}), "folder": str(folder / "records")}  # not among those of the real line
    tables = given | {"cameras": cameras, "records": records, "log": log}
    path = folder / "line.toml"
    path.write_text(toml.document(tables), "utf-8")
    return load(path)


def notes(config: AgentConfig, labels: Mapping[str, str]) -> Iterator[str]:
    """What the user should know: what is left out, what cannot be shown, and who may act on simulated verdicts."""
    shown = {labels.get(label, label) for label in LABELS}
    for camera in config.cameras:
        if left_out := [key for key in _DROPPED if key in camera.model_fields_set]:
            do = "do" if len(left_out) > 1 else "does"
            yield f"camera {camera.id}: {' and '.join(left_out)} {do} not hold for simulated pictures"
        for rule in camera.rules:
            named = (label for names in rule.labels.values() for label in names)
            if unseen := [label for label in named if label not in shown]:
                what = ", ".join(map(repr, unseen))
                yield f"camera {camera.id}: rule {rule.name} names {what}, which the simulator never shows; see --map"
    if config.mqtt is not None:
        device = f"{config.device.id} at {config.mqtt.host}:{config.mqtt.port}"
        yield f"simulated verdicts go out as those of {device}: an arm that listens there acts on them"


def _camera_table(camera: CameraConfig, simulator: Mapping[str, Any]) -> dict[str, Any]:
    """The camera as the file has it, but for what is the driver's."""
    given = camera.model_dump(mode="json", exclude_unset=True)
    table = {key: given[key] for key in _KEPT if key in given}
    table |= {key: given[key] for key in _ASKED if given.get(key)}
    if table.get("health", {}).get("baseline"):
        table["health"] = table["health"] | {"baseline": f"{camera.id}.baseline.json"}  # another one is taken
    direction = "left" if given["trigger"].get("direction") == "left" else "right"
    return {"kind": "simulator", **table, **simulator, "line": _crossing(camera), "direction": direction}


def _unfit(loaded: Loaded, number: int, camera: CameraConfig, labels: Mapping[str, str]) -> Iterator[Problem]:
    """Why this camera cannot be simulated, or not be scored."""
    trigger, key = camera.trigger, ("cameras", number, "trigger")
    if not isinstance(trigger, LineTrigger):
        why = 'only parts that cross a line can be compared with the truth: simulate-line needs kind = "line"'
        yield loaded.problem((*key, "kind"), why)
        return
    if (part := labels.get(_PART, _PART)) not in trigger.parts:
        why = f"{part!r} is not among them, and it is what simulated parts are called"
        yield loaded.problem((*key, "parts"), f"{why}; say --map {_PART}={trigger.parts[0]}")
    if trigger.direction in ("up", "down"):
        yield loaded.problem((*key, "direction"), f"simulated parts travel right or left, not {trigger.direction}")
    elif _crossing(camera) is None:
        yield loaded.problem((*key, "line"), "simulated parts do not meet it: they travel a little below the middle")


def _crossing(camera: CameraConfig) -> float | None:
    """Where simulated parts meet the line, as a fraction of the width; None where they do not."""
    if not isinstance(camera.trigger, LineTrigger):
        return None
    (x1, y1), (x2, y2) = camera.trigger.line
    width, height = (getattr(camera, "width", None) or 1280), (getattr(camera, "height", None) or 720)
    scale = min(width / 1280, height / 720) / height
    if not min(y1, y2) <= _HIGH * scale <= _LOW * scale <= max(y1, y2):
        return None
    x = x1 + (x2 - x1) * (_HIGH * scale - y1) / (y2 - y1)
    return x if 0 < x < 1 else None
