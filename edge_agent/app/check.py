"""Everything that can be wrong, found without opening a device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_agent import plugins
from edge_agent.app.engine import open_engine
from edge_agent.app.health_limits import health_problems
from edge_agent.app.road import choose_profile, engine_request
from edge_agent.app.rules import mismatches
from edge_agent.config import ConfigProblemsError, Loaded, Problem, dotted, load
from edge_agent.config.lines import KeyPath
from edge_agent.errors import FatalError, LabelsError


def check(path: Path) -> tuple[Loaded | None, list[Problem]]:
    """The configuration, if it could be read, and every problem with it, its model, its profile and its files."""
    try:
        loaded = load(path)
    except ConfigProblemsError as error:
        return None, error.problems
    problems = _publisher_problems(loaded) + camera_problems(loaded, "verify") + _sensor_problems(loaded)
    problems += health_problems(loaded)
    return loaded, problems + _model_problems(loaded)


def secret_problems(loaded: Loaded) -> list[Problem]:
    """What is wrong with the passwords, keys and certificates that the configuration names."""
    return _publisher_problems(loaded) + camera_problems(loaded, "verify_secrets")


def _publisher_problems(loaded: Loaded) -> list[Problem]:
    kind, table = loaded.config.publisher
    return _verify(loaded, (kind,), getattr(plugins.load("publishers", kind), "verify", None), table)


def camera_problems(loaded: Loaded, verify: str) -> list[Problem]:
    """What the drivers' `verify`, or `verify_secrets`, say of the cameras' tables."""
    found = []
    for index, camera in enumerate(loaded.config.cameras):
        look = getattr(plugins.load("cameras", camera.kind), verify, None)
        found += _verify(loaded, ("cameras", index), look, camera)
    return found


def _sensor_problems(loaded: Loaded) -> list[Problem]:
    found = []
    for index, camera in enumerate(loaded.config.cameras):
        if camera.trigger.kind in plugins.kinds("sensors"):
            verify = plugins.load("sensors", camera.trigger.kind).verify
            found += _verify(loaded, ("cameras", index, "trigger"), verify, camera.trigger)
    return found


def _verify(loaded: Loaded, key: KeyPath, look: Callable[[Any], None] | None, table: BaseModel) -> list[Problem]:
    """What a kind that names files has to say of them: a line for each, which may begin with the key it is about."""
    try:
        if look is not None:
            look(table)
    except FatalError as error:
        return [_problem(loaded, key, table, line) for line in str(error).splitlines()]
    return []


def _problem(loaded: Loaded, key: KeyPath, table: BaseModel, text: str) -> Problem:
    named, _, message = text.partition(": ")
    if named.startswith(f"{dotted(key)}."):
        return loaded.problem(tuple(named.split(".")), message)
    if named in type(table).model_fields:
        return loaded.problem((*key, named), message)
    return loaded.problem(key, text)


def _model_problems(loaded: Loaded) -> list[Problem]:
    """The model is loaded and run once on a grey picture: that is the only proof that it can be."""
    try:
        _, choice = choose_profile(loaded.config)
    except FatalError as error:
        return [loaded.problem(("hardware", "profile"), str(error))]
    try:
        is_built_later = loaded.config.hardware.tensorrt.build != "never"
        engine = open_engine(engine_request(loaded.config, choice), or_stand_in=is_built_later)
    except FatalError as error:
        is_labels = isinstance(error, LabelsError) and loaded.config.model.labels is not None
        return [loaded.problem(("model", "labels" if is_labels else "path"), str(error))]
    engine.backend.close()
    return mismatches(loaded, engine.model, engine.decoder_kind)
