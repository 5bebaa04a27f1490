"""Where in a TOML file each key stands, for errors that name the line."""

import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KeyPath = tuple[str | int, ...]


def parse(text: str) -> dict[str, Any]:
    """The document. Raises `tomllib.TOMLDecodeError`."""
    document: dict[str, Any] = tomllib.loads(text)
    return document


TOMLDecodeError = tomllib.TOMLDecodeError


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every table and key of a valid document: `("cameras", 0, "width"): 12`."""
    lines: dict[KeyPath, int] = {}
    array_sizes: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, statement in _statements(text):
        keys, is_array_item = _keys(parse(statement))
        if statement.lstrip().startswith("["):
            table = _resolve(keys, array_sizes, opens_item=is_array_item)
            lines.setdefault(table, number)
        else:
            for depth in range(1, len(keys) + 1):
                lines.setdefault((*table, *keys[:depth]), number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The smallest groups of lines that are TOML by themselves, each with its first line's number."""
    lines = text.splitlines()
    start = 0
    while start < len(lines):
        for end in range(start + 1, len(lines) + 1):
            statement = "\n".join(lines[start:end])
            try:
                document = parse(statement)
            except TOMLDecodeError:
                continue
            if document:
                yield start + 1, statement
            break
        start = end


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
