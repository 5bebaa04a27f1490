"""As much of JSON Schema as our messages use; a word that is not known here fails the test."""

import re
from datetime import datetime
from typing import Any

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
SILENT = {"title", "description", "default", "$defs", "type"}


def violations(value: Any, schema: Any, root: dict[str, Any] | None = None, where: str = "$") -> list[str]:
    """What is wrong with the value, in words."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return [] if schema else [f"{where}: nothing is allowed here"]
    if found := _type(value, schema["type"], where) if "type" in schema else []:
        return found
    for word, rule in schema.items():
        if word in SILENT:
            continue
        found += CHECKS[word](value, rule, schema, root, where)
    return found


def _say(wrong: bool, text: str) -> list[str]:
    return [text] if wrong else []


def _type(value, rule, where):
    is_right = isinstance(value, TYPES[rule]) and (rule == "boolean" or not isinstance(value, bool))
    return _say(not is_right, f"{where}: {value!r} is no {rule}")


def _ref(value, rule, _schema, root, where):
    return violations(value, root["$defs"][rule.removeprefix("#/$defs/")], root, where)


def _any_of(value, rule, _schema, root, where):
    tries = [violations(value, option, root, where) for option in rule]
    return [] if [] in tries else [text for texts in tries for text in texts]


def _properties(value, rule, _schema, root, where):
    return [v for key in rule.keys() & value.keys() for v in violations(value[key], rule[key], root, f"{where}.{key}")]


def _additional(value, rule, schema, root, where):
    others = value.keys() - schema.get("properties", {}).keys()
    return [v for key in others for v in violations(value[key], rule, root, f"{where}.{key}")]


def _items(value, rule, schema, root, where):
    rest = value[len(schema.get("prefixItems", ())) :]
    return [v for i, item in enumerate(rest) for v in violations(item, rule, root, f"{where}[{i}]")]


def _prefix_items(value, rule, _schema, root, where):
    return [
        v
        for i, (item, part) in enumerate(zip(value, rule, strict=False))
        for v in violations(item, part, root, f"{where}[{i}]")
    ]


def _date_time(value, rule, _schema, _root, where):
    assert rule == "date-time"
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError as error:
        return [f"{where}: {error}"]
    return []


CHECKS = {
    "$ref": _ref,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "prefixItems": _prefix_items,
    "format": _date_time,
    "required": lambda v, r, _s, _o, w: [f"{w}: {key} is missing" for key in r if key not in v],
    "propertyNames": lambda v, r, _s, o, w: [x for key in v for x in violations(key, r, o, f"{w} key {key}")],
    "maxProperties": lambda v, r, _s, _o, w: _say(len(v) > r, f"{w}: more than {r}"),
    "const": lambda v, r, _s, _o, w: _say(v != r, f"{w}: {v!r} is not {r!r}"),
    "enum": lambda v, r, _s, _o, w: _say(v not in r, f"{w}: {v!r} is none of {r}"),
    "minItems": lambda v, r, _s, _o, w: _say(len(v) < r, f"{w}: fewer than {r}"),
    "maxItems": lambda v, r, _s, _o, w: _say(len(v) > r, f"{w}: more than {r}"),
    "maxLength": lambda v, r, _s, _o, w: _say(len(v) > r, f"{w}: longer than {r}"),
    "minimum": lambda v, r, _s, _o, w: _say(v < r, f"{w}: below {r}"),
    "pattern": lambda v, r, _s, _o, w: _say(not re.search(r, v), f"{w}: does not match {r}"),
}
