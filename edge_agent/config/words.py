"""What is wrong, in a person's words: pydantic and tomllib speak to programmers."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from edge_agent.logs import clean

_LONGEST = 80  # characters of a value or a key that are shown

_WANTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "path_type": "text in quotes",
    "string_type": "text in quotes",
    "tuple_type": "a list in square brackets",
}
"""By pydantic's names (pydantic_core's `ErrorType`): what "must be …" goes on with."""

_SIZES = {
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} items, not {actual_length}",
    "too_short": "must have at least {min_length} items, not {actual_length}",
}

_SYNTAX = (
    (r"Cannot overwrite a value|Duplicate inline table key.*", "this key stands there already"),
    (r"Cannot declare .* twice", "this table stands there already"),
    (r"Cannot (mutate immutable|redefine) namespace.*", "this table was written further up and cannot be added to"),
    (r"Invalid value", "there is no value, or none that TOML knows; text needs quotes"),
    (r"Invalid statement", "this is neither a [table] nor key = value"),
    (r"Illegal character '\\n'", "the text has no closing quote"),
)
"""What tomllib says, and in which words we say it."""


def wrong_value(items: Sequence[ErrorDetails]) -> str:
    """What must stand at a key, and what stands there. Of a key that takes several types, each has its say."""
    first = items[0]
    if first["type"] == "too_short" and first["ctx"]["actual_length"] == 0:
        return "must not be empty"
    if first["type"] in _SIZES and len(items) == 1:
        return _SIZES[first["type"]].format(**first["ctx"])
    wanted = dict.fromkeys(_wanted(item) for item in items if item["type"] in _WANTED)
    message = "must be " + ", or ".join(wanted) if wanted else first["msg"].removeprefix("Value error, ")
    choices = [word for item in items if item["type"] == "literal_error" for word in _quoted(item["ctx"]["expected"])]
    hint = did_you_mean(str(first["input"]), choices)
    shown = value(first["input"])
    return f"{message}{f', not {shown}' if wanted or _is_plain(first['input']) else ''}{hint}"


def value(given: Any) -> str:
    """A value as TOML writes it, cut and without secrets."""
    if isinstance(given, list | tuple):
        return "a list"
    if isinstance(given, Mapping):
        return "a table"
    if isinstance(given, bool):
        return str(given).lower()
    return repr(clean(given)[:_LONGEST]) if isinstance(given, str) else str(given)[:_LONGEST]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A suggestion, or nothing."""
    close = difflib.get_close_matches(word[:_LONGEST], known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def not_a_key(word: str, known: Sequence[str]) -> str:
    """For a key that the table does not have: the one meant, or all that it has."""
    hint = did_you_mean(word, known) or (f"; it may have {', '.join(known)}" if known else "")
    return f"is not a key of this table{hint}"


def not_a_kind(word: Any, known: Sequence[str]) -> str:
    """For a `kind` that there is not, or that is not there (None)."""
    there_are = f"there are {', '.join(known)}"
    if word is None:
        return f"is missing; {there_are}"
    return f"there is no kind {value(word)}; {there_are}{did_you_mean(str(word), known)}"


def bad_syntax(message: str) -> tuple[str, int | None]:
    """What tomllib says, in other words; and the line, None for the end of the document."""
    message, _, place = message.partition(" (at ")
    for pattern, words in _SYNTAX:
        message = re.sub(f"^({pattern})$", words, message)
    line = re.search(r"line (\d+)", place)
    return f"is not valid TOML: {message}", int(line[1]) if line else None


def _wanted(item: ErrorDetails) -> str:
    numbers = {name: f"{it:.12g}" if isinstance(it, float) else it for name, it in item.get("ctx", {}).items()}
    return _WANTED[item["type"]].format(**numbers)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def _is_plain(given: Any) -> bool:
    return isinstance(given, str | int | float)
