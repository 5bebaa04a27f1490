"""TensorFlow Lite models on the CPU, by LiteRT (`ai-edge-litert`) or the older `tflite-runtime`.

The classic `Interpreter`, because its `invoke` releases the GIL and `CompiledModel` does not. Nothing is copied on the
way in and out: inputs and outputs are views of the interpreter's own memory, made once from its addresses. The official
`tensor()` view cannot be kept, since `invoke` refuses to run while one is alive.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.datatypes import Array, BoundTensor, Quantisation, TensorSpec
from edge_agent.core.ports import Backend
from edge_agent.errors import ModelError, UnavailableError

SUFFIXES: tuple[str, ...] = (".tflite",)

_LIBRARIES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
"""Module and package, the faster first."""

_MISSING = "LiteRT is not installed: pip install ai-edge-litert"
_FILE_IDENTIFIER = b"TFL3"  # bytes 4 to 7 of every TFLite flatbuffer: schema.fbs, file_identifier
_METADATA_MOST = 1 << 20
_LITERAL_MOST = 1 << 17  # a longer one can overflow the stack of Python 3.10's parser, which ends the process
_LABEL_FILES = ("labels.txt", "labelmap.txt")
_UNREADABLE = (
    OSError, ValueError, SyntaxError, RuntimeError, EOFError, MemoryError,
    zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip


class Config(BaseModel):
    """A TensorFlow Lite model on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="The .tflite file")
    threads: int | None = Field(None, ge=1, le=256, description="CPU threads; as many as there are cores if not set")


def available() -> str | None:
    """None where the engine can be used here, else a sentence with what to install."""
    return None if any(importlib.util.find_spec(module) for module, _ in _LIBRARIES) else _MISSING


def create(config: Config) -> Backend:
    """Loads the model and runs it once.

    Raises:
        ModelError: the file is missing or damaged, or needs what the engine does not have.
        UnavailableError: LiteRT is not installed.
    """
    return TfliteBackend(config)


@dataclass(frozen=True, slots=True)
class _Memory:
    """A piece of the interpreter's memory as numpy takes it; whoever holds a view of it keeps the interpreter alive."""

    __array_interface__: dict[str, Any]
    owner: Any


class TfliteBackend:
    """See `Backend`. With `in_place=False`, and where the start-up check fails, tensors are copied in and out."""

    def __init__(self, config: Config, *, in_place: bool = True) -> None:
        threads = config.threads or len(os.sched_getaffinity(0))
        self._path = config.path
        self._interpreter, library = _load(config.path, threads)
        self.runtime = f"{library}, {threads} thread{'s' if threads > 1 else ''}"
        self.metadata: Mapping[str, Any] = _metadata(config.path)
        details = self._interpreter.get_input_details()
        self._in_indices = [int(detail["index"]) for detail in details]
        specs = [_input_spec(config.path, detail) for detail in details]
        self.in_place = in_place and all(map(self._is_live, self._in_indices))
        self.inputs: Sequence[BoundTensor] = tuple(
            BoundTensor(spec, self._view(index) if self.in_place else np.zeros(spec.shape, spec.dtype))
            for index, spec in zip(self._in_indices, specs, strict=True)
        )
        self.outputs: Sequence[TensorSpec] = ()
        self._out_indices: list[int] = []
        self._outputs: list[Array] = []
        self._moving: list[int] = []
        if not self.in_place:  # else `_is_live` has left them filled with 0: the first run must not depend on chance
            self._set_inputs()
        self._bind_outputs()

    def infer(self) -> Sequence[Array]:
        """See `Backend.infer`."""
        if not self.in_place:
            return self._infer_by_copies()
        self._invoke()
        if not self._moving:
            return self._outputs
        for position in self._moving:
            self._outputs[position] = _read_only(self._view(self._out_indices[position]))
        return self._outputs

    def close(self) -> None:
        """See `Backend.close`."""
        self.inputs, self._outputs, self._moving, self._interpreter = (), [], [], None

    def _bind_outputs(self) -> None:
        """The first run: an output that it moves or reshapes, or whose shape is not fixed, is fetched after each."""
        before = self._interpreter.get_output_details()
        self._out_indices = [int(detail["index"]) for detail in before]
        memory = [self._memory(index) for index in self._out_indices]
        self._invoke()
        after = self._interpreter.get_output_details()
        self.outputs = tuple(_output_spec(self._path, old, new) for old, new in zip(before, after, strict=True))
        self._moving = [
            position
            for position, index in enumerate(self._out_indices)
            if -1 in _signature(before[position]) or memory[position] is None or memory[position] != self._memory(index)
        ]
        self._outputs = [_read_only(self._view(index)) for index in self._out_indices]

    def _invoke(self) -> None:
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._path}: the model cannot be run: {_one_line(error)}") from error

    def _infer_by_copies(self) -> Sequence[Array]:
        self._set_inputs()
        self._invoke()
        return [_read_only(self._copy(index)) for index in self._out_indices]

    def _copy(self, index: int) -> Array:
        try:
            copy: Array = self._interpreter.get_tensor(index)
        except ValueError:
            return self._empty(index)
        return copy

    def _set_inputs(self) -> None:
        for index, bound in zip(self._in_indices, self.inputs, strict=True):
            self._interpreter.set_tensor(index, bound.array)

    def _memory(self, index: int) -> dict[str, Any] | None:
        """Address, shape and type of a tensor; None where it has no memory yet, or no elements."""
        try:
            interface: dict[str, Any] = self._interpreter.tensor(index)().__array_interface__
        except ValueError:
            return None
        return interface

    def _view(self, index: int) -> Array:
        interface = self._memory(index)
        if interface is None:
            return self._empty(index)
        return np.asarray(_Memory(interface, self._interpreter))

    def _empty(self, index: int) -> Array:
        """The library refuses to show a tensor without elements, such as the rows of a picture without detections."""
        detail = next(d for d in self._interpreter.get_output_details() if d["index"] == index)
        if 0 not in _shape(detail):
            raise ModelError(f"{self._path}: the engine gives no access to the output {detail['name']}")
        return np.empty(_shape(detail), detail["dtype"])

    def _is_live(self, index: int) -> bool:
        """Whether what is written into the view arrives in the interpreter. Leaves the tensor filled with 0."""
        view = self._view(index)
        for sentinel in (1, 0):
            view.fill(sentinel)
            if not (self._interpreter.get_tensor(index) == sentinel).all():
                return False
        return True


def _load(path: Path, threads: int) -> tuple[Any, str]:
    _require_model(path)
    interpreter_class, library = _library()
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: {_advice(str(error))} ({library} says: {_one_line(error)})") from error
    return interpreter, library


def _library() -> tuple[Any, str]:
    for module, package in _LIBRARIES:
        if importlib.util.find_spec(module) is None:
            continue
        try:
            interpreter_class = importlib.import_module(f"{module}.interpreter").Interpreter
        except ImportError as error:
            raise UnavailableError(f"{package} is installed but cannot be imported: {error}") from error
        return interpreter_class, f"{package} {importlib.metadata.version(package)}"
    raise UnavailableError(_MISSING)


def _require_model(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; set path under [model]") from error
    if start[4:8] != _FILE_IDENTIFIER:
        raise ModelError(f"{path}: is not a TFLite model, or is damaged; copy or export it again")


def _advice(message: str) -> str:
    if "Flex" in message or "Select TensorFlow" in message:
        return "needs TensorFlow's own operations (Flex), which are not here; export it with built-in operations only"
    if "custom op" in message:
        return "needs an operation that is not here; export it with built-in operations only"
    if "Didn't find op" in message:
        return "needs an operation newer than the engine: pip install --upgrade ai-edge-litert"
    return "cannot be loaded, perhaps it was cut short; copy or export it again"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _signature(detail: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, detail.get("shape_signature", detail["shape"])))


def _shape(detail: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, detail["shape"]))


def _input_spec(path: Path, detail: Mapping[str, Any]) -> TensorSpec:
    """A batch that is not fixed is 1, which is what the interpreter allocates."""
    if -1 in _signature(detail)[1:]:
        raise ModelError(
            f"{path}: the size of the input {detail['name']} {list(_signature(detail))} is not fixed; "
            "export the model with a fixed size, for example imgsz=640"
        )
    return _spec(path, detail, _shape(detail))


def _output_spec(path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> TensorSpec:
    """The shape that the first run gave, -1 where it may differ from run to run; the batch is 1."""
    shape, old = _shape(after), _shape(before)
    signature = _signature(before) if len(_signature(before)) == len(shape) else shape
    old = old if len(old) == len(shape) else shape
    varies = [sign < 0 and not (axis == 0 and shape[0] == 1) for axis, sign in enumerate(signature)]
    dims = (-1 if vary or was != now else now for vary, was, now in zip(varies, old, shape, strict=True))
    return _spec(path, after, tuple(dims))


def _spec(path: Path, detail: Mapping[str, Any], shape: tuple[int, ...]) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "biuf":
        raise ModelError(f"{path}: the tensor {detail['name']} holds {dtype}, not numbers; such models cannot be run")
    quantisation = detail["quantization_parameters"]
    quant = None
    if len(quantisation["scales"]) == 1 and quantisation["scales"][0] != 0:
        quant = Quantisation(float(quantisation["scales"][0]), int(quantisation["zero_points"][0]))
    return TensorSpec(str(detail["name"]), shape, dtype, quant)


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _metadata(path: Path) -> dict[str, Any]:
    """What stands in the zip that exporters append to the model; empty where there is none or it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_metadata(archive)
    except _UNREADABLE:
        return {}


def _read_metadata(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Ultralytics: `metadata.json`, before that one Python literal (`temp_meta.txt`); Model Maker, Coral: labels."""
    names = archive.namelist()
    if "metadata.json" in names:
        found = json.loads(_text(archive, "metadata.json"))
        return found if isinstance(found, dict) else {}
    if len(names) == 1 and (text := _text(archive, names[0])).lstrip().startswith("{"):
        literal = ast.literal_eval(text.strip()) if len(text) <= _LITERAL_MOST else None
        return literal if isinstance(literal, dict) else {}
    labels = [name for name in _LABEL_FILES if name in names] or [name for name in names if name.endswith(".txt")]
    if not labels:
        return {}
    return {"labels": [line.strip() for line in _text(archive, labels[0]).strip().splitlines()]}


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        content = file.read(_METADATA_MOST + 1)
    if len(content) > _METADATA_MOST:
        raise ValueError(f"{name} is over {_METADATA_MOST} bytes")
    return content.decode("utf-8-sig")
