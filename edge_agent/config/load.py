"""From a file to a configuration, or to every problem in it at once."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edge_agent.config import words
from edge_agent.config.lines import KeyPath, TOMLDecodeError, key_lines, parse
from edge_agent.config.problems import ConfigProblemsError, Problem, dotted, faults
from edge_agent.config.schema import ID_TAKEN, ONE_PUBLISHER, AgentConfig, taken_ids

MAX_BYTES = 256_000
_SECRETS = ("password_file", "key")
Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration; its paths are absolute. `sha256` is over its values, so comments do not count."""

    config: AgentConfig
    path: Path
    sha256: str
    lines: dict[KeyPath, int]

    def problem(self, key: KeyPath, message: str) -> Problem:
        """A problem found later, with the line of its key."""
        return Problem(str(self.path), _line_of(self.lines, key), dotted(key), message)


def load(path: Path) -> Loaded:
    """Reads and validates the file.

    Raises:
        ConfigProblemsError: with every problem, its line and its key.
    """
    text = _read(path)
    document, as_json = _parse(path, text)
    lines = key_lines(text)
    try:
        config = AgentConfig.model_validate_json(as_json, strict=True)
    except ValidationError as error:
        raise _in_order(path, lines, dict([*faults(error), *_hidden_faults(document)])) from None
    values = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(values.encode()).hexdigest()
    loaded = Loaded(_with_absolute_paths(config, path.absolute().parent), path, digest, lines)
    if problems := [loaded.problem(key, message) for key, message in _blind_rules(config)]:
        raise ConfigProblemsError(problems)
    return loaded


def load_settings(path: Path, model: type[Settings]) -> Settings:
    """Reads and validates the file of another program than the agent; its paths are absolute.

    Raises:
        ConfigProblemsError: with every problem, its line and its key.
    """
    text = _read(path)
    _, as_json = _parse(path, text)
    try:
        settings = model.model_validate_json(as_json, strict=True)
    except ValidationError as error:
        raise _in_order(path, key_lines(text), dict(faults(error, model))) from None
    absolute: Settings = _with_absolute_paths(settings, path.absolute().parent)
    return absolute


def _in_order(path: Path, lines: dict[KeyPath, int], found: Mapping[KeyPath, str]) -> ConfigProblemsError:
    problems = [Problem(str(path), _line_of(lines, key), dotted(key), message) for key, message in found.items()]
    return ConfigProblemsError(sorted(problems, key=lambda problem: problem.line or 0))


def _read(path: Path) -> str:
    def problem(message: str, line: int | None = None) -> ConfigProblemsError:
        return ConfigProblemsError([Problem(str(path), line, "", message)])

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise problem(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise problem(f"is too large for a configuration, which has at most {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise problem("is not UTF-8 text; save it as UTF-8", line) from None


def _parse(path: Path, text: str) -> tuple[dict[str, Any], str]:
    """What the file holds, and the same as JSON.

    For in JSON strict means the file's own types: "3" is no number and true is not 1, but a list will do for a tuple and
    text for a path.
    """
    try:
        document = parse(text)
        return document, json.dumps(document, default=str)
    except TOMLDecodeError as error:
        message, line = words.bad_syntax(str(error))
    except RecursionError:
        message, line = "is nested too deeply", 1
    except ValueError:  # Python neither reads nor writes numbers of more than 4300 digits
        message, line = "holds a number of too many digits", _line_of_longest_word(text)
    line = line or len(text.rstrip().splitlines())
    raise ConfigProblemsError([Problem(str(path), line, "", message)])


def _line_of_longest_word(text: str) -> int:
    longest = [max(map(len, line.split()), default=0) for line in text.splitlines()]
    return longest.index(max(longest)) + 1


def _hidden_faults(document: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What pydantic looks at only where everything inside is right."""
    if ("mqtt" in document) == ("stdout" in document):
        yield (), ONE_PUBLISHER
    cameras = document.get("cameras")
    tables = [camera if isinstance(camera, dict) else {} for camera in cameras] if isinstance(cameras, list) else []
    for index in taken_ids([camera.get("id") for camera in tables]):
        yield ("cameras", index, "id"), ID_TAKEN


def _blind_rules(config: AgentConfig) -> Iterator[tuple[KeyPath, str]]:
    """Rules that look for scores which the model's threshold has dropped before."""
    conf = config.model.conf
    for index, camera in enumerate(config.cameras):
        for number, rule in enumerate(camera.rules):
            unsure = getattr(rule, "unsure_score", conf)
            if unsure < conf:
                given = f"{unsure:g}" if "unsure_score" in rule.model_fields_set else f"{unsure:g} (the default)"
                why = f"{given} is below model.conf, {conf:g}: the rule never sees such detections"
                yield ("cameras", index, "rules", number, "unsure_score"), f"{why}; lower conf, or raise unsure_score"


def _line_of(lines: dict[KeyPath, int], key: KeyPath) -> int | None:
    """The line of the key, or of the innermost table around it that stands in the file."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return None


def _with_absolute_paths(table: Any, folder: Path) -> Any:
    """The same table with every relative path taken from the configuration file's folder."""
    if isinstance(table, Path):
        return folder / table
    if isinstance(table, tuple):
        return tuple(_with_absolute_paths(item, folder) for item in table)
    if isinstance(table, BaseModel):
        values = {name: getattr(table, name) for name in type(table).model_fields if not _is_credential(table, name)}
        values = {name: _with_absolute_paths(value, folder) for name, value in values.items()}
        return table.model_copy(update={k: v for k, v in values.items() if v is not getattr(table, k)})
    return table


def _is_credential(table: BaseModel, name: str) -> bool:
    """Whether a secret is the bare name of a systemd credential: its user looks it up there, so it stays a name."""
    path, folder = getattr(table, name), os.environ.get("CREDENTIALS_DIRECTORY")
    is_bare = name in _SECRETS and isinstance(path, Path) and path.name == str(path)
    return is_bare and folder is not None and Path(folder, path).is_file()
