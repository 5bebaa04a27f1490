"""`edge-agent bench`: how fast the agent is here, next to the bare engine."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edge_agent.errors import EX_USAGE, ConfigError, TransientError, UsageError

if TYPE_CHECKING:
    from edge_agent.app.bench import Tell

EPILOG = "Example: edge-agent bench --model yolo11n.tflite --size 1280x720"

_SMALLEST, _GREATEST = 16, 8192
_SOURCE = "Frames: pictures, a video, or one picture that is moved along; else the simulated line."
_DECODER = "How to read the model, as in the table model.decoder, with commas."
_COMPARE = "Another engine, in turn with the first; it runs the same file, or that of its kind beside it."


def bench(  # noqa: PLR0913 - a command's options
    model: Annotated[Path, typer.Option("--model", "-m", metavar="PATH", help="The model file.")],
    *,
    backend: Annotated[str, typer.Option(metavar="auto|tflite|onnx|tensorrt", help="The engine.")] = "auto",
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names: a text file or a .pbtxt.")] = None,
    decoder: Annotated[str | None, typer.Option(metavar="TOML", help=_DECODER)] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Threads of the engine.")] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the frames.")] = "1280x720",
    source: Annotated[Path | None, typer.Option(metavar="PATH", help=_SOURCE)] = None,
    jpeg: Annotated[
        bool, typer.Option("--jpeg", help="Frames come as JPEGs, as over USB: they are decoded, too.")
    ] = False,
    health: Annotated[
        bool, typer.Option("--health", help="The cameras' health is watched, as that of live ones is.")
    ] = False,
    cameras: Annotated[int, typer.Option(min=1, max=8, help="Also so many at once, together more than it can do.")] = 1,
    compare: Annotated[str | None, typer.Option(metavar="BACKEND", help=_COMPARE)] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="For the rounds; the rest takes 15 s or so.")] = 30.0,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where the profile's budget is missed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure how much time the agent takes around the engine.

    All of `run` in this process, on a private broker; the bare engine and
    the whole road take turns, so that a machine that slows down favours neither.
    """
    from edge_agent import logs, plugins
    from edge_agent.app.bench import run_bench
    from edge_agent.app.bench.setting import Wish
    from edge_agent.app.demo.broker import find_mosquitto
    from edge_agent.app.detect import decoder_of

    known = ("auto", *plugins.kinds("backends"))
    if backend not in known:
        raise UsageError(f"--backend: there is no engine {backend!r}; there are {', '.join(known)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    logs.configure("error")
    table = decoder_of(decoder).model_dump(mode="json", exclude_none=True) if decoder else None
    wish = Wish(model, backend, labels, table, threads, _size_of(size), source, jpeg, health, cameras, compare, seconds)
    try:
        with _progress() as tell:
            told = run_bench(wish, tell, find_mosquitto())
    except (ConfigError, TransientError) as error:  # without a configuration it is what the command was given
        raise UsageError(str(error)) from None
    if as_json:
        typer.echo(json.dumps(told))
    else:
        from rich.console import Console

        from edge_agent.app.bench.table import shown

        console = Console(width=None if sys.stdout.isatty() else 100)
        for one in shown(told):
            console.print(one, highlight=False)
    if check and told["budget"]["kept"] is False:
        raise typer.Exit(EX_USAGE)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """As with Ctrl-C: what was started ends in order. Nothing interrupts that: a terminal that goes may say so twice."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _size_of(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not _SMALLEST <= min(size) <= max(size) <= _GREATEST:
        raise UsageError(
            f"--size: {text!r} is no size; write width and height in pixels, {_SMALLEST} to {_GREATEST}, such as 1280x720"
        )
    return size


@contextmanager
def _progress() -> "Iterator[Tell]":
    """On standard error: a bar on a terminal, else a line for each step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def tell(words: str, share: float) -> None:
            bar.update(task, description=words, completed=share)
            if not console.is_terminal:
                typer.echo(f"bench: {words}", err=True)

        yield tell
