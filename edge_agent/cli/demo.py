"""`edge-agent demo`: the whole line on one machine, scored."""

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: edge-agent demo --seconds 30 --fault dark"
_SECONDS = 45.0

FAULT = "After a third of the run, for 5 s: dark, blurred, frozen, shaken, disconnected, burst or belt_stop."
KEEP = "Work in this new folder, and leave configuration, logs and truth there."


def demo(
    *,
    seconds: Annotated[
        float | None, typer.Option(min=1, help=f"How long the line runs; {_SECONDS:.0f} where --parts is not given.")
    ] = None,
    parts: Annotated[int | None, typer.Option(min=1, help="How many parts pass.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another line.")] = 1,
    speed: Annotated[float, typer.Option(min=0.1, max=4, help="Of the belt; 1 is about 140 parts a minute.")] = 1.0,
    fault: Annotated[str | None, typer.Option(metavar="NAME", help=FAULT)] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help=KEEP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The score sheet as one JSON document.")] = False,
) -> None:
    """Run a simulated line with everything that belongs to it, and score every verdict.

    A conveyor with bottles, the bundled model, a private broker, a reject arm. Ends with a score sheet; the exit code is
    0 when the line did its job.
    """
    from edge_agent.app.demo import run_demo
    from edge_agent.app.demo.broker import find_mosquitto
    from edge_agent.app.demo.simulated import Wish
    from edge_agent.cli.scored import finish, viewer

    wish = Wish(_SECONDS if seconds is None and parts is None else seconds, parts, seed, speed, fault)
    with viewer("demo", as_json=as_json) as shown:
        finished = run_demo(wish, shown, find_mosquitto(), keep)
    finish(finished, wish, as_json=as_json)
