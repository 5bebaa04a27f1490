"""The published schemas, what does not fit them, and what a change of one breaks.

As much of JSON Schema as our messages use: about eight times as fast as `jsonschema`, so that every message of every system
test can be looked at, and a word that is not known here fails the test.
"""

import functools
import json
import operator
import re
from collections.abc import Callable
from typing import Any

from tests.fixtures import REPO

PUBLISHED = REPO / "docs" / "schemas"
VISION = re.compile(r".+/vision/[^/]+/(?P<name>[^/]+)(?P<camera>/[^/]+)?")
WITH_CAMERA = {"verdict", "result", "trigger"}
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
Check = Callable[[Any], list[str]]
SILENT = {"$schema", "$id", "title", "description", "default", "$defs", "type"}


@functools.cache
def published(name: str) -> dict[str, Any] | None:
    """The committed schema of that name; None where there is none."""
    path = PUBLISHED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def misfits(topic: str, payload: bytes) -> list[str]:
    """What is wrong with a message below `…/vision/DEVICE/`, in words; messages of other topics are nobody's business."""
    if "/vision/" not in topic:
        return []
    place = VISION.fullmatch(topic)
    name = place["name"] if place else ""
    has_camera = place is not None and place["camera"] is not None
    if name == "config" or published(name) is None or has_camera != (name in WITH_CAMERA):
        return [f"{topic}: there is no such topic"]
    try:
        message = json.loads(payload, parse_constant=_refuse)
    except ValueError as error:
        return [f"{topic}: {payload[:60]!r} is no JSON: {error}"]
    return [f"{topic}: ${words}" for words in _check_of(name)(message)]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def breaks(old: Any, new: Any, where: str = "$") -> list[str]:
    """What those who rely on the old schema cannot rely on with the new one, in words.

    A schema keeps its number as long as all that it ever allowed fits it and readers find what they know: nothing may
    change but that keys come which nobody has to send.
    """
    return _breaks(_plain(old, old), _plain(new, new), where)


def _plain(schema: Any, root: dict[str, Any]) -> Any:
    """Without what means nothing to a reader, and with the definitions in their places."""
    if isinstance(schema, list):
        parts = [_plain(part, root) for part in schema]
        return sorted(parts) if all(isinstance(part, str) for part in parts) else parts
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    plain = {word: _plain(rule, root) for word, rule in schema.items() if word == "type" or word not in SILENT}
    if keys := schema.get("properties"):
        plain["properties"] = {key: _plain(part, root) for key, part in keys.items()}
    return plain


def _breaks(old: Any, new: Any, where: str) -> list[str]:
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [words for pair in zip(old, new, strict=True) for words in _breaks(*pair, where)]
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [f"{where}: {old!r} became {new!r}"] if old != new else []
    keys, known = old.get("properties", {}), new.get("properties", {})
    found = [f"{where}.{key}: is gone" for key in keys if key not in known]
    found += [words for key in keys.keys() & known.keys() for words in _breaks(keys[key], known[key], f"{where}.{key}")]
    must, now_must = set(old.get("required", ())), set(new.get("required", ()))
    found += [f"{where}.{key}: need not be there any more" for key in sorted(must - now_must)]
    found += [f"{where}.{key}: must be there now" for key in sorted(now_must - must)]
    for word in sorted((old.keys() | new.keys()) - {"properties", "required"}):
        found += _breaks(old.get(word), new.get(word), f"{where} {word}")
    return found


def violations(value: Any, schema: Any) -> list[str]:
    """What is wrong with the value, in words."""
    return [f"${words}" for words in _compiled(schema, schema)(value)]


@functools.cache
def _check_of(name: str) -> Check:
    return _compiled(published(name), published(name))


def _compiled(schema: Any, root: Any) -> Check:
    """What says of a value what is wrong with it, each time after the place: `.seq: below 1`. Nothing where all is well."""
    if isinstance(schema, bool):
        return lambda _: [] if schema else [": nothing is allowed here"]
    checks = [CHECKS[word](rule, schema, root) for word, rule in schema.items() if word not in SILENT]
    is_of_type = _of_type(schema["type"]) if "type" in schema else lambda _: True

    def check(value: Any) -> list[str]:
        if not is_of_type(value):
            return [f": {value!r} is no {schema['type']}"]
        return [words for each in checks for words in each(value)]

    return check


def _of_type(word: str) -> Callable[[Any], bool]:
    types = TYPES[word]
    if word in ("integer", "number"):  # Python takes True for 1
        return lambda value: isinstance(value, types) and not isinstance(value, bool)
    return lambda value: isinstance(value, types)


def _unless(is_well: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any, Any], Check]:
    """The maker of a simple check: of the value and the rule."""
    return lambda rule, _schema, _root: lambda v: [] if is_well(v, rule) else [f": {v!r} {words} {rule!r}"]


def _ref(rule, _schema, root):
    return _compiled(root["$defs"][rule.removeprefix("#/$defs/")], root)


def _any_of(rule, _schema, root):
    options = [_compiled(option, root) for option in rule]

    def check(value):
        told = []
        for option in options:
            if not (found := option(value)):
                return []
            told += found
        return told

    return check


def _properties(rule, _schema, root):
    checks = {key: _compiled(part, root) for key, part in rule.items()}
    return lambda v: [f".{key}{words}" for key in checks.keys() & v.keys() for words in checks[key](v[key])]


def _additional(rule, schema, root):
    check, known = _compiled(rule, root), schema.get("properties", {}).keys()
    return lambda v: [f".{key}{words}" for key in v.keys() - known for words in check(v[key])]


def _property_names(rule, _schema, root):
    check = _compiled(rule, root)
    return lambda v: [f" key {key}{words}" for key in v for words in check(key)]


def _items(rule, schema, root):
    check, first = _compiled(rule, root), len(schema.get("prefixItems", ()))
    return lambda v: [f"[{i}]{words}" for i, item in enumerate(v[first:], first) for words in check(item)]


def _prefix_items(rule, _schema, root):
    checks = [_compiled(part, root) for part in rule]
    return lambda v: [
        f"[{i}]{words}" for i, (check, item) in enumerate(zip(checks, v, strict=False)) for words in check(item)
    ]


def _required(rule, _schema, _root):
    return lambda v: [f": {key} is missing" for key in rule if key not in v]


def _date_time(rule, _schema, _root):
    assert rule == "date-time"
    return lambda v: [] if UTC.fullmatch(v) else [f": {v!r} is no date and time"]


CHECKS: dict[str, Callable[[Any, Any, Any], Check]] = {
    "$ref": _ref,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "items": _items,
    "prefixItems": _prefix_items,
    "required": _required,
    "format": _date_time,
    "const": _unless(operator.eq, "is not"),
    "enum": _unless(lambda v, r: v in r, "is none of"),
    "minItems": _unless(lambda v, r: len(v) >= r, "has fewer items than"),
    "maxItems": _unless(lambda v, r: len(v) <= r, "has more items than"),
    "minLength": _unless(lambda v, r: len(v) >= r, "is shorter than"),
    "maxLength": _unless(lambda v, r: len(v) <= r, "is longer than"),
    "maxProperties": _unless(lambda v, r: len(v) <= r, "has more keys than"),
    "minimum": _unless(operator.ge, "is below"),
    "pattern": _unless(lambda v, r: re.search(r, v) is not None, "does not match"),
}
