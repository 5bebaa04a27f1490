"""`edge-agent profile`: which board this is, and which profile it gets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from edge_agent.hardware.probe import Board
    from edge_agent.hardware.profile import Choice, Profile

app = typer.Typer(no_args_is_help=True, help="Which board this is, and which hardware profile it gets.")

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Read a copied /proc, /sys and /etc below DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
THIS_MACHINE = Path("/")


@app.command(epilog="Example: edge-agent profile detect --root copied-from-line-3 --json")
def detect(*, root: Root = THIS_MACHINE, as_json: AsJson = False) -> None:
    """Say which board this is, which profile it gets, and whether it can be served."""
    from edge_agent.hardware import power, probe, profile

    profiles = _profiles(root)
    board = probe.detect(root)
    found = _facts(board, profile.choose(board, profiles), power.power_mode(root))
    if as_json:
        _print_json(found)
    else:
        _print_facts(found)


@app.command("list", epilog="Example: edge-agent profile list")
def list_profiles(*, root: Root = THIS_MACHINE, as_json: AsJson = False) -> None:
    """List all profiles: those that came with edge-agent, and the site's own."""
    profiles = sorted(_profiles(root).values(), key=lambda profile: (not profile.supported, profile.name))
    if as_json:
        _print_json([profile.model_dump(mode="json") for profile in profiles])
    else:
        _print_profiles(profiles)


@app.command(epilog="Example: edge-agent profile show raspberry-pi-5")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `edge-agent profile list`.")],
    *,
    root: Root = THIS_MACHINE,
    as_json: AsJson = False,
) -> None:
    """Show everything that one profile says."""
    from edge_agent.hardware import profile

    profiles = _profiles(root)
    try:
        found = profile.find(profiles, name).model_dump(mode="json")
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if as_json:
        _print_json(found)
    else:
        _print_facts(found)


def _profiles(root: Path) -> "dict[str, Profile]":
    """All profiles; the site's are looked for below the root as well, so that a copied tree decides as its board."""
    from edge_agent.hardware.profile import SITE_FOLDER, load_all

    if not root.is_dir():
        raise UsageError(f"--root {root}: there is no such folder")
    return load_all(root / SITE_FOLDER.relative_to("/"))


def _facts(board: "Board", choice: "Choice", power_mode: str | None) -> dict[str, Any]:
    profile = choice.profile
    power = profile.power if profile else None
    return {
        "board": board.board,
        "soc": board.soc,
        "profile": profile.name if profile else None,
        "backend": profile.backends[0] if profile and profile.backends else None,
        "supported": choice.supported,
        "reason": choice.reason,
        "backends": list(profile.backends) if profile else [],
        "precision": profile.precision if profile and profile.supported else None,
        "threads": profile.threads if profile else None,
        "module": board.module,
        "model": board.model,
        "compatible": list(board.compatible),
        "arch": board.arch,
        "bits": board.bits,
        "cores": board.cores,
        "memory_mb": board.memory_mb,
        "cpu_features": sorted(board.cpu_features),
        "l4t": board.l4t,
        "jetpack": board.jetpack,
        "power_mode": power_mode,
        "expected_power_mode": power.mode if power else None,
    }


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))


def _print_facts(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, _words(value))
    # What a profile or a device tree says is text, not markup.
    Console(highlight=False, markup=False).print(table)


def _print_profiles(profiles: "list[Profile]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("backends", no_wrap=True)
    table.add_column("for", overflow="fold")
    for profile in profiles:
        backends = ", ".join(profile.backends) if profile.supported else "not supported"
        table.add_row(profile.name, backends, profile.description + (" (site)" if profile.site else ""))
    Console(highlight=False, markup=False).print(table)


def _words(value: Any) -> str:
    """A value as a person would write it."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return ", ".join(_words(item) for item in value) if isinstance(value, list) else str(value)
