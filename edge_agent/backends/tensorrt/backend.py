"""A TensorRT engine as a `Backend`: in the faster kind of memory, by one CUDA graph, and nothing is allocated for a frame."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any

import structlog

from edge_agent.backends.tensorrt import plans, replay
from edge_agent.backends.tensorrt.messages import sm, too_little_memory
from edge_agent.backends.tensorrt.pictures import GpuPreprocessor
from edge_agent.backends.tensorrt.tensors import Tensors
from edge_agent.core import plan_header
from edge_agent.core.datatypes import Array, BoundTensor, InputFormat, TensorSpec
from edge_agent.core.heads import picture_of
from edge_agent.cuda import Cuda, CudaError, Graph, open_cuda
from edge_agent.errors import GpuError, ModelError

log = structlog.get_logger()

_ROUNDS_LEAST, _ROUNDS_MOST, _ROUNDS_S = 3, 15, 0.5
_WORTH = 0.98
"""Copied memory is taken where a run takes less than this share of the time: it takes twice the memory."""


def open_backend(path: Path, *, allow_host_code: bool) -> "TensorrtBackend":
    """See `create` of the package. What was opened is closed again where it fails."""
    tensorrt = plans.library()
    file = plans.read(path)
    with ExitStack() as stack:
        cuda = _opened_cuda(path)
        stack.callback(_anyhow, cuda.close)
        session = plans.Session(tensorrt, cuda, path)
        stack.callback(session.close)
        stack.callback(_anyhow, cuda.wait)  # what runs may not be freed
        try:
            session.open(file, allow_host_code=allow_host_code)
            metadata = file.metadata
            del file  # on a Jetson the plan would take its memory twice
            backend = TensorrtBackend(cuda, session, Tensors(cuda, session), metadata)
        except CudaError as error:
            if error.is_out_of_memory:
                raise too_little_memory(path, session.memory()) from error
            raise ModelError(f"{path}: cannot be run on this GPU: {error}") from error
        stack.pop_all()
    return backend


def _opened_cuda(path: Path) -> Cuda:
    try:
        return open_cuda()
    except CudaError as error:
        if error.is_out_of_memory:
            raise too_little_memory(path, "not even a CUDA context fits") from error
        raise GpuError(f"{path}: needs an NVIDIA GPU, and none can be used here: {error}") from error


def _anyhow(call: Callable[[], None]) -> None:
    """After an error, which says more than those of a GPU that is out of order already."""
    with suppress(CudaError):
        call()


class TensorrtBackend:
    """See `Backend`. It owns what it is given. The thread that makes it uses it and closes it."""

    def __init__(self, cuda: Cuda, session: plans.Session, tensors: Tensors, metadata: Mapping[str, Any]) -> None:
        self._cuda, self._session, self._tensors, self.metadata = cuda, session, tensors, metadata
        self.inputs: Sequence[BoundTensor] = tuple(BoundTensor(it.spec, it.array) for it in tensors.inputs)
        self.outputs: Sequence[TensorSpec] = tuple(it.spec for it in tensors.outputs)
        self._outputs: Sequence[Array] = [it.array for it in tensors.outputs]
        self._pictures: GpuPreprocessor | None = None
        self._graph: Graph | None = None
        self._why_no_graph = ""
        self._is_closed = False
        self._run: Callable[[], None] = tensors.run
        self._is_copied = self._choose_memory()
        self._record()

    @property
    def runtime(self) -> str:
        """See `Backend.runtime`."""
        words = [
            " ".join(filter(None, (f"TensorRT {self._session.here.tensorrt}", self._precision()))),
            f"{sm(self._session.here.compute or '')} ({self._cuda.gpu.name})",
            self._cuda.name,
            "copied memory" if self._is_copied else "mapped memory",
        ]
        return ", ".join([*words, "CUDA graph"] if self._graph else words)

    def infer(self) -> Sequence[Array]:
        """See `Backend.infer`.

        Raises:
            ModelError: TensorRT refuses to run the engine.
            CudaError: the GPU or its driver failed; nothing can be run any more in this process.
        """
        self._run()
        self._cuda.wait()
        return self._outputs

    def close(self) -> None:
        """See `Backend.close`. All is given back, in order, even where some of it fails."""
        if self._is_closed:
            return
        self._cuda.check()
        self._is_closed = True
        self.inputs, self._outputs = (), ()
        with ExitStack() as last_comes_first:
            last_comes_first.callback(self._cuda.close)
            last_comes_first.callback(self._session.close)
            if self._pictures is not None:
                last_comes_first.callback(self._pictures.close)
            last_comes_first.callback(self._drop_graph)
            last_comes_first.callback(self._cuda.wait)  # what runs may not be freed

    def device_preprocessor(self, fmt: InputFormat, table: Array) -> GpuPreprocessor | None:
        """Has the GPU write the picture: what is returned puts pictures into the engine's own input, and `infer` runs on them.

        None, and nothing has changed, where no input takes a picture or the GPU cannot prepare it that way. `table` is
        `(channels, 256)`: what stands in the input for each value of a pixel.

        Raises:
            CudaError: there is no memory for it, or the driver does not take the kernel; nothing has changed.
        """
        spec = picture_of([bound.spec for bound in self.inputs])
        picture = next((tensor for tensor in self._tensors.inputs if tensor.spec is spec), None)
        if picture is None or self._pictures is not None:
            return None
        memory = self._tensors.memory_by_gpu(picture)
        try:
            self._pictures = GpuPreprocessor.for_(
                self._cuda, picture.spec, memory, fmt, table, mapped=not self._is_copied
            )
        finally:
            if self._pictures is None:
                self._tensors.free_memory_by_gpu(picture)
        if self._pictures is not None:
            self.picture_from_gpu(wanted=True)
        return self._pictures

    def picture_from_gpu(self, *, wanted: bool) -> None:
        """Whether `infer` runs on what the preprocessor of `device_preprocessor` wrote, or on the input's array."""
        self._drop_graph()
        self._tensors.arrange(copied=self._is_copied, from_gpu=wanted)
        self._record()

    def _precision(self) -> str:
        """As it was built, where the file says so: `FP16`."""
        ours = self.metadata.get(plan_header.OURS)
        return str(ours.get("built_as", "")).upper() if isinstance(ours, Mapping) else ""

    def _choose_memory(self) -> bool:
        """Whether tensors are copied to device memory, which is measured, or worked on where the CPU sees them."""
        try:
            self._tensors.arrange(copied=True)
        except CudaError as error:
            if not error.is_out_of_memory:
                raise
            self._tensors.free_device_memory()
            self._tensors.arrange(copied=False)
            log.warning("tensor_memory", engine=self._session.path.name, chosen="mapped", reason=str(error))
            return False
        mapped_ms, copied_ms = self._compare()
        is_copied = copied_ms < mapped_ms * _WORTH
        self._tensors.arrange(copied=is_copied)
        if not is_copied:
            self._tensors.free_device_memory()
        log.info(
            "tensor_memory", engine=self._session.path.name, chosen="copied" if is_copied else "mapped",
            mapped_ms=round(mapped_ms, 3), copied_ms=round(copied_ms, 3),
        )  # fmt: skip
        return is_copied

    def _compare(self) -> tuple[float, float]:
        """How long a run takes, the median of several, in mapped and in copied memory, by turns."""
        until_s = time.monotonic() + _ROUNDS_S
        times_ms: tuple[list[float], list[float]] = [], []
        while len(times_ms[1]) < _ROUNDS_LEAST or (len(times_ms[1]) < _ROUNDS_MOST and time.monotonic() < until_s):
            for copied in (False, True):
                self._tensors.arrange(copied=copied)
                self.infer()  # the first run after a change, and the first of all, may do more than run
                started_s = time.perf_counter()
                self.infer()
                times_ms[copied].append((time.perf_counter() - started_s) * 1e3)
        return median(times_ms[False]), median(times_ms[True])

    def _record(self) -> None:
        self._tensors.run()
        self._cuda.wait()
        self._graph, why_not = replay.record(self._cuda, self._tensors)
        self._run = self._graph.launch if self._graph else self._tensors.run
        if why_not and why_not != self._why_no_graph:
            log.info("cuda_graph_unused", engine=self._session.path.name, reason=why_not)
        self._why_no_graph = why_not

    def _drop_graph(self) -> None:
        self._run = self._tensors.run
        if self._graph is not None:
            self._graph.close()
            self._graph = None
