"""`edge-agent bundle`: everything that support asks for, in one file."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.doctor import Config, chosen_instance, progress

EPILOG = "Example: edge-agent bundle --config line3"


def bundle(
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Not given: edge-agent-bundle-DEVICE-TIME.tar.gz, here."),
    ] = None,
) -> None:
    """Pack logs, status, configuration and versions for support, without pictures and secrets.

    `edge-agent doctor` looks at everything first, and what it finds is packed too. With sudo there is more to see.
    """
    from edge_agent import logs
    from edge_agent.app.bundle import pack
    from edge_agent.app.doctor import examine, look_around

    logs.configure("error")
    instance = chosen_instance(config, Path("/"))
    context = look_around(instance)
    with progress() as tell:
        reports, all_ended = examine(context, tell)
    packed = pack(context, reports, out)
    for name, size in packed.pieces.items():
        typer.echo(f"  {name:20} {size:>9,} bytes")
    for name, why in packed.left_out.items():
        typer.echo(f"  {name:20} left out: {why}")
    typer.echo(
        f"{packed.path}: {packed.path.stat().st_size:,} bytes, without pictures and secrets; look before you send it"
    )
    if not all_ended:  # as the doctor does
        sys.stdout.flush()
        os._exit(0)
