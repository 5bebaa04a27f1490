"""Everything that can be wrong, found without opening a device."""

from pathlib import Path
from typing import Any

from edge_agent import plugins
from edge_agent.app.agent import choose_profile, engine_request
from edge_agent.app.engine import open_engine
from edge_agent.app.rules import unknown_labels
from edge_agent.config import ConfigProblemsError, Loaded, Problem, dotted, load
from edge_agent.config.lines import KeyPath
from edge_agent.errors import FatalError


def check(path: Path) -> tuple[Loaded | None, list[Problem]]:
    """The configuration, if it could be read, and every problem with it, its model, its profile and its files."""
    try:
        loaded = load(path)
    except ConfigProblemsError as error:
        return None, error.problems
    return loaded, publisher_problems(loaded) + _camera_problems(loaded) + _model_problems(loaded)


def publisher_problems(loaded: Loaded) -> list[Problem]:
    """What is wrong with the secrets and certificates that the publisher's table names."""
    kind, table = loaded.config.publisher
    return _verify(loaded, (kind,), plugins.load("publishers", kind), table)


def _camera_problems(loaded: Loaded) -> list[Problem]:
    cameras = enumerate(loaded.config.cameras)
    found = [_verify(loaded, ("cameras", i), plugins.load("cameras", camera.kind), camera) for i, camera in cameras]
    return [problem for problems in found for problem in problems]


def _verify(loaded: Loaded, key: KeyPath, module: Any, table: object) -> list[Problem]:
    """What a kind that names files has to say of them: a line for each, which may begin with the key it is about."""
    try:
        if hasattr(module, "verify"):
            module.verify(table)
    except FatalError as error:
        return [_problem(loaded, key, line) for line in str(error).splitlines()]
    return []


def _problem(loaded: Loaded, key: KeyPath, text: str) -> Problem:
    named, _, message = text.partition(": ")
    if named.startswith(f"{dotted(key)}."):
        return loaded.problem(tuple(named.split(".")), message)
    return loaded.problem(key, text)


def _model_problems(loaded: Loaded) -> list[Problem]:
    """The model is loaded and run once on a grey picture: that is the only proof that it can be."""
    try:
        _, choice = choose_profile(loaded.config)
    except FatalError as error:
        return [loaded.problem(("hardware", "profile"), str(error))]
    try:
        engine = open_engine(engine_request(loaded.config, choice))
    except FatalError as error:
        return [loaded.problem(("model", "path"), str(error))]
    engine.backend.close()
    return unknown_labels(loaded, engine.model)
