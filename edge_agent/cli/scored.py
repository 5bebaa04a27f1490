"""What `demo` and `simulate-line` share: their options, where a run is shown, and how it ends."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import EX_USAGE

if TYPE_CHECKING:
    from edge_agent.app.demo.simulated import Wish
    from edge_agent.app.demo.trial import Finished, Viewer

INTERRUPTED = 130

SECONDS = "How long the line runs; {:.0f} where --parts is not given."
_FAULT = "After a third of the run, for 5 s: dark, blurred, frozen, shaken, disconnected, burst or belt_stop."
_KEEP = "Work in this new folder, and leave configuration, logs and truth there."

Speed = Annotated[float, typer.Option(min=0.1, max=4, help="Of the belt; 1 is about 140 parts a minute.")]
Fault = Annotated[str | None, typer.Option(metavar="NAME", help=_FAULT)]
Keep = Annotated[Path | None, typer.Option(metavar="DIR", help=_KEEP)]
AsJson = Annotated[bool, typer.Option("--json", help="The score sheet as one JSON document.")]


def wish_of(
    seconds: float | None, parts: int | None, seed: int, speed: float, fault: str | None, *, default_s: float
) -> "Wish":
    """What the options ask for; `default_s` where they set no end.

    Raises:
        UsageError: there is no such fault.
    """
    from edge_agent.app.demo.simulated import Wish

    return Wish(default_s if seconds is None and parts is None else seconds, parts, seed, speed, fault)


@contextmanager
def viewer(command: str, *, as_json: bool) -> Iterator["Viewer"]:
    """Live on a terminal; plain lines elsewhere, on stderr where stdout is for JSON."""
    from rich.console import Console

    from edge_agent import logs
    from edge_agent.app.display import LiveViewer, PlainViewer

    logs.configure("warning")
    console = Console()
    if as_json or not console.is_terminal or not console.encoding.startswith("utf"):
        yield PlainViewer(lambda words: typer.echo(f"{command}: {words}", err=as_json))
        return
    live = LiveViewer(console)
    try:
        yield live
    finally:
        live.close()


def finish(finished: "Finished", wish: "Wish", *, as_json: bool) -> None:
    """Prints the score sheet, and ends with the exit code that it deserves.

    Raises:
        Exit: with 1 where the line did not do its job, 130 where somebody stopped it.
    """
    sheet = finished.sheet
    if as_json:
        typer.echo(json.dumps({**sheet.as_json(), "run": asdict(wish), "stopped": finished.stopped}))
    else:
        from rich.console import Console

        from edge_agent.app.display import score_table

        console = Console(width=None if sys.stdout.isatty() else 100)
        console.print(score_table(sheet))
        style = "bold green" if sheet.is_well else "bold red"
        words = f"Stopped before its time. {sheet.sentence}" if finished.stopped else sheet.sentence
        console.print(words, style=style, highlight=False, markup=False, soft_wrap=True)
    if finished.stopped:
        raise typer.Exit(INTERRUPTED)
    if not sheet.is_well:
        raise typer.Exit(EX_USAGE)
