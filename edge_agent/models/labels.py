"""Files that name a model's classes: plain text, text with ids, and the label maps of TensorFlow (`.pbtxt`).

The number of a class is where it stands in the model's outputs, from 0. Files count as they like: ids from 1 are those
of TensorFlow's label maps (id 1 is class 0), and a first line `???` is the background, which is no class.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edge_agent.errors import LabelsError, ModelError
from edge_agent.models.label_map import (
    CLASSES_MOST,
    NAMELESS,
    Complaint,
    begins_as_map,
    names_in,
    number_of,
    require_class,
    require_sound,
)

_BYTES_MOST = 2 << 20
_NUMBERED = re.compile(r"([0-9]+)(?:\s*:\s*|\s+)(\S.*)")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a file, and its number there, from 1."""

    number: int
    text: str


def read_labels(path: Path) -> tuple[str, ...]:
    """The name of each class, from class 0 on. A class that the file leaves out, or calls `???`, is `class_N`.

    Args:
        path: UTF-8 text with one name per line in the model's order, or with an id before each name (`0 person`,
            `1: person`), or a label map, which is known by its suffix `.pbtxt` or by its first words.

    Raises:
        ModelError: there is no such file, or something in it cannot be a name; the message has file and line.
    """
    try:
        return _labels_in(_content(path), is_map=path.suffix.lower() == ".pbtxt")
    except Complaint as complaint:
        raise LabelsError(f"{path}{complaint}") from None


def named_by(lines: Sequence[str]) -> tuple[str, ...]:
    """The same from the lines of a text, such as the labels that lie in a model file; an empty line names nothing.

    Raises:
        ModelError: there are no names in it, or ids contradict each other; the message has the line.
    """
    try:
        return _filled(_by_number([_Line(number, line.strip()) for number, line in enumerate(lines, 1)], strict=False))
    except Complaint as complaint:
        raise ModelError(f'the labels in it{complaint}; or write labels = "FILE" under [model]') from None


def _content(path: Path) -> str:
    if path.is_dir():
        raise Complaint(" is a folder; name the file with the labels in it")
    if path.exists() and not path.is_file():
        raise Complaint(" is a device, not a file with labels")
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MOST + 1)
    except (OSError, ValueError) as error:
        raise Complaint(f": the labels cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _BYTES_MOST:
        raise Complaint(f": has more than {_BYTES_MOST >> 20} MB, so it is no file with labels")
    return _text(content.removeprefix(b"\xef\xbb\xbf"))


def _text(content: bytes) -> str:
    """As UTF-8, with one kind of line end."""
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Complaint(f", line {line}: is not UTF-8 text; save the file as UTF-8") from None


def _labels_in(text: str, *, is_map: bool) -> tuple[str, ...]:
    if is_map or begins_as_map(text):
        return _filled(names_in(text))
    text = text.rstrip()
    if text.count("\n") >= CLASSES_MOST:
        raise Complaint(f", line {CLASSES_MOST + 1}: there are more than {CLASSES_MOST:,} lines; name fewer classes")
    lines = [_Line(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    return _filled(_by_number(lines, strict=True))


def _filled(named: Mapping[int, str]) -> tuple[str, ...]:
    known = {number: name for number, name in named.items() if name not in {"", NAMELESS}}
    if not known:
        raise Complaint(": there are no labels in it; write one name per line")
    return tuple(known.get(number, f"class_{number}") for number in range(max(named) + 1))


def _by_number(lines: Sequence[_Line], *, strict: bool) -> dict[int, str]:
    """The names of classes by their numbers; where it is `strict`, no line between names may be empty."""
    lines = list(lines)
    while lines and not lines[-1].text:
        lines.pop()
    named = _with_ids([line for line in lines if line.text]) or dict(enumerate(lines))
    first = min(named, default=0)
    if len(named) > 1 and 0 in named and named[0].text == NAMELESS:  # the background of TensorFlow's labelmap.txt
        del named[0]
        first = 1
    for number, line in named.items():
        if strict and not line.text:
            raise Complaint(f", line {line.number}: is empty, so class {number - first} has no name; write one")
        require_sound(line.number, line.text)
    return {number - first: line.text for number, line in named.items()}


def _with_ids(lines: Sequence[_Line]) -> dict[int, _Line] | None:
    """Names by their ids, where each line has one; None where they are names that begin with a number."""
    found = [_NUMBERED.fullmatch(line.text) for line in lines]
    rows = [
        (number_of(match[1]), _Line(line.number, match[2])) for match, line in zip(found, lines, strict=True) if match
    ]
    names = [line.text for _, line in rows if line.text != NAMELESS]
    if not rows or len(rows) < len(lines) or rows[0][0] > 1 or len(set(names)) < len(names):
        return None  # "1 cent", "2 cent", "5 cent": without the numbers they would be the same
    for (before, _), (number, line) in pairwise(rows):
        if number <= before and rows[0][0] == 0:
            raise Complaint(f", line {line.number}: the id {number} comes after {before}; each must be above the last")
        if number <= before:
            return None
    require_class(rows[-1][1].number, rows[-1][0])
    return dict(rows)
