"""`edge-agent explain`: what a word means that a log, a message or a screen has shown."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import UsageError

if TYPE_CHECKING:
    from edge_agent.app.doctor.findings import Check
    from edge_agent.catalogue import Entry

EPILOG = "Example: edge-agent explain camera_lost:top"
_WIDEST = 100
_NEEDS = {
    "copy": ", with `--root` in a copied tree too",
    "machine": ", on the device itself: with `--root` it is skipped",
    "configuration": ", on the device itself: with `--root`, or a configuration that is wrong, it is skipped",
}


def explain(
    word: Annotated[
        str,
        typer.Argument(
            metavar="[WORD]",
            help="An event, a state, a reason, a code, a camera's fault, an exit code, a check of doctor, or a MESSAGE_ID "
            "of the journal. Without it, all are listed.",
            show_default=False,
        ),
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    catalog: Annotated[
        bool, typer.Option("--catalog", help="Print the file that `journalctl -x` takes its texts from.")
    ] = False,
) -> None:
    """Say what an event, a reason or a code means, and what to do about it."""
    from edge_agent.catalogue import entries
    from edge_agent.catalogue.text import journal_catalogue

    if catalog and (word or as_json):
        raise UsageError("--catalog prints the whole file: give neither a word nor --json with it")
    if catalog:
        typer.echo(journal_catalogue(), nl=False)
    elif not word:
        _show_all([*entries().values(), *_checks().values()], as_json=as_json)
    else:
        _show(_find(word), word, as_json=as_json)


def _find(word: str) -> "Entry":
    """Checks are looked at last, because loading them takes longer than all else here."""
    from edge_agent.catalogue import lookup

    try:
        return lookup(word)
    except UsageError:
        return lookup(word, _checks())


def _checks() -> "dict[str, Entry]":
    """The checks of `edge-agent doctor`, as entries: what each finds, it says itself."""
    from edge_agent.app.doctor import CHECKS

    return {check.name: _entry_of(check) for check in CHECKS}


def _entry_of(check: "Check") -> "Entry":
    from edge_agent.catalogue import Entry

    title, meaning = f"Finds {check.tells}", f"It looks at the {check.group}{_NEEDS[check.need]}."
    do = ("See what it finds now: `edge-agent doctor --all`.",)
    return Entry(check.name, ("check",), None, title, meaning, do, None)


def _show(entry: "Entry", word: str, *, as_json: bool) -> None:
    from edge_agent.catalogue import KINDS
    from edge_agent.catalogue.text import body, wrapped

    if as_json:
        typer.echo(json.dumps(asdict(entry), indent=2))
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    where = ", ".join(KINDS[kind] + (f" ({entry.severity})" if kind == "event" else "") for kind in entry.kinds)
    typer.secho(wrapped(f"{_with_argument(entry.name, word)}: {entry.title}", width), bold=True)
    typer.echo(f"{where}\n\n{body(entry, width)}")
    if entry.message_id:
        typer.echo(f"\njournalctl MESSAGE_ID={entry.message_id}")


def _with_argument(name: str, word: str) -> str:
    """`camera_lost:top` where somebody asked for that."""
    argument = word.strip().partition(":")[2]
    return f"{name}:{argument}" if argument else name


def _show_all(found: "Sequence[Entry]", *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge_agent.catalogue import KINDS

    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    console = Console(highlight=False, markup=False)
    for kind, name in KINDS.items():
        table = Table(title=name, title_justify="left", title_style="bold", show_header=False, box=None)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for entry in found:
            if kind in entry.kinds:
                table.add_row(entry.name, entry.title)
        console.print(table)
