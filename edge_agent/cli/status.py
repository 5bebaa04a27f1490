"""`edge-agent status`: one screen on how it goes."""

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edge_agent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edge_agent.app.instances import Instance
    from edge_agent.app.status import Report

EPILOG = (
    "Example: edge-agent status --watch\n\n"
    "Exit codes: 0 ready or running, 1 degraded, starting or without its broker, 2 it does not judge (error, hangs, down), 3 it cannot be told. "
    "Of several agents: the highest."
)
CONFIG = "Whose: a configuration, or the NAME of a service. Not given: all of /etc/edge-agent."
_AGAIN_S = 1.0


def status(
    *,
    config: Annotated[str | None, typer.Option("--config", "-c", metavar="NAME|FILE", help=CONFIG)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each agent.")] = False,
) -> None:
    """Show how an agent is: state, cameras, model, rates, broker. Also when it is down: why, and what to do."""
    from edge_agent.app.status import UNTOLD

    try:
        instances = _instances(config)
    except UsageError as error:
        typer.echo(f"edge-agent: {error}", err=True)
        raise typer.Exit(UNTOLD) from None
    if watch:
        _watch(instances, as_json=as_json)
        return
    reports = _look(instances)
    if as_json:
        _print_json(reports)
    else:
        console, draw = _drawing()
        console.print(draw(reports))
    raise typer.Exit(max(report.exit_code for report in reports))


def _instances(config: str | None) -> "list[Instance]":
    """Raises `UsageError` where there is none."""
    from edge_agent.app.instances import find, find_all

    several = [] if config else find_all()
    return several if len(several) > 1 else [find(config)]


def _look(instances: "list[Instance]") -> "list[Report]":
    from edge_agent.app.status import look

    return [look(instance) for instance in instances]


def _print_json(reports: "list[Report]") -> None:
    for report in reports:
        typer.echo(json.dumps(report.as_json()))


def _drawing() -> "tuple[Console, Callable[[list[Report]], RenderableType]]":
    """Standard output, and how to draw on it."""
    from rich.console import Console

    from edge_agent.app.status_screen import HEIGHT, Ascii, knows_ascii_only, screen, table

    console = Console(highlight=False)
    is_plain = knows_ascii_only(console, os.environ.get("TERM", ""))
    height = min(console.height, HEIGHT) if console.is_terminal else HEIGHT

    def draw(reports: "list[Report]") -> "RenderableType":
        picture = table(reports) if len(reports) > 1 else screen(reports[0], height - 1)  # a line is for the prompt
        return Ascii(picture) if is_plain else picture

    return console, draw


def _watch(instances: "list[Instance]", *, as_json: bool) -> None:
    """Until somebody ends it: a screen that changes, or lines where standard output is no terminal that can do that."""
    from edge_agent.app.status_screen import line

    console, draw = _drawing()
    if console.is_terminal and not console.is_dumb_terminal and not as_json:
        _watch_live(instances, console, draw)
    while True:
        reports = _look(instances)
        if as_json:
            _print_json(reports)
        else:
            typer.echo("\n".join(line(report) for report in reports))
        time.sleep(_AGAIN_S)


def _watch_live(
    instances: "list[Instance]", console: "Console", draw: "Callable[[list[Report]], RenderableType]"
) -> "NoReturn":
    """The last picture stays on the terminal."""
    from rich.live import Live

    picture = draw(_look(instances))
    try:
        with Live(picture, console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(picture, refresh=True)
                time.sleep(_AGAIN_S)
                picture = draw(_look(instances))
    finally:
        console.print(picture)
