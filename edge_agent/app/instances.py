"""Which agent a command is about, and where its things are.

Commands that look after the fact must find them with a configuration that is wrong, so it is read leniently here.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.app.places import SERVICE_CONFIGURATIONS, SERVICE_RUNTIME, SERVICE_STATE, folder_name, state_folder
from edge_agent.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIVE = Path("/")
SUFFIX = ".toml"
_MOST_BYTES = 256_000  # of a configuration
_TABLE = re.compile(r"^\s*\[+\s*([\w.-]+)\s*\]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Instance:
    """An agent of this device, running or not.

    Args:
        name: that of its configuration, `NAME.toml`, and of its service, `edge-agent@NAME`.
        config: its configuration; there may be no such file any more.
        own_folder: where it keeps what must outlive it; None where the configuration does not say which device it is.
        runtime: where its socket is; None where it is not known.
        is_service: it lies where the configurations of services are.
    """

    name: str
    config: Path | None
    own_folder: Path | None
    runtime: Path | None
    is_service: bool


def find(given: str | None, root: Path = LIVE) -> Instance:
    """The agent of a file, of a service's name, or the only one of this device.

    Raises:
        UsageError: there is none, or one of several must be named.
    """
    folder = _below(root, SERVICE_CONFIGURATIONS)
    if given is not None:
        return _instance(_file_of(given, folder), root)
    found = find_all(root)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(instance.name for instance in found)
        raise UsageError(f"{folder} has several configurations: choose with --config one of {names}")
    raise UsageError(f"{folder} has no configuration of an agent: name one with --config FILE")


def find_all(root: Path = LIVE) -> list[Instance]:
    """Every agent that has a configuration where those of services are, by name.

    Raises:
        UsageError: the folder may not be read.
    """
    folder = _below(root, SERVICE_CONFIGURATIONS)
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}; {JOIN}") from None
    return [_instance(path, root) for path in files if _is_agents(path)]


JOIN = "use sudo, or become a member of its group: sudo usermod -aG edge-agent $USER, and log in again"
"""What somebody does who may not look at a service."""


def _file_of(given: str, folder: Path) -> Path:
    path = Path(given)
    try:
        if path.is_file():
            return path
        if path.name == given and (named := folder / f"{given.removesuffix(SUFFIX)}{SUFFIX}").is_file():
            return named
    except PermissionError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}; {JOIN}") from None
    known = ", ".join(sorted(one.stem for one in folder.glob(f"*{SUFFIX}"))) or "none"
    raise UsageError(f"--config {given}: there is no such file, and no such name in {folder} (there: {known})")


def _instance(path: Path, root: Path) -> Instance:
    is_service = path.absolute().parent == _below(root, SERVICE_CONFIGURATIONS)
    own = _own_folder(path, root, is_service=is_service)
    runtime = _below(root, SERVICE_RUNTIME) / path.stem
    return Instance(path.stem, path, own, runtime if is_service and _exists(runtime) else own, is_service)


def _own_folder(path: Path, root: Path, *, is_service: bool) -> Path | None:
    """As `places.own_folder`; where several are possible, the first that is there, a service's first for a service."""
    document = _read(path)
    if folder := _text(document, "records", "folder"):
        return path.absolute().parent / folder
    device = _text(document, "device", "id")
    if device is None or "/" in device:
        return None
    states = (_below(root, SERVICE_STATE), state_folder())
    candidates = [state / folder_name(device) for state in (states if is_service else reversed(states))]
    return next((folder for folder in candidates if _exists(folder)), candidates[0])


def _read(path: Path) -> dict[str, Any]:
    """The document, or what can be understood of a file that is no TOML; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return {}
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (RecursionError, ValueError):
        return _read_tables(text)
    return document


def _read_tables(text: str) -> dict[str, Any]:
    """The tables of a broken file with their plain texts: `{"device": {"id": "cap-01"}}`."""
    heads = list(_TABLE.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    tables: dict[str, Any] = {}
    for head, end in zip(heads, ends, strict=False):
        pairs = re.findall(r"""^\s*(\w+)\s*=\s*["']([^"'\n]*)["']""", text[head.end() : end], re.MULTILINE)
        tables.setdefault(head[1], {}).update(pairs)
    return tables


def _is_agents(path: Path) -> bool:
    """Other programs keep theirs in the same folder. A file that may not be read may be one."""
    document = _read(path)
    return not document or "cameras" in document or "model" in document


def _text(document: dict[str, Any], table: str, key: str) -> str | None:
    value = document.get(table)
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _exists(path: Path) -> bool:
    """What one may not look at is there."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
