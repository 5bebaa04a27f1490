"""The published schemas, what does not fit them, and what a change of one breaks.

`jsonschema-rs` takes some microseconds for a message, so every message of every system test can be looked at.
"""

import functools
import json
import re
from typing import Any

from jsonschema_rs import Draft202012Validator

from tests.fixtures import REPO

PUBLISHED = REPO / "docs" / "schemas"
VISION = re.compile(r".+/vision/[^/]+/(?P<name>[^/]+)(?P<camera>/[^/]+)?")
WITH_CAMERA = {"verdict", "result", "trigger"}
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
        found = _violations(json.loads(payload, parse_constant=_refuse), _validator_of(name))
    except ValueError as error:  # of the validator too: half a surrogate pair, or too deep
        return [f"{topic}: {payload[:60]!r} is no JSON: {error}"]
    return [f"{topic}: {words}" for words in found]


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


def violations(value: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong with the value, in words, each time after the place: `$.seq: 0 is less than the minimum of 1`."""
    return _violations(value, _validator(schema))


def _violations(value: Any, validator: Draft202012Validator) -> list[str]:
    if validator.is_valid(value):
        return []
    # Of an anyOf this says what is wrong with each option, while `iter_errors` only says that none fits.
    errors = validator.evaluate(value).errors()
    return [f"${error['instanceLocation'].replace('/', '.')}: {error['error']}" for error in errors]


@functools.cache
def _validator_of(name: str) -> Draft202012Validator:
    return _validator(published(name))


def _validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, validate_formats=True, ignore_unknown_formats=False)
