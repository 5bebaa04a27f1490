"""A plan, TensorRT's serialised engine: read from its file, loaded, and ready to be run.

Only what is the same from TensorRT 8.5 to 11 is used: tensors by their names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_agent.backends.tensorrt.messages import (
    MESSAGES,
    Build,
    is_of_memory,
    logger_for,
    refusal,
    says,
    too_little_memory,
)
from edge_agent.core import plan_header
from edge_agent.cuda import Cuda, CudaError
from edge_agent.errors import EngineUnfitError, GpuError, ModelError, UnavailableError

MISSING = (
    "TensorRT is not installed: on a Jetson, sudo apt install python3-libnvinfer and use a virtual environment with "
    "--system-site-packages; elsewhere, pip install tensorrt"
)
_TAG = b"ftrt\0\0\0\0"
"""How a plan begins since TensorRT 8.6, its format's number 0 included; then its version is the four bytes at `_VERSION`
(NVIDIA/TensorRT, samples/common/sampleEngines.cpp, printPlanVersion)."""
_VERSION = slice(24, 28)


def library() -> Any:
    """The module `tensorrt`.

    Raises:
        UnavailableError: it is not installed, cannot be loaded, or is too old.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise UnavailableError(f"{MISSING} ({error})") from error
    except (OSError, RuntimeError) as error:  # its own libraries, or those of CUDA
        raise UnavailableError(f"TensorRT is installed but cannot be loaded: {error}") from error
    if not hasattr(tensorrt.IExecutionContext, "execute_async_v3"):
        raise UnavailableError(
            f"TensorRT {tensorrt.__version__} is too old; 8.5 or newer is needed, which comes with JetPack 5.1 or newer"
        )
    return tensorrt


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What stands in a file: metadata, `{}` where it has no header, the plan, and what it says it was built by."""

    path: Path
    metadata: dict[str, Any]
    plan: bytes
    made: Build


def read(path: Path) -> PlanFile:
    """Reads a plain plan, or one with a header before it.

    Raises:
        ModelError: there is no such file, or it cannot be read.
        EngineUnfitError: its header is damaged, or there is no plan.
    """
    try:
        with path.open("rb") as file:
            header = _header(file)
            plan = file.read()  # memory of its own, aligned as TensorRT's users give it
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; set path under [model]") from error
    try:
        metadata, _ = plan_header.split(header)
    except ValueError as error:
        raise EngineUnfitError(f"{path}: is damaged: {error}; copy it again, or build it anew") from error
    if not plan:
        raise EngineUnfitError(f"{path}: there is no engine in it; copy it again, or build it anew")
    return PlanFile(path, metadata, plan, _made(metadata, plan))


def _header(file: BinaryIO) -> bytes:
    """Reads the header, as far as it is there; nothing where there is none."""
    start = file.read(plan_header.LENGTH_BYTES + 1)
    json_bytes = plan_header.json_bytes(start)
    if json_bytes:
        return start + file.read(json_bytes - 1)
    file.seek(0)
    return b""


class Session:
    """Runtime, engine and execution context of one plan. One thread makes, uses and closes it, while its `Cuda` is open.

    Nobody else holds the library's objects, not for a moment, so that `close` frees them for certain: a variable in the
    traceback of an exception would keep them alive until after the CUDA context.
    """

    def __init__(self, tensorrt: Any, cuda: Cuda, path: Path) -> None:
        self.path, self._tensorrt, self._cuda, self._stream = path, tensorrt, cuda, cuda.stream
        self.here = Build(str(tensorrt.__version__), ".".join(map(str, cuda.gpu.compute)))
        self.runtime: Any = None
        self.engine: Any = None
        self.context: Any = None

    def open(self, file: PlanFile, *, allow_host_code: bool) -> None:
        """Loads the plan and makes an execution context. The file's content is not needed afterwards.

        Raises:
            EngineUnfitError: the plan does not fit what is here, or is damaged.
            DeviceMemoryError: the GPU has too little memory.
            ModelError: TensorRT refuses it for another reason.
            GpuError: TensorRT does not work with this GPU or its driver.
        """
        logger = logger_for(self._tensorrt)
        MESSAGES.last_words()
        if hasattr(self._tensorrt, "init_libnvinfer_plugins"):  # the lean runtime has none
            self._tensorrt.init_libnvinfer_plugins(logger, "")
        try:
            self.runtime = self._tensorrt.Runtime(logger)
        except (TypeError, RuntimeError) as error:  # pybind11 says TypeError where there is no object
            why = MESSAGES.last_words() or [MESSAGES.last_warning()]
            raise GpuError(f"TensorRT cannot be started on this GPU {says(self.here.tensorrt, why)}") from error
        if allow_host_code and hasattr(self.runtime, "engine_host_code_allowed"):
            self.runtime.engine_host_code_allowed = True
        self.engine = self.runtime.deserialize_cuda_engine(file.plan)
        if self.engine is None:
            raise refusal(self.path, self.here, file.made, MESSAGES.last_words(), self.memory())
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise refusal(self.path, self.here, Build(), MESSAGES.last_words(), self.memory())

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Fixes the shape of an input that the engine leaves open."""
        if not self.context.set_input_shape(name, shape):
            raise ModelError(f"{self.path}: the input {name} cannot be {list(shape)} {self.last_words()}")

    def set_address(self, name: str, address: int) -> None:
        """Where TensorRT finds a tensor, from the next `enqueue` on. The GPU must be able to reach it."""
        if not self.context.set_tensor_address(name, address):
            raise ModelError(f"{self.path}: TensorRT does not take memory for {name} {self.last_words()}")

    def enqueue(self) -> None:
        """Has the GPU run the engine after all that is on the stream already; returns before it is done."""
        if self.context.execute_async_v3(self._stream):
            return
        said = MESSAGES.last_words()
        if is_of_memory(said):
            raise too_little_memory(self.path, self.memory())
        raise ModelError(f"{self.path}: the engine cannot be run {says(self.here.tensorrt, said)}")

    def last_words(self) -> str:
        """TensorRT's last errors, in brackets."""
        return says(self.here.tensorrt, MESSAGES.last_words())

    def memory(self) -> str:
        """How much of the GPU's memory is left, in words."""
        try:
            free, total = self._cuda.memory_mb()
        except CudaError as error:
            return f"how much is free cannot be read: {error}"
        return f"{free:.0f} of {total:.0f} MB are free"

    def close(self) -> None:
        """Frees context, engine and runtime, in this order."""
        self.context = None
        self.engine = None
        self.runtime = None


def _made(metadata: dict[str, Any], plan: bytes) -> Build:
    """By our own header, else by the plan's first bytes."""
    ours = metadata.get(plan_header.OURS)
    known = ours if isinstance(ours, dict) else {}
    version, compute = known.get("tensorrt"), known.get("compute")
    if version is None and plan.startswith(_TAG) and len(plan) >= _VERSION.stop:
        version = ".".join(map(str, plan[_VERSION]))
    return Build(str(version) if version else None, str(compute) if compute else None)
