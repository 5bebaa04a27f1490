"""How long a TensorRT engine takes: the bare engine, our backend around it in each kind of memory, and a frame's stages.

    python -m benchmarks.tensorrt MODEL.engine [--runs N] [--photo FILE] [--labels FILE] [--json]

All ways take turns, so that a GPU that gets warm favours none. Milliseconds from the call until the outputs can be read.
The bare engine is `execute_async_v3` and `cuStreamSynchronize`, by TensorRT's own module, with nothing of ours between;
"device" leaves its tensors on the GPU, "copied" takes them there and back. `--photo` adds the stages of `Engine.look`.

Example: python -m benchmarks.tensorrt yolox.engine --photo examples/photos/cat_720p.jpg
"""

import argparse
import ctypes
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks import rig
from benchmarks.arguments import at_least, existing_file
from edge_agent.app.engine import open_engine
from edge_agent.app.engine_choice import EngineRequest
from edge_agent.backends.tensorrt import Config, create
from edge_agent.core import plan_header
from edge_agent.cuda import Cuda, open_cuda
from edge_agent.errors import ModelError

ROUNDS = 5
WARM_UP = 10
BYTES = {"FLOAT": 4, "HALF": 2, "INT8": 1, "UINT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1}
Spreads = dict[str, rig.Spread]


class Bare:
    """A static engine by TensorRT's own module. Its memory is never read or written by the CPU."""

    def __init__(self, cuda: Cuda, path: Path) -> None:
        import tensorrt

        content = memoryview(path.read_bytes())
        self._logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        self._runtime = tensorrt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(content[plan_header.split(content)[1] :])
        self._context = self._engine.create_execution_context()
        self._cuda, self._stream = cuda, cuda.stream
        self._driver = ctypes.CDLL("libcuda.so.1")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        self._device = {name: cuda.device(self._nbytes(name)) for name in names}
        self._host = {name: cuda.host(memory.nbytes) for name, memory in self._device.items()}
        modes = {name: str(self._engine.get_tensor_mode(name)) for name in names}
        self._inputs = [name for name in names if modes[name].endswith("INPUT")]
        self._outputs = [name for name in names if name not in self._inputs]

    def place(self, memory: str) -> None:
        """The tensors in `mapped` memory, or on the `device`."""
        for name, device in self._device.items():
            address = self._host[name].device_ptr if memory == "mapped" else device.ptr
            self._context.set_tensor_address(name, address)

    def run(self) -> None:
        """The engine alone."""
        self._context.execute_async_v3(self._stream)
        self._driver.cuStreamSynchronize(ctypes.c_void_p(self._stream))

    def run_copied(self) -> None:
        """With its inputs from host memory and its outputs to it."""
        for name in self._inputs:
            self._cuda.upload(self._device[name], self._host[name])
        self._context.execute_async_v3(self._stream)
        for name in self._outputs:
            self._cuda.download(self._host[name], self._device[name])
        self._driver.cuStreamSynchronize(ctypes.c_void_p(self._stream))

    def close(self) -> None:
        """Its parts in order; the memory goes with the `Cuda`."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _nbytes(self, name: str) -> int:
        """Raises ModelError where sides are open."""
        shape: tuple[int, ...] = tuple(self._context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise ModelError(f"{name} is {list(shape)}: only engines with fixed sizes are measured")
        return math.prod(shape) * BYTES[str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]]


def measure(path: Path, runs: int, rounds: int = ROUNDS, warm_up: int = WARM_UP) -> tuple[Spreads, str]:
    """All ways to run the engine, each `runs` times; and which of them the backend has chosen by itself."""
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        cuda = stack.enter_context(closing(open_cuda()))
        bare = stack.enter_context(closing(Bare(cuda, path)))
        backend: Any = stack.enter_context(closing(create(Config(path=path))))
        fill(backend)
        chosen = way(copied=backend._is_copied, graph=backend._graph is not None)
        for _ in range(rounds):
            for name, run in ways(bare, backend):
                times.setdefault(name, []).extend(timed(run, runs // rounds, warm_up))
    return {name: rig.spread(values) for name, values in times.items()}, chosen


def ways(bare: Bare, backend: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each way with its name, arranged for when it is asked for."""
    for memory in ("device", "mapped"):
        bare.place(memory)
        yield f"bare, {memory}", bare.run
    bare.place("device")
    yield "bare, copied", bare.run_copied
    for copied in (False, True):
        for graph in (False, True):
            arrange(backend, copied=copied, graph=graph)
            if (backend._graph is not None) == graph:
                yield way(copied=copied, graph=graph), backend.infer


def way(*, copied: bool, graph: bool) -> str:
    """The name of one of the backend's."""
    return f"backend, {'copied' if copied else 'mapped'}, {'graph' if graph else 'no graph'}"


def arrange(backend: Any, *, copied: bool, graph: bool) -> None:
    """Has the backend work in one kind of memory, with a graph or without."""
    backend._drop_graph()
    backend._tensors.arrange(copied=copied)
    backend.infer()
    if graph:
        backend._record()


def fill(backend: Any) -> None:
    """Noise in every input."""
    noise = np.random.default_rng(0)
    for bound in backend.inputs:
        bound.array[...] = noise.integers(0, 100, bound.array.shape)


def stages(path: Path, photo: Path, labels: Path | None, runs: int, warm_up: int = WARM_UP) -> Spreads:
    """Of a frame: preprocess, infer, decode and their sum, on one photo."""
    import cv2

    image = cv2.imread(str(photo))
    if image is None:
        raise ModelError(f"{photo} is no picture that can be read")
    picture = np.asarray(image, np.uint8)
    engine = open_engine(EngineRequest(path, ("tensorrt",), labels=labels))
    with closing(engine.backend):
        laps = [engine.look(picture)[1] for _ in range(warm_up + runs)][warm_up:]
    split = {
        "preprocess": [lap.preprocess_ms for lap in laps],
        "infer": [lap.infer_ms for lap in laps],
        "decode": [lap.decode_ms for lap in laps],
        "frame": [lap.preprocess_ms + lap.infer_ms + lap.decode_ms for lap in laps],
    }
    return {name: rig.spread(values) for name, values in split.items()}


def timed(run: Callable[[], Any], runs: int, warm_up: int) -> list[float]:
    """Milliseconds of each of so many runs, after a few that do not count."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(max(runs, 2)):
        started_ns = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - started_ns) / 1e6)
    return times


def versions() -> dict[str, str]:
    """Of what is measured with."""
    import tensorrt

    with closing(open_cuda()) as cuda:
        compute = ".".join(map(str, cuda.gpu.compute))
        return {
            "gpu": f"{cuda.gpu.name}, compute {compute}, {cuda.gpu.memory_mb} MB",
            "driver": f"CUDA {cuda.gpu.driver // 1000}.{cuda.gpu.driver % 1000 // 10}",
            "tensorrt": str(tensorrt.__version__),
            "cuda": cuda.name,
        }


def table(title: str, spreads: Mapping[str, rig.Spread]) -> Table:
    """For people."""
    shown = Table("", "p50 / p99 / max ms", title=title)
    for name, spread in spreads.items():
        shown.add_row(name, str(spread))
    return shown


def main() -> None:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=existing_file)
    parser.add_argument("--runs", type=at_least(2), default=1000)
    parser.add_argument("--photo", type=existing_file)
    parser.add_argument("--labels", type=existing_file)
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    facts = {**rig.machine(), **versions()}
    engine, chosen = measure(wish.engine, wish.runs)
    frame = stages(wish.engine, wish.photo, wish.labels, wish.runs) if wish.photo else {}
    if wish.json:
        print(
            rig.as_json("tensorrt", vars(wish), {"machine": facts, "engine": engine, "chosen": chosen, "frame": frame})
        )
        return
    rig.show(rig.words(facts), table(wish.engine.name, engine), f"chosen: {chosen}")
    if frame:
        rig.show(table(wish.photo.name, frame))


if __name__ == "__main__":
    rig.run(main)
