"""The model and the engine that is to run it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent import plugins
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.who import READ
from edge_agent.app.places import engines_folder, state_folder
from edge_agent.core import plan_header
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.models import sealed
from edge_agent.models.bare import FORMATS

TRY_S = 6.0  # of the nine that a group has: loading TensorRT may take two of them before that
_CHECK = "import sys; sys.path[:] = filter(None, sys.path); from edge_agent.cli import main; main()"
"""Not by `-m`, which looks for modules in the working directory first, and anybody may have put some there."""
PLANS = (".engine", ".plan")


def look_at_file(context: Context) -> Iterator[Finding]:
    """Whether the model's file is there, is a model's, and may be read by the agent."""
    path, where, user = context.config.model.path, context.place("model", "path"), context.agent
    if not path.is_file():
        yield fail(f"there is no file {path}", f"copy the model there, or mend `path` at {where}")
    elif path.suffix.lower() not in FORMATS:
        yield fail(
            f"{path} is not a model that can be run", f"set `path` at {where} to a file that ends in {_endings()}"
        )
    elif not path.stat().st_size:
        yield fail(f"{path} is empty", "copy the model again")
    elif not user.may(path, READ):
        yield fail(f"{user.name}, the agent's user, may not read {path}", f"sudo chmod a+r {path}, and a+x its folders")
    else:
        yield ok(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


def _endings() -> str:
    return ", ".join(FORMATS)


def look_at_backend(context: Context) -> Iterator[Finding]:
    """Whether an engine is installed that reads such a file."""
    suffix, wanted = context.config.model.path.suffix.lower(), context.config.hardware.backend
    kinds = plugins.kinds("backends") if wanted == "auto" else (wanted,)
    readers = {kind: plugins.load("backends", kind) for kind in kinds}
    # TensorRT runs ONNX models by engines that are built from them.
    able = {kind: module for kind, module in readers.items() if suffix in module.SUFFIXES or _builds(kind, suffix)}
    missing = {kind: module.available() for kind, module in able.items()}
    first = [kind for kind in _order(context) if kind in missing] or list(missing)
    if not first:
        yield fail(
            f"{wanted} reads no {suffix} files", f'set `backend = "auto"` at {context.place("hardware", "backend")}'
        )
    elif all(missing.values()):
        yield fail(f"no engine for {suffix} files is installed", str(missing[first[0]]))
    elif missing[first[0]] and first[0] in _order(context):
        able_now = next(kind for kind in first if not missing[kind])
        yield warn(f"{able_now} stands in for {first[0]}, which this board is best served by", str(missing[first[0]]))
    else:
        yield ok(f"{first[0]} is installed")


def _builds(kind: str, suffix: str) -> bool:
    return kind == "tensorrt" and suffix == ".onnx"


def _order(context: Context) -> tuple[str, ...]:
    choice = context.choice
    return () if isinstance(choice, ConfigError) or choice.profile is None else choice.profile.backends


def look_at_opening(context: Context) -> Iterator[Finding]:
    """Whether the model runs, and has the labels that rules ask for: `edge-agent check` tries, in a process of its own."""
    engine = context.live.get("engine") if context.live else None
    if isinstance(engine, Mapping):
        yield ok(f"it runs, by {engine.get('runtime')}")
        return
    if context.is_up:
        yield skip("the agent is about to open it, or does not tell you")
        return
    path = context.config.model.path
    if not path.is_file() or not path.stat().st_size:
        yield skip("see model-file")
        return
    problems = _try(context)
    if isinstance(problems, Finding):
        yield problems
        return
    theirs = [problem for problem in problems if not _is_anothers(str(problem.get("key", "")))]
    for problem in theirs[:3]:
        place = f"{problem['file']}:{problem['line']}" if problem.get("line") else problem["file"]
        or_again = "copy the model again, or " if problem["key"] == "model.path" else ""
        yield fail(f"{problem['message']}", f"{or_again}mend `{problem['key']}` at {place}")
    if not theirs:
        yield ok("it was loaded and run once, and has all labels that are asked for")


def _is_anothers(key: str) -> bool:
    """Whether another check tells of it: of secrets, certificates, sources and input lines."""
    ends = ("password_file", "source", ".trigger")
    return key.startswith("mqtt") or key.endswith(ends) or key.rstrip("]0123456789") == "cameras["


def _try(context: Context) -> list[dict[str, Any]] | Finding:
    """Every problem that `edge-agent check` finds. A model can take its process with it."""
    path = context.path.absolute()
    command = [context.python, "-c", _CHECK, "check", "--json", "--config", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRY_S, check=False, **_as_agent(context))
    except subprocess.TimeoutExpired:
        return skip(f"it was not loaded within {TRY_S:g} s; try edge-agent check --config {path}")
    except OSError as error:
        return skip(f"no process can be started as {context.agent.name}: {error.strerror}")
    try:
        return list(json.loads(done.stdout)["problems"])
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return fail(
            f"loading it ended the process that tried: {last}"[:300],
            "copy the model again; if that does not help, export it anew",
        )


def _as_agent(context: Context) -> dict[str, Any]:
    """As the agent's user, where we may: what it cannot read is found so. With the folders that a service has."""
    options: dict[str, Any] = {"cwd": "/"}
    user, environment = context.agent, dict(os.environ)
    if context.instance and context.instance.is_service and context.instance.own_folder:
        environment["STATE_DIRECTORY"] = str(context.instance.own_folder.parent)
    if os.geteuid() == 0 and user.uid != 0:
        options |= {"user": user.uid, "group": user.gid, "extra_groups": sorted(user.groups)}
    return options | {"env": environment}


def look_at_tensorrt(context: Context) -> Iterator[Finding]:
    """Whether engines were built by the TensorRT that is installed, and the driver gives the GPU."""
    path, backend = context.config.model.path, context.config.hardware.backend
    is_plan = path.suffix.lower() in PLANS
    is_wanted = is_plan or backend == "tensorrt" or ("tensorrt" in _order(context)[:1] and path.suffix == ".onnx")
    if not is_wanted:
        yield skip("TensorRT is not asked for")
        return
    missing = plugins.load("backends", "tensorrt").available()
    if missing:
        level = fail if is_plan or backend == "tensorrt" else warn
        yield level("TensorRT cannot be used here", missing)
        return
    if trouble := _gpu_trouble():
        yield fail(trouble, "sudo reboot; if it stays, install the JetPack that fits this board anew")
        return
    yield _of_plan(path) if is_plan else _of_built(context, path)


def _gpu_trouble() -> str | None:
    from edge_agent import cuda

    try:
        cuda.look()
    except (cuda.CudaError, EdgeAgentError) as error:
        return f"the GPU cannot be used: {error}"
    return None


def _of_plan(path: Path) -> Finding:
    """A file that was built elsewhere, or by `edge-agent model build --out`."""
    from edge_agent.backends.tensorrt import build, plans
    from edge_agent.backends.tensorrt.messages import Build

    try:
        made, here = plans.read(path).made.tensorrt, build.version()
    except EdgeAgentError as error:
        return fail(str(error), f"edge-agent model build MODEL.onnx --force --out {path}")
    if made is not None and Build(tensorrt=here).differs(Build(tensorrt=made)):
        rebuild = f"edge-agent model build MODEL.onnx --force --out {path}"
        return fail(f"the engine was built by TensorRT {made}, and {here} is installed", rebuild)
    return ok(f"the engine was built by TensorRT {made or '(it does not say which)'}; {here} is installed")


def _of_built(context: Context, path: Path) -> Finding:
    """Engines that were built here from an ONNX model."""
    from edge_agent.backends.tensorrt import build
    from edge_agent.backends.tensorrt.messages import Build

    here = build.version()
    made = {version for folder in _folders(context) for version in _versions(folder)}
    fits = [version for version in made if not Build(tensorrt=here).differs(Build(tensorrt=version))]
    rebuild = f"edge-agent model build {path}"
    if made and not fits:
        was = ", ".join(sorted(made))
        return warn(
            f"engines were built by TensorRT {was}, and {here} is installed: the line waits for new ones", rebuild
        )
    if not made:
        return warn(f"no engine has been built yet, for TensorRT {here}: another one serves until it is", rebuild)
    return ok(f"engines of TensorRT {here} are there")


def _folders(context: Context) -> list[Path]:
    """Where engines may lie: as configured, else a service's and the user's own."""
    configured, own = context.config.hardware.tensorrt.folder, context.instance and context.instance.own_folder
    if configured:
        return [engines_folder(configured)]
    return [*([own.parent / "engines"] if own else []), state_folder() / "engines"]


def _versions(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.engine"):
        try:
            with path.open("rb") as file:
                told = sealed.read_metadata(file).get(plan_header.OURS)
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and isinstance(told.get("tensorrt"), str):
            yield told["tensorrt"]


CHECKS = (
    Check("model-file", "model", "a file that is missing, empty, or not to be read", look_at_file, "configuration"),
    Check("backend", "model", "an engine that is not installed", look_at_backend, "configuration"),
    Check("model-opens", "model", "a damaged model; labels that it does not have", look_at_opening, "configuration"),
    Check("tensorrt", "model", "engines of another TensorRT version; the GPU", look_at_tensorrt, "configuration"),
)
