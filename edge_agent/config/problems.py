"""From pydantic's errors to problems at keys of the file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge_agent.config import words
from edge_agent.config.lines import KeyPath
from edge_agent.config.schema import AgentConfig
from edge_agent.errors import ConfigError

_NO_TABLE = ("model_type", "model_attributes_type", "dict_type")
_NO_KIND = ("union_tag_invalid", "union_tag_not_found")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, and where."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigProblemsError(ConfigError):
    """All that is wrong with a configuration."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: `siblings` are the keys of the table around it, `tables` what may stand there itself."""

    key: KeyPath
    siblings: tuple[str, ...]
    tables: tuple[type[BaseModel], ...]


def faults(error: ValidationError, root: type[BaseModel] = AgentConfig) -> Iterator[tuple[KeyPath, str]]:
    """Each key of the file, whose model is `root`, that is wrong, with the reason."""
    by_key: dict[KeyPath, tuple[_Place, list[ErrorDetails]]] = {}
    for item in _without_echoes(error.errors(include_url=False)):
        place = _walk(item["loc"], root)
        by_key.setdefault(place.key, (place, []))[1].append(item)
    for place, items in by_key.values():
        yield _fault(place, items)


def dotted(key: KeyPath) -> str:
    """`cameras[0].trigger.line`."""
    return "".join(f"[{item}]" if isinstance(item, int) else f".{_quoted(item)}" for item in key).lstrip(".")


def _without_echoes(items: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what pydantic adds: that a list is too short, because an item of it is wrong."""
    places = [item["loc"] for item in items]
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(place != item["loc"] and place[: len(item["loc"])] == item["loc"] for place in places)
    ]


def _fault(place: _Place, items: list[ErrorDetails]) -> tuple[KeyPath, str]:
    key, item = place.key, items[0]
    if item["type"] == "extra_forbidden":
        return key, words.not_a_key(str(key[-1]), place.siblings)
    if item["type"] == "missing":
        return key, "is missing"
    if item["type"] in _NO_KIND:
        kinds = [kind for table in place.tables if (kind := _kind_of(table))]
        return (*key, "kind"), words.not_a_kind(item["ctx"].get("tag"), kinds)
    if item["type"] in _NO_TABLE:
        return key, f"must be a table{_header(key, '[{}]')}, not {words.value(item['input'])}"
    if item["type"] == "tuple_type" and place.tables:
        return key, f"must be a list of tables{_header(key, '[[{}]]')}, not {words.value(item['input'])}"
    return _at_its_key(place, words.wrong_value(items))


def _at_its_key(place: _Place, message: str) -> tuple[KeyPath, str]:
    """What is said of a whole table often begins with the name of one of its keys: `max must not be below min`."""
    begins = re.match(r"(\w+)(?:: | (?=must |is ))", message)
    if begins and any(begins[1] in table.model_fields for table in place.tables):
        return (*place.key, begins[1]), message[begins.end() :]
    return place.key, message


def _header(key: KeyPath, brackets: str) -> str:
    """How to write the table; nothing for an item of a list."""
    if not key or isinstance(key[-1], int):
        return ""
    return ": write " + brackets.format(".".join(str(item) for item in key if not isinstance(item, int)))


def _walk(loc: tuple[str | int, ...], root: type[BaseModel]) -> _Place:
    """Where pydantic means, as it stands in the file.

    Its own names for the members of a union are left out: the `kind` of a table, and words like `constrained-int`
    behind a key that takes several types.
    """
    tables: list[type[BaseModel]] = [root]
    key: list[str | int] = []
    siblings: tuple[str, ...] = ()
    for item in loc:
        tagged = [table for table in tables if len(tables) > 1 and _kind_of(table) == item]
        if tagged:
            tables = tagged
            continue
        if isinstance(item, str):
            if not tables:
                break
            siblings = tuple(sorted({name for table in tables for name in table.model_fields}))
            annotations = [table.model_fields[item].annotation for table in tables if item in table.model_fields]
            tables = [found for annotation in annotations for found in _tables_in(annotation)]
        key.append(item)
    return _Place(tuple(key), siblings, tuple(tables))


def _kind_of(table: type[BaseModel]) -> str | None:
    field = table.model_fields.get("kind")
    return field.default if field else None


def _tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables_in(inner)


def _quoted(name: str) -> str:
    """A key as TOML writes it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) else json.dumps(name[:64])
