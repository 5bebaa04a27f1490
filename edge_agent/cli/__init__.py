"""The commands. One file per group; heavy imports stay inside the command."""

import errno
import os
import sys
from typing import Annotated, Any

import typer

import edge_agent
from edge_agent.cli import (
    bench,
    bundle,
    check,
    demo,
    detect,
    doctor,
    explain,
    logs,
    model,
    profile,
    reject_arm,
    run,
    schema,
    simulate_line,
    snapshot,
    status,
    why,
)
from edge_agent.errors import EX_USAGE, EdgeAgentError, FatalError

TECHNICIANS = "What a technician asks"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Real-time visual inspection at the edge: frames in, verdicts out, images stay on the device.",
)
app.command(epilog=run.EPILOG)(run.run)
app.command(epilog=check.EPILOG)(check.check)
app.command(epilog=demo.EPILOG)(demo.demo)
app.command(epilog=detect.EPILOG)(detect.detect)
app.command(epilog=bench.EPILOG)(bench.bench)
app.command("simulate-line", epilog=simulate_line.EPILOG)(simulate_line.simulate_line)
app.command(epilog=snapshot.EPILOG)(snapshot.snapshot)
app.command(epilog=reject_arm.EPILOG)(reject_arm.reject_arm)
app.command(epilog=schema.EPILOG)(schema.schema)
app.command(epilog=status.EPILOG, rich_help_panel=TECHNICIANS)(status.status)
app.command(epilog=doctor.EPILOG, rich_help_panel=TECHNICIANS)(doctor.doctor)
app.command(epilog=logs.EPILOG, rich_help_panel=TECHNICIANS)(logs.logs)
app.command(epilog=why.EPILOG, rich_help_panel=TECHNICIANS)(why.why)
app.command(epilog=explain.EPILOG, rich_help_panel=TECHNICIANS)(explain.explain)
app.command(epilog=bundle.EPILOG, rich_help_panel=TECHNICIANS)(bundle.bundle)
app.add_typer(model.app, name="model")
app.add_typer(profile.app, name="profile")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(edge_agent.__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


# Newer releases of typer bring their own copy of click, so its base error is reached through typer's public one.
_UsageError: Any = typer.BadParameter.__base__


_PIXELS_MOST = 1 << 27
"""Of one picture: a file of a few bytes may announce so many that decoding it takes all memory."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Runs a command; errors become one message and an exit code, never a traceback."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(_PIXELS_MOST))  # OpenCV takes it when it is imported
    try:
        sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        error.message = error.message.removeprefix("Value error, ")  # typer has it of words that are none of a choice
        error.show()
        sys.exit(EX_USAGE)
    except EdgeAgentError as error:
        typer.echo(f"edge-agent: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, FatalError) else EX_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        typer.echo(f"edge-agent: the output cannot be written: {error.strerror}", err=True)
        sys.exit(EX_USAGE)
