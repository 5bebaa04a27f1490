"""`edge-agent snapshot`: one picture to a local file, to aim, to focus and to place the line."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import UsageError

EPILOG = "Example: edge-agent snapshot --config line3.toml --camera top --annotate top.jpg"


def snapshot(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The picture to write: .jpg or .png.")],
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")],
    camera: Annotated[str, typer.Option("--camera", metavar="ID", help="The camera's id.")],
    *,
    annotate: Annotated[bool, typer.Option(help="Draw detections and the trigger line.")] = False,
) -> None:
    """Take one picture with a camera of a configuration, and keep it on this device."""
    from edge_agent import logs
    from edge_agent.app.snapshot import take
    from edge_agent.config import load

    logs.configure("warning")
    loaded = load(config)
    chosen = [one for one in loaded.config.cameras if one.id == camera]
    if not chosen:
        known = ", ".join(one.id for one in loaded.config.cameras)
        raise UsageError(f"{config}: there is no camera {camera!r}; there are {known}")
    width, height = take(loaded.config, chosen[0], out, annotate=annotate)
    typer.echo(f"{out}: {width}x{height}")
