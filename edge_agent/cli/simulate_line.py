"""`edge-agent simulate-line`: a user's configuration on a simulated line, scored."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.scored import SECONDS, AsJson, Fault, Keep, Speed, finish, viewer, wish_of
from edge_agent.errors import UsageError

EPILOG = "Example: edge-agent simulate-line --config line3.toml --parts 300 --map bottle=flasche --map crack=riss"
_SECONDS = 60.0
MAP = "What your model calls a thing that the simulator shows: bottle, cap, label, label_misaligned, crack."


def simulate_line(  # noqa: PLR0913 - a command's options
    *,
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")],
    seconds: Annotated[float | None, typer.Option(min=1, help=SECONDS.format(_SECONDS))] = None,
    parts: Annotated[int | None, typer.Option(min=1, help="How many parts pass each camera.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first camera; the next ones get the next numbers.")] = 1,
    speed: Speed = 1.0,
    fault: Fault = None,
    names: Annotated[list[str] | None, typer.Option("--map", metavar="SIMULATED=YOURS", help=MAP)] = None,
    keep: Keep = None,
    as_json: AsJson = False,
) -> None:
    """Run a configuration with simulated cameras, and score its verdicts over its own broker.

    Rules, limits, model and broker are yours; the exit code is 0 when the line did its job.
    """
    from edge_agent.app.simulate_line import simulate_line as simulate

    wish = wish_of(seconds, parts, seed, speed, fault, default_s=_SECONDS)
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
