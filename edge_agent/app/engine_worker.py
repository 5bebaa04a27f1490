"""The process that builds an engine: `engine_build.WORKER`, with the request as JSON.

Reports on standard output, a JSON object per line: `stage` and `fraction` on the way; `level`, `event` and more for what
is to be logged; at the end the fields of `Finished`, or `refused` and `why`. What libraries print goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict

from edge_agent.app.engine_build import REFUSALS, BuildRequest, Finished, Stage, recipe_for
from edge_agent.core import plan_header
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError, TransientError
from edge_agent.models import bare, onnx_file, sealed
from edge_agent.models.engine_cache import EngineCache, Recipe

NICENESS = 10
FIRST_VICTIM = "800"
"""/proc/PID/oom_score_adj, up to 1000: the kernel takes the build before the line where memory is short."""

_ROOM = 3
"""Room that is asked for before a build, in sizes of the model: for a plan in FP32 and what was measured."""

_SAYABLE = 0.005
"""A step of the whole; smaller ones are not reported."""

Tell = Callable[[Stage, float | None], None]


def main() -> None:
    """Builds what the argument asks for."""
    say = _own_stdout()
    _log_by(say)
    os.nice(NICENESS)
    with suppress(OSError):  # a container may forbid it
        Path("/proc/self/oom_score_adj").write_text(FIRST_VICTIM, "ascii")
    try:
        finished = make(_request(sys.argv[1]), _teller(say))
    except EdgeAgentError as error:
        say({"refused": _kind(error), "why": str(error)})
    else:
        say(asdict(finished))


def make(request: BuildRequest, tell: Tell) -> Finished:
    """Builds the engine, or finds that it is there. Raises as `EngineBuilder.run`."""
    started_s = time.monotonic()
    tell("reading", None)
    file, facts = bare.identify(request.model), onnx_file.read(request.model)
    recipe, cache = recipe_for(request, file.sha256, facts), EngineCache(request.folder)
    path, reused = _found(request, recipe, cache), True
    if path is None:
        with cache.lock(lambda: tell("waiting", None)):
            path = _found(request, recipe, cache)  # another process may have built it while this one waited
            if path is None:
                path, reused = _build(request, recipe, facts, cache, tell), False
    own = _own_facts(path)
    seconds = round(time.monotonic() - started_s, 1)
    return Finished(path, recipe.fingerprint, seconds, own["built_as"], reused, tuple(own["notes"]))


def _found(request: BuildRequest, recipe: Recipe, cache: EngineCache) -> Path | None:
    return None if request.force or request.out else cache.find(recipe)


def _build(request: BuildRequest, recipe: Recipe, facts: onnx_file.OnnxFile, cache: EngineCache, tell: Tell) -> Path:
    """The new file. Room for it is looked for before, not after minutes of work."""
    from edge_agent.backends.tensorrt.build import BuildOptions, build

    room = _ROOM * request.model.stat().st_size
    cache.check_room(room)
    if request.out:
        sealed.check_room(request.out.parent, room)
    tell("building", None)
    options = BuildOptions(
        precision=recipe.precision,
        workspace_mb=recipe.workspace_mb,
        shapes=dict(recipe.shapes),
        has_halves=facts.has_halves,
        without_libraries=request.without_libraries,
        timing_cache=cache.timing_cache(recipe),
    )
    built = build(request.model, options, lambda fraction: tell("building", fraction))
    if not _is_still(request.model, recipe.model_sha256):
        raise TransientError(f"{request.model}: was replaced while its engine was built; build it again")
    tell("writing", None)
    cache.keep_timing_cache(recipe, built.timing_cache)
    own = {"built_as": built.precision, "notes": built.notes, "model": request.model.name}
    if request.out is None:
        return cache.add(recipe, {**facts.metadata, plan_header.OURS: own}, built.plan)
    header = plan_header.make({**facts.metadata, plan_header.OURS: {**own, **recipe.facts()}})
    sealed.write_whole(request.out, [header, built.plan], mode=0o644)
    return request.out


def _is_still(model: Path, sha256: str) -> bool:
    try:
        return bare.identify(model).sha256 == sha256
    except ModelError:  # it is gone, or just being written
        return False


def _own_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return dict(sealed.read_metadata(file)[plan_header.OURS])


def _own_stdout() -> Callable[[dict[str, Any]], None]:
    """A way to say something to the one who reads our standard output, which nobody else can write to from now on."""
    fd = os.dup(1)
    os.dup2(2, 1)

    def say(words: dict[str, Any]) -> None:
        try:
            os.write(fd, json.dumps(words, default=str).encode() + b"\n")  # TensorRT reports from several threads
        except OSError:  # who wanted the engine is gone; an exception would end in TensorRT's own code
            os._exit(1)

    return say


def _log_by(say: Callable[[dict[str, Any]], None]) -> None:
    """Log entries go to the one who started us, but for the details."""

    def hand_on(_logger: Any, level: str, entry: EventDict) -> EventDict:
        if level != "debug":
            say({"level": level, **entry})
        raise structlog.DropEvent

    structlog.configure(processors=[hand_on])


def _teller(say: Callable[[dict[str, Any]], None]) -> Tell:
    """Says what is new: TensorRT reports thousands of steps."""
    last: list[Any] = [None, None]

    def tell(stage: Stage, fraction: float | None) -> None:
        is_same = stage == last[0] and (fraction is None or fraction - (last[1] or 0.0) < _SAYABLE)
        if not is_same or (fraction is not None and last[1] is None):
            last[:] = stage, fraction
            say({"stage": stage, "fraction": None if fraction is None else round(fraction, 3)})

    return tell


def _request(text: str) -> BuildRequest:
    given = json.loads(text)
    paths = {key: Path(given[key]) for key in ("model", "folder", "out") if given[key] is not None}
    return BuildRequest(**{**given, **paths})


def _kind(error: EdgeAgentError) -> str:
    """The narrowest of the kinds that the other side knows."""
    return next((name for name, kind in REFUSALS.items() if isinstance(error, kind)), ConfigError.__name__)
