"""`edge-agent snapshot`: one picture to a local file, to aim, to focus and to place the line; or a camera's baseline."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError

if TYPE_CHECKING:
    from edge_agent.config import CameraConfig, Loaded
    from edge_agent.core.baseline import Baseline

EPILOG = "Example: edge-agent snapshot --config line3.toml --camera top --annotate top.jpg"

BASELINE = (
    "Look at the camera for some seconds, and keep what it sees when all is well: its health is judged by that. "
    "OUT is the file then; not given, the one that the configuration names, or ID.baseline.json beside it."
)


def snapshot(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")],
    camera: Annotated[str, typer.Option("--camera", metavar="ID", help="The camera's id.")],
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="The picture to write: .jpg or .png.")] = None,
    *,
    annotate: Annotated[bool, typer.Option(help="Draw detections and the trigger line.")] = False,
    baseline: Annotated[bool, typer.Option("--baseline", help=BASELINE)] = False,
) -> None:
    """Take one picture with a camera of a configuration, and keep it on this device."""
    from edge_agent import logs
    from edge_agent.app.snapshot import take
    from edge_agent.config import load

    logs.configure("warning")
    if baseline and annotate:
        raise UsageError("--baseline writes no picture, so there is nothing to --annotate; call it twice")
    loaded = load(config)
    chosen = [one for one in loaded.config.cameras if one.id == camera]
    if not chosen:
        known = ", ".join(one.id for one in loaded.config.cameras)
        raise UsageError(f"{config}: there is no camera {camera!r}; there are {known}")
    if baseline:
        _take_baseline(loaded, chosen[0], out)
        return
    if out is None:
        raise UsageError("OUT is missing: the picture to write, .jpg or .png")
    width, height = take(loaded.config, chosen[0], out, annotate=annotate)
    typer.echo(f"{out}: {width}x{height}")


def _take_baseline(loaded: "Loaded", camera: "CameraConfig", out: Path | None) -> None:
    from edge_agent.app.snapshot import take_baseline

    named = camera.health.baseline if camera.health else None
    path = out or named or loaded.path.absolute().parent / f"{camera.id}.baseline.json"
    with _bar(f"looking at {camera.id}") as tell:
        found, skipped = take_baseline(loaded.config, camera, path, tell)
    rate = "" if found.fps is None else f", {found.fps:.1f} frames/s"
    typer.echo(f"{path}: {found.size[0]}x{found.size[1]}{rate}, brightness {found.brightness.median:.0f}")
    if skipped:
        typer.echo(f"note: {skipped} frames were passed over, because they are no pictures", err=True)
    for sentence in _doubts(found):
        typer.echo(f"note: {sentence}", err=True)
    if named is not None and path.absolute() == named:
        typer.echo("The configuration names it already. A running agent takes it over on SIGHUP.")
        return
    folder = loaded.path.absolute().parent
    written = path.absolute().relative_to(folder) if path.absolute().is_relative_to(folder) else path.absolute()
    typer.echo(f"Write below the camera {camera.id!r}, and send a running agent SIGHUP:\n")
    typer.echo(f'  [cameras.health]\n  baseline = "{written}"')


_PLAIN = 0.02  # of the picture with structure


def _doubts(found: "Baseline") -> Iterator[str]:
    """What this baseline cannot tell, and what looks wrong already."""
    from edge_agent.app.health_limits import tells_focus
    from edge_agent.config.health import DARK_BELOW, OVEREXPOSED_ABOVE
    from edge_agent.core.scene import Scene

    if found.brightness.median < DARK_BELOW:
        yield "the picture is nearly black; if that is not how it should be, mend it and take the baseline anew"
    if found.clipped.median > OVEREXPOSED_ABOVE:
        yield "the picture is nearly white; if that is not how it should be, mend it and take the baseline anew"
    if found.structure.median < _PLAIN:
        yield "the picture is plain: a cover before the lens would look the same and cannot be told"
    if not tells_focus(found):
        yield "the picture is too plain, or changes too much, to tell blur"
    if not Scene(found.plane, found.steady).can_tell:
        yield "too few edges stand still to tell whether the camera is moved"


@contextmanager
def _bar(words: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, where a person waits there."""
    if not os.isatty(2):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=1.0)
        yield lambda share: bar.update(task, completed=share)
