"""`edge-agent model`: the life of a model."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import ConfigError, EdgeAgentError, FatalError, UsageError

if TYPE_CHECKING:
    from edge_agent.app.engine_build import BuildRequest, Finished, Progress
    from edge_agent.hardware.profile import Profile

app = typer.Typer(no_args_is_help=True, help="Build an engine from a model.")

REFUSED, TRY_AGAIN = 2, 3
EPILOG = (
    "Example: edge-agent model build yolo11n.onnx --precision fp16\n\n"
    "Exit codes: 0 the engine is there, 1 called wrongly, 2 refused or failed, 3 try again (no room on the disk, too "
    "little GPU memory)."
)
_SAID_EVERY_S = 5
_WORDS = {
    "waiting": "waiting for another build",
    "reading": "reading the model",
    "building": "building",
    "writing": "writing the engine",
}


@app.callback()
def _group() -> None:
    """Build an engine from a model."""


@app.command(epilog=EPILOG)
def build(  # noqa: PLR0913 - a command's options
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model.")],
    *,
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|fp16|int8", help="auto: the model's or profile's.")
    ] = "auto",
    workspace_mb: Annotated[
        int | None, typer.Option(min=16, max=65_536, help="Memory a layer may take; else the profile's.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep it here, as hardware.tensorrt.folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.engine", help="Write this file instead.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build it although it is there.")] = False,
    profile: Annotated[str, typer.Option(metavar="NAME", help="A hardware profile, instead of this board's.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line per step, the result last.")] = False,
) -> None:
    """Build a TensorRT engine for this GPU: minutes, and only once. The agent finds it by what it was made of."""
    from edge_agent import logs
    from edge_agent.app.engine_build import EngineBuilder

    logs.configure("warning")
    request = _request(model, precision, workspace_mb, folder, out, _profile(profile), force=force)
    try:
        with progress_shown(as_json=as_json) as show:
            finished = EngineBuilder(request).run(show)
    except EdgeAgentError as error:
        if as_json:
            typer.echo(json.dumps({"done": False, "error": str(error)}))
        typer.echo(f"edge-agent: {error}", err=True)
        raise typer.Exit(REFUSED if isinstance(error, FatalError) else TRY_AGAIN) from None
    typer.echo(_as_json(finished) if as_json else _in_words(finished))


def _request(
    model: Path,
    precision: str,
    workspace_mb: int | None,
    folder: Path | None,
    out: Path | None,
    profile: "Profile | None",
    *,
    force: bool,
) -> "BuildRequest":
    from edge_agent.app.engine_build import PRECISIONS
    from edge_agent.app.engine_choice import build_request

    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: it may be {', '.join(PRECISIONS)}")
    if not model.exists():
        raise UsageError(f"{model}: there is no such file")
    if model.suffix.lower() != ".onnx" or not model.is_file():
        raise UsageError(f"{model}: is no .onnx file; engines are built from ONNX models")
    if out and (out.suffix != ".engine" or out.is_dir()):
        raise UsageError(f"--out {out}: it must be a file that ends in .engine")
    if out and out.exists() and not force:
        raise UsageError(f"--out {out}: is there already; --force writes over it")
    asked = build_request(model, profile, precision=precision, workspace_mb=workspace_mb, folder=folder)
    return replace(asked, out=out, force=force)


def _profile(name: str) -> "Profile | None":
    """That of this board, or the one of that name; None where none fits: engines can be built all the same."""
    from edge_agent.hardware import probe
    from edge_agent.hardware.profile import choose, load_all

    try:
        return choose(probe.detect(), load_all(), name).profile
    except ConfigError as error:
        raise UsageError(str(error)) from None


@contextmanager
def progress_shown(*, as_json: bool) -> Iterator[Callable[["Progress"], None]]:
    """What to call with the progress: JSON lines, a bar where a person waits, or nothing."""
    if as_json:
        yield _line_teller()
    elif os.isatty(2):
        with _bar() as show:
            yield show
    else:
        yield lambda _: None


def _line_teller() -> Callable[["Progress"], None]:
    last: list[object] = [None]

    def tell(progress: "Progress") -> None:
        news = progress.stage, progress.fraction, int(progress.elapsed_s / _SAID_EVERY_S)
        if news != last[0]:
            last[0] = news
            facts = {"stage": progress.stage, "fraction": progress.fraction, "elapsed_s": round(progress.elapsed_s, 1)}
            typer.echo(json.dumps(facts))

    return tell


@contextmanager
def _bar() -> Iterator[Callable[["Progress"], None]]:
    """A bar on standard error. It only pulses where TensorRT does not tell how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(_WORDS["reading"], total=None)
        yield lambda progress: bar.update(
            task,
            description=_WORDS[progress.stage],
            total=None if progress.fraction is None else 1.0,
            completed=progress.fraction or 0.0,
        )


def _as_json(finished: "Finished") -> str:
    return json.dumps({"done": True, **asdict(finished)}, default=str)


def _in_words(finished: "Finished") -> str:
    how = "is there already" if finished.reused else f"built in {finished.seconds:.0f} s"
    first = f"{finished.path}: {how}, {finished.precision}, fingerprint {finished.fingerprint[:16]}"
    return "\n".join((first, *(f"note: {note}" for note in finished.notes)))
