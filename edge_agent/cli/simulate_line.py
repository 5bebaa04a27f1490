"""`edge-agent simulate-line`: a user's configuration on a simulated line, scored."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import UsageError

EPILOG = "Example: edge-agent simulate-line --config line3.toml --parts 300 --map bottle=flasche --map crack=riss"
_SECONDS = 60.0

FAULT = "After a third of the run, for 5 s: dark, blurred, frozen, shaken, disconnected, burst or belt_stop."
MAP = "What your model calls a thing that the simulator shows: bottle, cap, label, label_misaligned, crack."
KEEP = "Work in this new folder, and leave configuration, logs and truth there."


def simulate_line(  # noqa: PLR0913 - a command's options
    *,
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")],
    seconds: Annotated[
        float | None, typer.Option(min=1, help=f"How long the line runs; {_SECONDS:.0f} where --parts is not given.")
    ] = None,
    parts: Annotated[int | None, typer.Option(min=1, help="How many parts pass each camera.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first camera; the next ones get the next numbers.")] = 1,
    speed: Annotated[float, typer.Option(min=0.1, max=4, help="Of the belt; 1 is about 140 parts a minute.")] = 1.0,
    fault: Annotated[str | None, typer.Option(metavar="NAME", help=FAULT)] = None,
    names: Annotated[list[str] | None, typer.Option("--map", metavar="SIMULATED=YOURS", help=MAP)] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help=KEEP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The score sheet as one JSON document.")] = False,
) -> None:
    """Run a configuration with simulated cameras, and score its verdicts over its own broker.

    Rules, limits, model and broker are yours; the exit code is 0 when the line did its job.
    """
    from edge_agent.app.demo.simulated import Wish
    from edge_agent.app.simulate_line import simulate_line as simulate
    from edge_agent.cli.scored import finish, viewer

    wish = Wish(_SECONDS if seconds is None and parts is None else seconds, parts, seed, speed, fault)
    with viewer("simulate-line", as_json=as_json) as shown:
        finished = simulate(config, wish, _pairs(names or []), shown, keep)
    finish(finished, wish, as_json=as_json)


def _pairs(names: list[str]) -> dict[str, str]:
    """Raises `UsageError` where one is no pair."""
    pairs = [(simulated, yours) for simulated, _, yours in (name.partition("=") for name in names)]
    for (simulated, yours), name in zip(pairs, names, strict=True):
        if not simulated or not yours:
            raise UsageError(f"--map: {name!r} is not SIMULATED=YOURS, such as crack=scratch")
    return dict(pairs)
