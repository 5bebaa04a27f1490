"""`edge-agent reject-arm`: the reference subscriber."""

import json
import queue
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = "Example: edge-agent reject-arm --config examples/reject-arm.toml --json"

LINES_MOST = 10_000  # that wait for a reader


def reject_arm(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The arm's own configuration.")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line for each verdict and alarm, and one at the end.")
    ] = False,
) -> None:
    """Act on verdicts as a gateway to a PLC would, on GPIO lines or simulated.

    SIGTERM and Ctrl-C stop it; SIGUSR1 takes back a stop once the agent is well.
    """
    from edge_agent import logs
    from edge_agent.actuator.client import RejectArm
    from edge_agent.actuator.settings import ArmSettings
    from edge_agent.config import load_settings

    logs.configure("info")
    settings = load_settings(config, ArmSettings)
    if not as_json:
        RejectArm(settings).run()
        return
    printer = Printer()
    try:
        RejectArm(settings, printer.put).run()
    finally:
        printer.close()


class Printer:
    """JSON lines on standard output, by a thread of its own: a reader that is slow or gone holds up nobody."""

    def __init__(self) -> None:
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(LINES_MOST)
        self._thread = threading.Thread(target=self._print, name="lines", daemon=True)
        self._thread.start()
        self._lost = 0

    def put(self, line: dict[str, Any]) -> None:
        """The line is printed soon; where too many wait it is left out, and the next one says how many were."""
        try:
            self._lines.put_nowait({**line, "lines_lost": self._lost} if self._lost else line)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Prints what waits, for a second at most."""
        try:
            self._lines.put(None, timeout=0.5)
        except queue.Full:
            return
        self._thread.join(0.5)

    def _print(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):  # the reader is gone
                return
