"""What the words mean that operators see: events, states and their reasons, codes, faults, exit codes.

The texts are data, in three files beside this one; `message_ids.toml` has the ids by which the journal knows events.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge_agent.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = {
    "event": "event",
    "log": "event of the log",
    "record": "entry of `edge-agent logs`",
    "state": "state",
    "reason": "reason of a state",
    "unknown": "code of an unknown verdict",
    "unsent": "why a verdict was not delivered",
    "refused": "why a message from others was refused",
    "arm": "word of the reject arm",
    "fault": "fault of a camera",
    "verdict": "verdict",
    "severity": "severity of an event",
    "exit": "exit code",
    "check": "check of `edge-agent doctor`",
}
"""Where a word may appear, and how people call that."""

_FOLDER = Path(__file__).parent
_FILES = ("events.toml", "log.toml", "words.toml")
_MESSAGE_ID = re.compile(r"[0-9a-f]{32}")
_IN_BRACKETS = re.compile(r"\w+\((.+)\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One word, wherever it appears.

    Attributes:
        name: the word.
        kinds: where it appears: keys of `KINDS`.
        severity: of an event, as it is published; else None.
        title: what happened, in half a line.
        meaning: what that means for the line.
        do: what to do, most likely first; empty: nothing.
        message_id: of what is logged: the journal's `MESSAGE_ID`, 32 hexadecimal digits; else None.
    """

    name: str
    kinds: tuple[str, ...]
    severity: str | None
    title: str
    meaning: str
    do: tuple[str, ...]
    message_id: str | None


@cache
def message_ids() -> Mapping[str, str]:
    """The id of each event that is logged, by its name. A file of its own, because each start of the agent reads it."""
    return MappingProxyType(_read("message_ids.toml"))


@cache
def entries() -> Mapping[str, Entry]:
    """All entries by their names, in the order of the files."""
    tables = {name: table for file in _FILES for name, table in _read(file).items()}
    return MappingProxyType({name: _entry(name, table) for name, table in tables.items()})


def lookup(word: str, others: Mapping[str, Entry] = MappingProxyType({})) -> Entry:
    """What is known of a word as somebody has read it somewhere, here or by `others`.

    `camera_lost`, `camera_lost:top`, `unknown(no_frame)`, `unknown.no_frame`, `camera-lost` or a message id.

    Raises:
        UsageError: it is not known; the message names the nearest.
    """
    known = {**entries(), **others}
    for name in _readings(word):
        if name in known:
            return known[name]
    raise UsageError(f"{word!r} is not known here{_nearest(word, known)}; `edge-agent explain` lists all that is")


def _readings(word: str) -> list[str]:
    """The names that may be meant, the most literal one first."""
    text = word.strip().lower()
    digits = text.replace("-", "")
    if _MESSAGE_ID.fullmatch(digits):
        return [name for name, message_id in message_ids().items() if message_id == digits]
    plain = re.sub(r"[\s-]+", "_", text)
    inner = _IN_BRACKETS.fullmatch(plain)
    return [text, plain, plain.partition(":")[0], plain.rpartition(".")[2], inner[1] if inner else plain]


def _nearest(word: str, known: Mapping[str, Entry]) -> str:
    names = [match for name in _readings(word) for match in get_close_matches(name, known, 3)]
    return f"; did you mean {' or '.join(dict.fromkeys(names))}?" if names else ""


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    return Entry(
        name=name,
        kinds=tuple(table["kinds"]),
        severity=table.get("severity"),
        title=table["title"],
        meaning=" ".join(table["meaning"].split()),
        do=tuple(table["do"]),
        message_id=message_ids().get(name),
    )


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))
    return document
