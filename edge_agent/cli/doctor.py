"""`edge-agent doctor`: what is wrong with this installation, and what to do."""

import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import EX_USAGE, UsageError

if TYPE_CHECKING:
    from edge_agent.app.doctor import Report
    from edge_agent.app.instances import Instance

EPILOG = "Example: edge-agent doctor --config line3"

THIS_MACHINE = Path("/")
_MARKS = {"fail": ("FAIL", "bold red"), "warn": ("warn", "yellow"), "ok": ("ok", "green"), "skip": ("skip", "dim")}

Config = Annotated[
    str | None, typer.Option("--config", "-c", metavar="NAME|FILE", help="Which agent, if there are several.")
]
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Read a copied /proc, /sys and /etc below DIR.")]


def doctor(
    config: Config = None,
    *,
    show_all: Annotated[
        bool, typer.Option("--all", "-a", help="Also show what is well, and what was skipped.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    probe_verdicts: Annotated[
        bool,
        typer.Option(
            "--probe-verdicts", help="Where no agent runs: try the topics of verdicts too, by an empty message."
        ),
    ] = False,
    root: Root = THIS_MACHINE,
) -> None:
    """Look for what is wrong, and say what to do about each thing, the worst first.

    The agent may run or not; what only it knows it is asked.
    Where it does not run, cameras are opened for a moment, and the broker
    is told once more that this device is offline.
    Exit code 1 where something failed, else 0.
    """
    from edge_agent import logs
    from edge_agent.app.doctor import document, examine, look_around

    logs.configure("error")
    instance = chosen_instance(config, root)
    context = look_around(instance, root.absolute(), probe_verdicts=probe_verdicts)
    with progress() as tell:
        reports, all_ended = examine(context, tell)
    if as_json:
        typer.echo(json.dumps(document(reports, instance), indent=2))
    else:
        _print(reports, instance, show_all=show_all)
    code = EX_USAGE if any(report.finding.level == "fail" for report in reports) else 0
    if not all_ended:  # a thread that comes back from a hanging call into an interpreter that shuts down would crash it
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


def chosen_instance(given: str | None, root: Path) -> "Instance | None":
    """The agent that is meant; none where there is none to be found, for the board can be looked at all the same."""
    from edge_agent.app import instances

    if not root.is_dir():
        raise UsageError(f"--root {root}: there is no such folder")
    if given is None and not instances.find_all(root):
        return None
    return instances.find(given, root)


def _print(reports: "list[Report]", instance: "Instance | None", *, show_all: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    shown = [report for report in reports if show_all or report.finding.level in ("fail", "warn")]
    names = {id(report): f"{report.check.name} {report.finding.about}".rstrip() for report in shown}
    indent = max((len(name) for name in names.values()), default=0) + 6
    for report in shown:
        word, style = _MARKS[report.finding.level]
        first, *others = textwrap.wrap(
            report.finding.evidence, max(20, console.width - indent), break_on_hyphens=False
        ) or [""]
        console.print(Text.assemble((f"{word:4} ", style), f"{names[id(report)]:{indent - 5}}{first}"))
        for line in others:
            console.print(" " * indent + line)
        if report.finding.fix:  # in one piece, so that it can be copied into a shell
            console.print(Text.assemble("     → ", (report.finding.fix, "cyan")), soft_wrap=True)
    console.print(_sum(reports, instance, show_all=show_all))


def _sum(reports: "list[Report]", instance: "Instance | None", *, show_all: bool) -> str:
    levels = Counter(report.finding.level for report in reports)
    which = f"{instance.name}: " if instance else ""
    hidden = "" if show_all else " (--all shows them)"
    return f"{which}{levels['fail']} failed, {levels['warn']} to look at; {levels['ok']} well, {levels['skip']} skipped{hidden}"


@contextmanager
def progress() -> "Iterator[Callable[[str], None]]":
    """A line on standard error, where a person waits there."""
    if not os.isatty(2):
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False, markup=False).status("looking …") as status:
        yield lambda name: status.update(f"looking … {name} is done")
