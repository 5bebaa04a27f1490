"""`edge-agent check`: what is wrong, before the line finds out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import EX_CONFIG, EX_USAGE

EPILOG = "Example: edge-agent check --config /etc/edge-agent/line3.toml"


def check(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Validate configuration, model, profile and files without opening a device.

    Exit code 0 where all is well, 78 where the file itself is wrong, 1 where something it names is.
    """
    from edge_agent import logs
    from edge_agent.app.check import check as find_problems

    logs.configure("warning")
    loaded, problems = find_problems(config)
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": [asdict(problem) for problem in problems]}, indent=2))
    else:
        for problem in problems:
            typer.echo(str(problem), err=True)
        if not problems and loaded:
            cameras = ", ".join(f"{camera.id} ({camera.kind})" for camera in loaded.config.cameras)
            typer.echo(f"{config}: all is well: device {loaded.config.device.id}, cameras {cameras}")
    if problems:
        raise typer.Exit(EX_USAGE if loaded else EX_CONFIG)
