"""A model that is one file, without a bundle around it: its digest, what it says about itself, and its labels."""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.datatypes import ModelSpec, TensorSpec
from edge_agent.errors import LabelsError, ModelError
from edge_agent.models.label_map import CLASSES_MOST
from edge_agent.models.labels import named_by, read_labels

FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".engine": "engine", ".plan": "engine", ".npz": "recorded"}
"""The file's kind by its suffix."""

_CHUNK = 1 << 20
_LITERAL_MOST = 128 << 10  # a longer text may nest so deep that Python's parser overflows its stack
_TEXTS = frozenset({"author", "date", "description", "docs", "head", "license", "task", "version"})
"""Metadata that is text, also where it looks like a number: version 8.4 is no fraction."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file. `name` is the file's without its suffix, `sha256` in hexadecimal, `format` one of `FORMATS`."""

    path: Path
    name: str
    sha256: str
    format: str


def identify(path: Path) -> ModelFile:
    """What the file at `path` is, read once from beginning to end.

    Raises:
        ModelError: there is none, it is empty or cannot be read, or it is not a kind of model that can be run.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder; bundles cannot be read yet: give the .tflite or .onnx in it")
    if not path.exists():
        raise ModelError(f"{path}: there is no such file")
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ModelError(f"{path}: not a model that can be run; it must end in {', '.join(FORMATS)}{_advice(path)}")
    try:
        digest = _sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty; copy the model again")
    return ModelFile(path, path.stem, digest, kind)


def normalise(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with plain values: what is text in the file but JSON or a Python literal within is read as such."""
    return {key: value if key in _TEXTS else _plain(value) for key, value in raw.items()}


def labels_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names in normalised metadata: Ultralytics' `names`, or the lines of a label file; empty without both.

    Raises:
        ModelError: something is there, but does not name classes.
    """
    names = metadata.get("names") or metadata.get("labels")
    if not names:
        return ()
    if names is metadata.get("labels") and isinstance(names, list):
        return named_by([str(line) for line in names])
    known = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        known = {int(number): str(name) for number, name in known.items()}
    except (AttributeError, TypeError, ValueError):
        known = {-1: ""}
    if min(known) < 0 or max(known) >= CLASSES_MOST:
        raise ModelError(
            f"the names of its classes cannot be read ({str(names)[:60]!r}); "
            'write labels = "FILE" under [model], a text file with one name per line'
        )
    return tuple(known.get(number, f"class_{number}") for number in range(max(known) + 1))


def describe(
    file: ModelFile,
    metadata: Mapping[str, Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    labels_file: Path | None = None,
) -> ModelSpec:
    """All that is known about a model: its file, and what its backend says of it.

    A labels file wins over the names in the metadata; that their number is that of the classes, the decoder checks.

    Raises:
        ModelError: the labels cannot be read, or are fewer than the classes that the metadata names.
    """
    plain = normalise(metadata)
    return ModelSpec(
        name=file.name,
        sha256=file.sha256,
        format=file.format,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        labels=_own_labels(file, plain) if labels_file is None else _given_labels(labels_file, plain),
        metadata=plain,
    )


def _own_labels(file: ModelFile, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return labels_of(metadata)
    except ModelError as error:
        raise ModelError(f"{file.path}: {error}") from error


def _given_labels(path: Path, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    labels, names = read_labels(path), metadata.get("names")
    if isinstance(names, Mapping | list) and len(labels) < len(names):
        raise LabelsError(f"{path}: has {len(labels)} labels, but the model names {len(names)} classes")
    return labels


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _advice(path: Path) -> str:
    if path.suffix.lower() in {".pt", ".pth"}:
        return "; export it first, for example: yolo export model=FILE.pt format=onnx"
    return ""


def _plain(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > _LITERAL_MOST:
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return value
