"""`edge-agent run`: the daemon."""

import gc
import signal
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: edge-agent run --config /etc/edge-agent/line3.toml"


def run(
    # a file that may not be read is a wrong configuration, not a wrong call: systemd is not to try it again
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", readable=False, help="The configuration.")],
) -> None:
    """Run the agent until it is stopped.

    SIGTERM and Ctrl-C stop it within five seconds; SIGHUP reads the configuration again.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the agent listens to it: by itself it would end the process
    gc.disable()  # next to nothing of what is loaded now is garbage, and looking for it takes a twentieth of the start
    from edge_agent.app.run import run as run_agent

    run_agent(config)
