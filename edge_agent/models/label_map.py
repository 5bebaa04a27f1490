"""Label maps of TensorFlow (`.pbtxt`): entries with an id and a name, in protobuf's text format."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

CLASSES_MOST = 100_000
NAMELESS = "???"
"""What TensorFlow writes in place of a name: the background, or a class without one."""
_LABEL_MOST = 200
_DIGITS_MOST = 12  # a longer number is absurd, and slow to read
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<word>[-+\w.]+)
    | (?P<text>"(?:[^"\\\n]|\\.){0,999}" | '(?:[^'\\\n]|\\.){0,999}')
    | (?P<sign>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_WHOLE = re.compile(r"[0-9]+")
_FIELDS = ("id", "name", "display_name")
_OPENING, _CLOSING = ("{", "<"), ("}", ">")
_EXAMPLE = "write item { id: 1 name: 'cap' }, or a text file with one name per line"


class Complaint(Exception):  # noqa: N818 - a sentence on its way to the file's name
    """What is wrong, without the file's name; with the line's number where it is one line."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of a label map; `line` is where it begins. What it does not give is empty."""

    line: int
    id: int
    name: str
    display_name: str

    @property
    def label(self) -> str:
        """The name for people, where there is one: `name` may be a code such as /m/01g317."""
        return self.display_name or self.name

    @property
    def is_background(self) -> bool:
        """Id 0 is the background's in TensorFlow's label maps (`label_map_util`)."""
        return self.id == 0 and bool({self.name, self.display_name} & {"background", NAMELESS})


def begins_as_map(text: str) -> bool:
    """Whether the first words of a text are those of a label map."""
    try:
        words = [word for _, word in islice(_tokens(text), 2)]
    except Complaint:
        return False
    return words[:1] == ["item"] and words[1:] in ([":"], ["{"], ["<"])


def names_in(text: str) -> dict[int, str]:
    """The names of classes by their numbers: TensorFlow's ids begin at 1, unless there is a class of id 0.

    Raises:
        Complaint: the text is no label map, or two entries have one id.
    """
    by_id: dict[int, _Item] = {}
    for item in _items(text):
        if item.id in by_id:
            raise Complaint(f", line {item.line}: the id {item.id} is that of line {by_id[item.id].line} already")
        by_id[item.id] = item
    if 0 in by_id and by_id[0].is_background:
        del by_id[0]
    first = 0 if 0 in by_id else 1
    return {number - first: item.label for number, item in by_id.items()}


def _items(text: str) -> Iterator[_Item]:
    """The entries of a label map, which is a message in protobuf's text format."""
    tokens = _tokens(text)
    for line, word in tokens:
        following = next(tokens, (line, ""))[1] if word == "item" else word
        following = next(tokens, (line, ""))[1] if following == ":" else following
        if following not in _OPENING:
            raise Complaint(f", line {line}: {word[:40]!r} begins no entry of a label map; {_EXAMPLE}")
        yield _item(line, _fields(tokens, line))


def _fields(tokens: Iterator[tuple[int, str]], begin: int) -> dict[str, str]:
    """What is written behind the keys that count, up to the entry's end; what lies deeper is passed over."""
    fields: dict[str, str] = {}
    depth, key, before = 1, "", ""
    for _, word in tokens:
        if word in _OPENING:
            depth += 1
        elif word in _CLOSING:
            depth -= 1
        elif depth == 1 and before == ":":
            fields |= {key: word} if key in _FIELDS else {}
        elif word != ":":
            key = word
        if depth == 0:
            return fields
        before = word
    raise Complaint(f", line {begin}: the item that begins here has no end; copy the file again")


def _item(line: int, fields: Mapping[str, str]) -> _Item:
    written = fields.get("id", "")
    if not _WHOLE.fullmatch(written):
        problem = f"the id {written[:40]!r} is no whole number from 0 on" if written else "the item here has no id"
        raise Complaint(f", line {line}: {problem}; {_EXAMPLE}")
    item = _Item(line, number_of(written), *(_unquoted(line, fields.get(key, "")) for key in ("name", "display_name")))
    require_class(line, item.id)
    if not item.label:
        raise Complaint(f", line {line}: the item with the id {item.id} has no name; {_EXAMPLE}")
    require_sound(line, item.label)
    return item


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    """Words, quoted texts and signs, each with its line."""
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position : position + 40].partition("\n")[0]
            raise Complaint(f", line {line}: {rest!r} cannot stand in a label map; {_EXAMPLE}")
        if match.lastgroup:
            yield line, match[0]
        line += match[0].count("\n")
        position = match.end()


def _unquoted(line: int, token: str) -> str:
    if token[:1] not in {'"', "'"}:
        return token
    try:
        return _ESCAPE.sub(_unescaped, token[1:-1].encode()).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Complaint(f", line {line}: {token[:40]} is not UTF-8 text; save the file as UTF-8") from None


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, sign = match.groups()
    if sign:
        return _ESCAPED.get(sign, sign)
    return bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)])


def number_of(written: str) -> int:
    """The number in these digits."""
    return int(written) if len(written) <= _DIGITS_MOST else 10**_DIGITS_MOST


def require_class(line: int, number: int) -> None:
    """That a class may have this number."""
    if number >= CLASSES_MOST:
        raise Complaint(f", line {line}: the id {number} is above {CLASSES_MOST - 1:,}; no model has so many classes")


def require_sound(line: int, label: str) -> None:
    """That this may be a name."""
    if not label.isprintable():
        raise Complaint(f", line {line}: {label[:40]!r} has characters that cannot be printed")
    if len(label) > _LABEL_MOST:
        raise Complaint(f", line {line}: has {len(label)} characters; a name has at most {_LABEL_MOST}")
