"""Builds a TensorRT engine in a process of its own, and says what engine that will be.

A build takes minutes and gigabytes and may take its process with it. The child gives way to everything else on the
board, is the first to go where memory is short, and never outlives us.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from edge_agent import cuda, plugins
from edge_agent.app.tether import tied
from edge_agent.errors import ConfigError, EdgeAgentError, GpuError, ModelError, TransientError, UnavailableError
from edge_agent.hardware.profile import WORKSPACE_MB
from edge_agent.models import onnx_file, sealed
from edge_agent.models.engine_cache import EngineCache, Recipe

log = structlog.get_logger()

WORKER = "import sys; sys.path[:] = filter(None, sys.path); from edge_agent.app.engine_worker import main; main()"
"""Not by `-m`: both look for modules in the working directory first, and anybody may have put some there."""
PRECISIONS = ("auto", "fp32", "fp16", "int8")

_TICK_S = 0.2
_LAST_LINES, _LINE_MOST, _READ_BYTES = 5, 300, 1 << 16
REFUSALS: dict[str, type[EdgeAgentError]] = {
    kind.__name__: kind for kind in (TransientError, GpuError, UnavailableError, ModelError, ConfigError)
}
"""The errors that the process reports by their names; narrower ones come first."""

Stage = Literal["waiting", "reading", "building", "writing"]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built.

    Attributes:
        model: the ONNX file.
        folder: of the engines that were built here.
        precision: `fp32`, `fp16`, `int8`, or `auto`: that of the file if it is quantised, else what is preferred.
        preferred: what the board's profile prefers; `int8` counts as `fp16` for a file that is not quantised.
        workspace_mb: the most that one layer may take for itself while the engine runs.
        out: a file of the user's own, instead of the folder.
        force: build although there is one.
        without_libraries: without cuBLAS and cuDNN, for machines that do not have them.
    """

    model: Path
    folder: Path
    precision: str = "auto"
    preferred: str = "fp16"
    workspace_mb: int = WORKSPACE_MB
    out: Path | None = None
    force: bool = False
    without_libraries: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `fraction` from 0 to 1, None where that is not known (TensorRT before 10 does not tell)."""

    stage: Stage
    fraction: float | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """An engine. `precision` is what it became, `reused` that it was there before, `notes` what people should know."""

    path: Path
    fingerprint: str
    seconds: float
    precision: str
    reused: bool
    notes: tuple[str, ...]


class BuildStoppedError(EdgeAgentError):
    """The build was stopped from outside."""


def recipe_for(request: BuildRequest, model_sha256: str, file: onnx_file.OnnxFile) -> Recipe:
    """What the engine is made of: of the same recipe there is at most one in the folder.

    Args:
        request: what is to be built.
        model_sha256: of the model's file, in hexadecimal.
        file: what the model says of itself.

    Raises:
        ModelError: the model cannot be built with this precision, or its size is not fixed.
        UnavailableError: TensorRT or CUDA is not installed.
        GpuError: there is no GPU, or it cannot be used now.
    """
    precision, shapes = precision_for(request, file), onnx_file.fixed_shapes(file)
    backend = plugins.load("backends", "tensorrt")
    missing = backend.available()
    if missing:
        raise UnavailableError(missing)
    from edge_agent.backends.tensorrt.build import version

    try:
        gpu = cuda.look()
    except cuda.CudaError as error:
        raise GpuError(f"engines cannot be built here, the GPU cannot be used: {error}") from error
    major, minor = gpu.compute
    return Recipe(
        model_sha256=model_sha256,
        tensorrt=version(),
        gpu=f"{gpu.name}, {gpu.multiprocessors} multiprocessors",  # all Orins have the same name and capability
        compute=f"{major}.{minor}",
        driver=gpu.driver,
        precision=precision,
        shapes=shapes,
        workspace_mb=request.workspace_mb,
        flags=("without_libraries",) if request.without_libraries else (),
    )


def precision_for(request: BuildRequest, file: onnx_file.OnnxFile) -> str:
    """The precision to ask TensorRT for.

    Raises:
        ModelError: the file cannot be built with the one that was asked for.
    """
    own = "int8" if file.is_quantised else "fp16" if file.has_halves else None
    if request.precision == "auto":
        return own or ("fp32" if request.preferred == "fp32" else "fp16")
    if request.precision == "int8" and not file.is_quantised:
        raise ModelError(
            f"{file.path}: int8 needs a model that was quantised before (Q/DQ), and this one was not: nothing is "
            "calibrated here. Quantise the ONNX file, for example with modelopt.onnx.quantization.quantize, or build fp16"
        )
    if own and own != request.precision:
        raise ModelError(f"{file.path}: is {own} itself and can be built as {own} only, not as {request.precision}")
    return request.precision


class EngineBuilder:
    """One build. `stop` may come from any thread.

    Attributes:
        is_held: whether it is to stand still for a while. Any thread may set it; half a second later it is so.
    """

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        self.is_held = False
        self._is_stopped = threading.Event()
        self._stage: Stage = "reading"
        self._fraction: float | None = None
        self._outcome: dict[str, Any] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    def run(self, on_progress: Callable[[Progress], None]) -> Finished:
        """Builds the engine, or finds that it is there; blocks for minutes.

        The thread must live until this returns: the kernel kills the child when the thread that started it ends.

        Args:
            on_progress: called in this thread, some times a second.

        Raises:
            ModelError: the model is refused, or TensorRT failed or died.
            UnavailableError: TensorRT or CUDA is not installed, or there is no GPU.
            ConfigError: the folder cannot be used.
            TransientError: the disk or the GPU's memory is full, or the model was replaced meanwhile.
            BuildStoppedError: after `stop`.
        """
        started_s = time.monotonic()
        with self._child() as child:
            for line in self._lines(child):
                self._take(line)
                on_progress(Progress(self._stage, self._fraction, time.monotonic() - started_s))
            if self._is_stopped.is_set() and self._outcome is None:
                raise BuildStoppedError(self._stopped_words())
            code = child.wait()
        return self._finished(code)

    def stop(self) -> None:
        """Ends it within a second; `run` then raises `BuildStoppedError`, unless it has just finished."""
        self._is_stopped.set()

    @contextmanager
    def _child(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The process, gone with all that it started when this ends."""
        words = [sys.executable, "-c", WORKER, json.dumps(asdict(self._request), default=str)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            started = subprocess.Popen(tied(words), stdin=nothing, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:  # no memory for another process, say
            raise TransientError(
                f"{self._request.model}: no process can be started to build its engine: {error}"
            ) from error
        with started as child:
            try:
                yield child
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
                if self._outcome is None:
                    self._sweep()

    def _sweep(self) -> None:
        """What a child that did not end well may have left half-written. The next build would remove it as well."""
        own = self._request.out
        with suppress(ConfigError, OSError):
            EngineCache(self._request.folder).sweep([sealed.part_of(own)] if own else [])

    def _lines(self, child: "subprocess.Popen[bytes]") -> Iterator[str]:
        """What the child reports, and an empty line now and then, until it has ended or is to be stopped."""
        rests = {child.stdout: b"", child.stderr: b""}
        was_held = False
        with selectors.DefaultSelector() as selector:
            for pipe in rests:
                selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type] # both are pipes
            while selector.get_map() and not self._is_stopped.is_set():
                yield ""
                if self.is_held != was_held:
                    was_held = not was_held
                    os.killpg(
                        child.pid, signal.SIGSTOP if was_held else signal.SIGCONT
                    )  # not reaped: the id is its own
                for key, _ in selector.select(_TICK_S):
                    data = os.read(key.fd, _READ_BYTES)
                    *lines, rests[key.fileobj] = (rests[key.fileobj] + data).split(b"\n")  # type: ignore[index]
                    words = [line.decode("utf-8", "replace") for line in lines]
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is child.stdout:
                        yield from words
                    else:
                        self._last_lines.extend(line[-_LINE_MOST:] for line in words)

    def _take(self, line: str) -> None:
        if line:
            said = json.loads(line)
            if "stage" in said:
                self._stage, self._fraction = said["stage"], said["fraction"]
            elif "level" in said:
                log.log(getattr(logging, said.pop("level").upper()), said.pop("event"), **said)
            else:
                self._outcome = said

    def _finished(self, code: int) -> Finished:
        said = self._outcome or {}
        if "path" in said:
            return Finished(**{**said, "path": Path(said["path"]), "notes": tuple(said["notes"])})
        if "refused" in said:
            raise REFUSALS[said["refused"]](said["why"])
        if -code in (signal.SIGTERM, signal.SIGINT):
            raise BuildStoppedError(self._stopped_words())
        raise ModelError(f"{self._request.model}: {self._how_it_died(code)}")

    def _stopped_words(self) -> str:
        return f"{self._request.model}: the build of its engine was stopped"

    def _how_it_died(self, code: int) -> str:
        if -code == signal.SIGKILL:
            return (
                "the build of its engine was killed, most likely because memory was short; stop other programs, ask for "
                "a smaller workspace, or build it while the line stands: edge-agent model build"
            )
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = " / ".join(self._last_lines)
        return f"the build of its engine {how}, inside TensorRT or the driver" + (f" (it says: {said})" if said else "")
