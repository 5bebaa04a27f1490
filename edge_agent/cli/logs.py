"""`edge-agent logs`: what happened, from the flight recorder."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge_agent.errors import UsageError

if TYPE_CHECKING:
    from edge_agent.app.flight import Flight
    from edge_agent.app.flight_lines import About, Line, Wanted
    from edge_agent.runtime.flight_records import Record

EPILOG = "Example: edge-agent logs --since 10m --severity warning"
SHOWN = 100
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_COLOURS = {"warning": typer.colors.YELLOW, "error": typer.colors.RED}


def logs(  # noqa: PLR0913 - one for each option
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="NAME|FILE", help="Which agent, where there are several.")
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", "-p", help="Only of this part: as `edge-agent why` takes it.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Only of this camera.")] = None,
    event: Annotated[
        str | None, typer.Option("--event", "-e", help="Only these events; `*` stands for any letters: camera_*.")
    ] = None,
    severity: Annotated[
        Literal["info", "warning", "error"], typer.Option("--severity", "-s", help="Only these, and worse ones.")
    ] = "info",
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only what is newer: 10m, 2h, 09:14, 2026-11-21.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="Only the last so many; 0: all.")] = SHOWN,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Show verdicts, events and the log of the last time, also of an agent that is down.

    They come from the flight recorder on this device. Times are local; with --json they are UTC.
    """
    from edge_agent.app.flight import flight_of
    from edge_agent.app.flight_lines import Wanted, line_of
    from edge_agent.app.instances import find

    since_at = _time(since) if since else None
    with closing(flight_of(find(config))) as flight:
        about = _part(flight, part, camera) if part else None
        wanted = Wanted(about, camera, event, severity, since_at)
        newest = flight.newest()
        before = (record for record in flight.newest_first() if record.number <= newest)
        chosen = list(islice(_chosen(before, wanted), number or None))
        for record in reversed(chosen):
            _show(record, line_of(record), as_json=as_json)
        if not chosen:
            typer.echo("edge-agent: nothing of that was recorded", err=True)
        if follow:
            for record in _chosen(flight.follow(newest), wanted):
                _show(record, line_of(record), as_json=as_json)


def _part(flight: "Flight", part: str, camera: str | None) -> "About":
    from edge_agent.app.flight_lines import About
    from edge_agent.app.why import Question, find

    return About.of(find(flight, Question(part, camera)))


def _chosen(records: "Iterator[Record]", wanted: "Wanted") -> "Iterator[Record]":
    from edge_agent.app.flight_lines import line_of

    return (record for record in records if wanted.has(record, line_of(record)))


def _show(record: "Record", line: "Line", *, as_json: bool) -> None:
    from edge_agent.app.flight_lines import document_of, for_a_terminal
    from edge_agent.app.why_words import clock_words

    if as_json:
        typer.echo(json.dumps(document_of(record)))
        return
    level = typer.style(f"{line.level:<7}", fg=_COLOURS.get(line.level))
    typer.echo(f"{clock_words(record.at.astimezone())}  {level}  {for_a_terminal(f'{line.name:<16}  {line.text}')}")


def _time(text: str) -> datetime:
    """A span before now, a time of today, a day, or both; local where it has no zone."""
    now = datetime.now().astimezone()
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    full = f"{now:%Y-%m-%d} {text.strip()}" if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text.strip()) else text.strip()
    try:
        return datetime.fromisoformat(full.replace("Z", "+00:00")).astimezone()
    except ValueError:
        raise UsageError(
            f"--since {text}: write 90s, 10m, 2h or 3d, or a time such as 09:14 or 2026-11-21T09:14"
        ) from None
