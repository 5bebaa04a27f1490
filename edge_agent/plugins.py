"""Kinds are files: the file name is the word in the configuration. Listing them imports nothing; nothing is registered."""

import importlib
import pkgutil
from functools import cache
from typing import Any, Literal

Seam = Literal["cameras", "backends", "decoders", "rules", "publishers", "sensors"]


@cache
def kinds(seam: Seam) -> tuple[str, ...]:
    """The names of the kinds, in alphabetical order."""
    package = importlib.import_module(f"edge_agent.{seam}")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def load(seam: Seam, kind: str) -> Any:
    """The module of a kind. Each has `create`, and but for sensors `Config`; vendor libraries are imported only in `create`.

    The one place where types end: what `create` returns is checked against its port in the module itself.
    """
    if kind not in kinds(seam):
        raise ValueError(f"{seam}: there is no kind {kind!r}; there are {', '.join(kinds(seam))}")
    return importlib.import_module(f"edge_agent.{seam}.{kind}")


def configs(seam: Seam) -> dict[str, Any]:
    """The `Config` of every kind, by its name."""
    return {kind: load(seam, kind).Config for kind in kinds(seam)}
