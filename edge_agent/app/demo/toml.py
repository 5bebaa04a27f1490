"""Writes TOML: what a configuration holds, as a file that a person can read."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def document(tables: Mapping[str, Any]) -> str:
    """A whole file: each table under its heading, and a list of tables as `[[name]]`; what is deeper stands inline."""
    blocks = []
    for name, table in tables.items():
        if isinstance(table, Mapping):
            blocks.append(f"[{name}]\n{keys(table)}")
        else:
            blocks += [f"[[{name}]]\n{keys(one)}" for one in table]
    return "\n\n".join(blocks) + "\n"


def keys(table: Mapping[str, Any]) -> str:
    """`key = value`, one a line; what is None has no place in TOML and is left out."""
    return "\n".join(f"{key} = {value(item)}" for key, item in table.items() if item is not None)


def value(item: Any) -> str:
    """One value."""
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, (int, float)):
        return repr(item) if math.isfinite(item) else str(item)
    if isinstance(item, (str, Path)):
        return json.dumps(str(item), ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's own escapes, but for one
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{key} = {value(one)}" for key, one in item.items() if one is not None) + "}"
    if isinstance(item, Sequence):
        return "[" + ", ".join(map(value, item)) + "]"
    raise TypeError(f"{type(item).__name__} cannot be written as TOML")
