"""`edge-agent demo`: the whole line on one machine, scored."""

from typing import Annotated

import typer

from edge_agent.cli.scored import SECONDS, AsJson, Fault, Keep, Speed, finish, viewer, wish_of

EPILOG = "Example: edge-agent demo --seconds 30 --fault dark"
_SECONDS = 45.0


def demo(
    *,
    seconds: Annotated[float | None, typer.Option(min=1, help=SECONDS.format(_SECONDS))] = None,
    parts: Annotated[int | None, typer.Option(min=1, help="How many parts pass.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another line.")] = 1,
    speed: Speed = 1.0,
    fault: Fault = None,
    keep: Keep = None,
    as_json: AsJson = False,
) -> None:
    """Run a simulated line with everything that belongs to it, and score every verdict.

    A conveyor with bottles, the bundled model, a private broker, a reject arm. Ends with a score sheet; the exit code is
    0 when the line did its job.
    """
    from edge_agent.app.demo import run_demo
    from edge_agent.app.demo.broker import find_mosquitto

    wish = wish_of(seconds, parts, seed, speed, fault, default_s=_SECONDS)
    with viewer("demo", as_json=as_json) as shown:
        finished = run_demo(wish, shown, find_mosquitto(), keep)
    finish(finished, wish, as_json=as_json)
