"""ONNX models on the CPU, by ONNX Runtime, with bound inputs and outputs.

The arrays are ours; the engine reads and writes them in place, and `run_with_iobinding` releases the GIL. The engine's
threads do not spin: measured on two cores with a 7 ms model, spinning saves a quarter to a third of a run, but burns a
whole core between runs, which cameras, tracking and publishing need. `force_spinning_stop` is no way out: it made the
runs of a line with pauses no faster, and other threads waited up to 5 ms for a core.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.datatypes import Array, BoundTensor, TensorSpec
from edge_agent.core.heads import refuse_state
from edge_agent.core.ports import Backend
from edge_agent.errors import ModelError, UnavailableError

SUFFIXES: tuple[str, ...] = (".onnx",)

_MISSING = "ONNX Runtime is not installed: pip install onnxruntime"
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""1.31 makes a device id in the user's folder, and has the address of a collector at Microsoft. It is read at the import."""
_LOG_ERRORS_ONLY = 3  # OrtLoggingLevel: 0 verbose … 3 error, 4 fatal
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Config(BaseModel):
    """An ONNX model on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="The .onnx file")
    threads: int | None = Field(None, ge=1, le=256, description="CPU threads; as many as there are cores if not set")


def available() -> str | None:
    """None where the engine can be used here, else a sentence with what to install."""
    return None if importlib.util.find_spec("onnxruntime") else _MISSING


def create(config: Config) -> Backend:
    """Loads the model and runs it once.

    Raises:
        ModelError: the file is missing or damaged, its input has no fixed size, or it needs what the engine lacks.
        UnavailableError: ONNX Runtime is not installed.
    """
    return OnnxBackend(config)


class OnnxBackend:
    """See `Backend`."""

    def __init__(self, config: Config) -> None:
        threads = config.threads or len(os.sched_getaffinity(0))
        self._path = config.path
        self._session, version = _load(config.path, threads)
        self.runtime = f"onnxruntime {version}, {threads} thread{'s' if threads > 1 else ''}"
        self.metadata: Mapping[str, Any] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._binding = self._session.io_binding()
        self.inputs: Sequence[BoundTensor] = tuple(self._bound(value) for value in self._session.get_inputs())
        for bound in self.inputs:
            _bind(self._binding.bind_input, bound.spec.name, bound.array)
        self.outputs: Sequence[TensorSpec] = ()
        self._outputs: list[Array] = []
        self._varying: list[int] = []
        self._bind_outputs()

    def infer(self) -> Sequence[Array]:
        """See `Backend.infer`."""
        for position in self._varying:  # a bound value keeps the shape of the last run, and the next one would not fit
            self._binding.bind_output(self.outputs[position].name, "cpu")
        self._run()
        if self._varying:
            values = self._binding.get_outputs()
            for position in self._varying:
                self._outputs[position] = _read_only(values[position].numpy())
        return self._outputs

    def close(self) -> None:
        """See `Backend.close`."""
        self._binding = self._session = None
        self.inputs, self._outputs, self._varying = (), [], []

    def _bound(self, value: Any) -> BoundTensor:
        """Memory for an input. A batch that is not fixed is 1."""
        batch_free = bool(value.shape) and not isinstance(value.shape[0], int)
        shape = [1, *value.shape[1:]] if batch_free else list(value.shape)
        if not all(isinstance(side, int) and side > 0 for side in shape):
            self._refuse_state()
            raise ModelError(
                f"{self._path}: the size of the input {value.name} {value.shape} is not fixed; "
                "export the model with a fixed size, for example imgsz=640 and dynamic=False"
            )
        spec = TensorSpec(value.name, tuple(shape), _dtype(self._path, value))
        return BoundTensor(spec, np.zeros(spec.shape, spec.dtype))

    def _bind_outputs(self) -> None:
        """The first run shows the shapes; an output whose shape is not fixed is fetched after each run."""
        values = self._session.get_outputs()
        for value in values:
            self._binding.bind_output(value.name, "cpu")
        self._run()
        seen = [tuple(result.shape()) for result in self._binding.get_outputs()]
        batches = {value.shape[0] for value in self._session.get_inputs() if value.shape}
        self.outputs = tuple(
            TensorSpec(value.name, _fixed(value.shape, shape, batches), _dtype(self._path, value))
            for value, shape in zip(values, seen, strict=True)
        )
        self._varying = [position for position, spec in enumerate(self.outputs) if -1 in spec.shape]
        arrays = [np.zeros(shape, spec.dtype) for spec, shape in zip(self.outputs, seen, strict=True)]
        for spec, array in zip(self.outputs, arrays, strict=True):
            if -1 not in spec.shape:
                _bind(self._binding.bind_output, spec.name, array)
        self._outputs = [_read_only(array) for array in arrays]

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the library's own errors have no common base
            self._refuse_state()
            raise ModelError(f"{self._path}: the model cannot be run: {_one_line(error)}") from error

    def _refuse_state(self) -> None:
        """The better reason, where there is one, for a model that cannot be opened."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        refuse_state(str(self._path), [_declared(value) for value in inputs], [_declared(value) for value in outputs])


def _load(path: Path, threads: int) -> tuple[Any, str]:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; set path under [model]")
    os.environ[_NO_TELEMETRY] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"{_MISSING} ({error})") from error
    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    version = str(onnxruntime.__version__)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own errors have no common base
        raise ModelError(
            f"{path}: cannot be loaded; copy or export it again (onnxruntime {version} says: {_one_line(error)})"
        ) from error
    return session, version


def _bind(bind: Any, name: str, array: Array) -> None:
    """By address: the shorter ways of the library copy the array, or keep no promise not to."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _fixed(declared: Sequence[Any], seen: tuple[int, ...], batches: set[Any]) -> tuple[int, ...]:
    """The shape where the model fixes it, or names the batch of an input (1 for us); -1 where it does not."""
    if len(declared) != len(seen):
        return seen if not declared else (-1,) * len(seen)
    return tuple(
        now if was == now or (isinstance(was, str) and was in batches) else -1
        for was, now in zip(declared, seen, strict=True)
    )


def _declared(value: Any) -> TensorSpec:
    """As it stands in the file; what is not fixed is -1, and what holds no numbers is bytes."""
    shape = tuple(side if isinstance(side, int) else -1 for side in value.shape)
    return TensorSpec(value.name, shape, np.dtype(_DTYPES.get(value.type, np.bytes_)))


def _dtype(path: Path, value: Any) -> np.dtype[Any]:
    if value.type not in _DTYPES:
        raise ModelError(f"{path}: the tensor {value.name} is {value.type}; such models cannot be run")
    return np.dtype(_DTYPES[value.type])


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
