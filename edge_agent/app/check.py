"""Everything that can be wrong, found without opening a device."""

from pathlib import Path

from edge_agent import plugins
from edge_agent.app.agent import choose_profile, engine_request
from edge_agent.app.engine import open_engine
from edge_agent.app.labels import unknown_labels
from edge_agent.config import ConfigProblemsError, Loaded, Problem, load
from edge_agent.config.lines import KeyPath
from edge_agent.errors import FatalError


def check(path: Path) -> tuple[Loaded | None, list[Problem]]:
    """The configuration, if it could be read, and every problem with it, its model, its profile and its files."""
    try:
        loaded = load(path)
    except ConfigProblemsError as error:
        return None, error.problems
    return loaded, _file_problems(loaded) + _model_problems(loaded)


def _file_problems(loaded: Loaded) -> list[Problem]:
    kind, table = loaded.config.publisher
    tables: list[tuple[KeyPath, str, str, object]] = [((kind,), "publishers", kind, table)]
    tables += [(("cameras", i), "cameras", camera.kind, camera) for i, camera in enumerate(loaded.config.cameras)]
    problems = []
    for key, seam, kind, config in tables:
        verify = getattr(plugins.load(seam, kind), "verify", None)  # type: ignore[arg-type]  # a seam, as written above
        try:
            if verify is not None:
                verify(config)
        except FatalError as error:
            problems.append(loaded.problem(key, str(error)))
    return problems


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
