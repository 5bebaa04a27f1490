"""From a file to a configuration, or to every problem in it at once."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edge_agent.config.lines import KeyPath, TOMLDecodeError, key_lines, parse
from edge_agent.config.schema import AgentConfig
from edge_agent.errors import ConfigError

MAX_BYTES = 1_000_000


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
class Loaded:
    """A valid configuration; its paths are absolute. `sha256` is over its values, so comments do not count."""

    config: AgentConfig
    path: Path
    sha256: str
    lines: dict[KeyPath, int]

    def problem(self, key: KeyPath, message: str) -> Problem:
        """A problem found later, with the line of its key."""
        return Problem(str(self.path), _line_of(self.lines, key), _dotted(key), message)


def load(path: Path) -> Loaded:
    """Reads and validates the file.

    Raises:
        ConfigProblemsError: with every problem, its line and its key.
    """
    text = _read(path)
    try:
        document = parse(text)
    except TOMLDecodeError as error:
        raise ConfigProblemsError([_syntax_problem(path, str(error))]) from None
    lines = key_lines(text)
    try:
        config = AgentConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigProblemsError(list(_problems(path, error, lines))) from None
    values = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(values.encode()).hexdigest()
    return Loaded(_with_absolute_paths(config, path.absolute().parent), path, digest, lines)


def _read(path: Path) -> str:
    def problem(message: str, line: int | None = None) -> ConfigProblemsError:
        return ConfigProblemsError([Problem(str(path), line, "", message)])

    try:
        data = path.read_bytes()
    except OSError as error:
        raise problem(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise problem(f"has {len(data)} bytes; a configuration has at most {MAX_BYTES}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise problem("is not UTF-8 text; save it as UTF-8", line) from None


def _syntax_problem(path: Path, message: str) -> Problem:
    place = re.search(r"\(at line (\d+), column \d+\)", message)
    return Problem(str(path), int(place[1]) if place else None, "", f"is not valid TOML: {message}")


def _problems(path: Path, error: ValidationError, lines: dict[KeyPath, int]) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        key, fields = _walk(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "is not a key of this table" + _suggestion(str(key[-1]), fields)
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            key, message = (*key, "kind"), _kind_message(item["ctx"])
        elif not isinstance(item["input"], (dict, list, BaseModel)):
            message = f"{message[:1].lower()}{message[1:]}, not {str(item['input'])[:80]!r}"
        yield Problem(str(path), _line_of(lines, key), _dotted(key), message)


def _kind_message(context: dict[str, Any]) -> str:
    if "tag" not in context:
        return "is missing"
    expected = re.findall(r"'([^']+)'", str(context["expected_tags"]))
    suggestion = _suggestion(str(context["tag"]), expected)
    return f"there is no kind {str(context['tag'])[:80]!r}; there are {', '.join(expected)}{suggestion}"


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it may have {', '.join(known)}" if known else ""


def _walk(loc: tuple[str | int, ...]) -> tuple[KeyPath, list[str]]:
    """The path of keys as they stand in the file, and the keys that the innermost table may have.

    pydantic's own location names the `kind` of a table as if it were a key of its own; it is left out.
    """
    tables: list[type[BaseModel]] = [AgentConfig]
    key: list[str | int] = []
    fields: list[str] = []
    for item in loc:
        tagged = [table for table in tables if len(tables) > 1 and _kind_of(table) == item]
        if tagged:
            tables = tagged
            continue
        key.append(item)
        if isinstance(item, str):
            fields = sorted({name for table in tables for name in table.model_fields})
            annotations = [table.model_fields[item].annotation for table in tables if item in table.model_fields]
            tables = [found for annotation in annotations for found in _tables_in(annotation)]
    return tuple(key), fields


def _kind_of(table: type[BaseModel]) -> str | None:
    field = table.model_fields.get("kind")
    return field.default if field else None


def _tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables_in(inner)


def _line_of(lines: dict[KeyPath, int], key: KeyPath) -> int | None:
    """The line of the key, or of the innermost table around it that stands in the file."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _dotted(key: KeyPath) -> str:
    """`cameras[0].trigger.line`."""
    return "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in key).lstrip(".")


def _with_absolute_paths(table: Any, folder: Path) -> Any:
    """The same table with every relative path taken from the configuration file's folder."""
    if isinstance(table, Path):
        return folder / table
    if isinstance(table, tuple):
        return tuple(_with_absolute_paths(item, folder) for item in table)
    if isinstance(table, BaseModel):
        values = {name: _with_absolute_paths(getattr(table, name), folder) for name in type(table).model_fields}
        return table.model_copy(update={k: v for k, v in values.items() if v is not getattr(table, k)})
    return table
