"""Where in a TOML file each key stands, for errors that name the line."""

import re
import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KeyPath = tuple[str | int, ...]

DEEPEST = 8
"""Keys of deeper tables are not noted: the configuration has none, and a key of a megabyte would fill the memory."""

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # text over several lines; two quotes may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)


def parse(text: str) -> dict[str, Any]:
    """The document. Raises `tomllib.TOMLDecodeError`."""
    document: dict[str, Any] = tomllib.loads(text)
    return document


TOMLDecodeError = tomllib.TOMLDecodeError


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every table and key of a valid document: `("cameras", 0, "width"): 12`.

    A table or list that is only implied stands where it is first named: `[mqtt.tls]` gives `("mqtt",)` a line too.
    What stands inside an inline table of several keys, or inside a list, has no line of its own.
    """
    lines: dict[KeyPath, int] = {}
    array_sizes: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, statement in _statements(text):
        keys, is_array_item = _keys(parse(statement))
        if statement.lstrip().startswith("["):
            table = _resolve(keys[:DEEPEST], array_sizes, opens_item=is_array_item)
            _note(lines, table, 1, number)
            lines[table] = number
        else:
            _note(lines, (*table, *keys[:DEEPEST]), len(table) + 1, number)
    return lines


def _note(lines: dict[KeyPath, int], path: KeyPath, shallowest: int, number: int) -> None:
    """The path and all tables on the way, from `shallowest` on, where they have no line yet."""
    for depth in range(shallowest, len(path) + 1):
        lines.setdefault(path[:depth], number)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header and each `key = value`, with its comment, and the number of its first line."""
    text = text.replace("\r\n", "\n") + "\n"
    start, line, open_brackets = 0, 1, 0
    for token in _TOKEN.finditer(text):
        open_brackets += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and open_brackets == 0:
            statement = text[start : token.start()]
            if not statement.lstrip().startswith("#") and statement.strip():
                yield line, statement
            line += statement.count("\n") + 1
            start = token.end()


def _keys(document: dict[str, Any]) -> tuple[list[str], bool]:
    """The dotted key of a one-statement document, and whether it opens an item of an array of tables."""
    keys: list[str] = []
    value: Any = document
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        keys.append(key)
    return keys, value == [{}]


def _resolve(keys: list[str], array_sizes: dict[KeyPath, int], *, opens_item: bool) -> KeyPath:
    """The full path of a table header, with the index of each array of tables on the way."""
    path: KeyPath = ()
    for depth, key in enumerate(keys):
        path = (*path, key)
        if opens_item and depth == len(keys) - 1:
            array_sizes[path] = array_sizes.get(path, 0) + 1
        if path in array_sizes:
            path = (*path, array_sizes[path] - 1)
    return path
