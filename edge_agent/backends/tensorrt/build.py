"""Builds a plan from an ONNX file with TensorRT's builder: one call, which takes minutes and cannot be interrupted.

It belongs into a process of its own: it takes gigabytes, and what goes wrong deep in TensorRT ends the process. Up to
TensorRT 10 the precision is asked of the builder by flags; from 11 it is that of the ONNX file. INT8 comes from pairs of
quantise and dequantise (Q/DQ) in the file; nothing is calibrated here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.backends.tensorrt.messages import MESSAGES, is_of_memory, logger_for, says
from edge_agent.backends.tensorrt.phases import monitor
from edge_agent.backends.tensorrt.plans import library
from edge_agent.errors import GpuError, ModelError, TransientError

_WITHOUT_EXPLICIT_BATCH = 10  # from this version on every network has it
_ERRORS_SHOWN = 5
_LIBRARIES = ("CUBLAS", "CUBLAS_LT", "CUDNN")
_CONVERT = (
    "for FP16 convert the ONNX file first, for example with modelopt.onnx.autocast.convert_to_mixed_precision("
    'low_precision_type="fp16", keep_io_types=True)'
)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What is asked of the builder.

    Attributes:
        precision: `fp32`, `fp16` or `int8`. `int8` is for files with Q/DQ only; what is not quantised there runs in FP16.
        workspace_mb: the most that one layer may take for itself while the engine runs.
        shapes: all inputs' sides, for those that the file leaves open.
        has_halves: the file's own weights are FP16.
        without_libraries: does without cuBLAS and cuDNN, for machines that lack them.
        timing_cache: what an earlier build measured.
    """

    precision: str = "fp16"
    workspace_mb: int = 512
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    has_halves: bool = False
    without_libraries: bool = False
    timing_cache: bytes = b""


@dataclass(frozen=True, slots=True)
class Built:
    """A plan; what was measured on the way; what precision it became; and what people should know, in sentences."""

    plan: memoryview
    timing_cache: bytes
    precision: str
    notes: tuple[str, ...]


def version() -> str:
    """TensorRT's, in three numbers: `10.3.0`. Raises `UnavailableError` where it is not there."""
    return ".".join(str(library().__version__).split(".")[:3])


def build(onnx: Path, options: BuildOptions, on_fraction: Callable[[float | None], None]) -> Built:
    """Builds the plan. `on_fraction` is told what is done of the whole, or None where this TensorRT does not tell.

    Raises:
        ModelError: TensorRT cannot build an engine from the file, with its reasons.
        TransientError: the GPU has too little memory now.
        UnavailableError: TensorRT is not there, or finds no GPU.
    """
    tensorrt = library()
    logger = logger_for(tensorrt)
    MESSAGES.last_words()
    builder = _builder(tensorrt, logger)
    network = _parse(tensorrt, logger, builder, onnx)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    precision, notes = _set_precision(tensorrt, builder, config, onnx, options)
    if options.without_libraries:
        _leave_libraries_out(tensorrt, config)
    _set_shapes(builder, network, config, options.shapes)
    timings = _set_timing_cache(config, options.timing_cache)
    if hasattr(tensorrt, "IProgressMonitor"):
        config.progress_monitor = monitor(tensorrt, on_fraction)
    else:
        on_fraction(None)
    MESSAGES.last_words()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failure(onnx, options)
    measured = bytes(memoryview((config.get_timing_cache() or timings).serialize()))
    return Built(memoryview(plan).cast("B"), measured, precision, notes)


def _builder(tensorrt: Any, logger: Any) -> Any:
    try:
        return tensorrt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # what pybind11 makes of a builder that is none
        said = says(version(), MESSAGES.last_words() or [MESSAGES.last_warning() or str(error)])
        raise GpuError(f"TensorRT cannot use a GPU here; see that the NVIDIA driver runs {said}") from error


def _parse(tensorrt: Any, logger: Any, builder: Any, onnx: Path) -> Any:
    """The network in the file."""
    tensorrt.init_libnvinfer_plugins(logger, "")
    network = builder.create_network(_network_flags(tensorrt))
    parser = tensorrt.OnnxParser(network, logger)
    if parser.parse_from_file(str(onnx)):
        return network
    errors = [_parser_error(parser.get_error(number)) for number in range(parser.num_errors)]
    errors = errors or MESSAGES.last_words() or ["no reason was given"]
    more = f"; and {len(errors) - _ERRORS_SHOWN} more" if len(errors) > _ERRORS_SHOWN else ""
    raise ModelError(
        f"{onnx}: TensorRT {version()} cannot read this model: {'; '.join(errors[:_ERRORS_SHOWN])}{more}. "
        "Export it again with another opset or without what it complains about, or run it with ONNX Runtime"
    )


def _network_flags(tensorrt: Any) -> int:
    major = int(str(tensorrt.__version__).split(".")[0])
    if major >= _WITHOUT_EXPLICIT_BATCH:
        return 0
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _parser_error(error: Any) -> str:
    """One error with the node it is about; names and operations are told from TensorRT 10 on."""
    text = " ".join(str(error.desc()).split())
    name = str(error.node_name()) if hasattr(error, "node_name") else ""
    operation = str(error.node_operator()) if hasattr(error, "node_operator") else ""
    node = " ".join(word for word in (operation, name) if word)
    if error.node() < 0 and not node:
        return text
    return f"node {error.node()} ({node}): {text}" if node else f"node {error.node()}: {text}"


def _set_precision(
    tensorrt: Any, builder: Any, config: Any, onnx: Path, options: BuildOptions
) -> tuple[str, tuple[str, ...]]:
    """The precision that it will be, and what is to be said about it."""
    if not hasattr(tensorrt.BuilderFlag, "FP16"):
        return _own_precision(onnx, options)
    fast = bool(getattr(builder, "platform_has_fast_fp16", True))
    if options.has_halves or (fast and options.precision != "fp32"):
        config.set_flag(tensorrt.BuilderFlag.FP16)
    if options.precision == "int8":
        config.set_flag(tensorrt.BuilderFlag.INT8)
    if options.precision == "fp16" and not fast and not options.has_halves:
        return "fp32", ("this GPU is no faster in FP16: built as fp32",)
    return options.precision, ()


def _own_precision(onnx: Path, options: BuildOptions) -> tuple[str, tuple[str, ...]]:
    """That of the file."""
    own = options.precision if options.precision == "int8" else "fp16" if options.has_halves else "fp32"
    if own == options.precision:
        return own, ()
    which = f"TensorRT {version()} takes the precision from the model"
    return own, (f"{which}, and {onnx.name} is {own}: built as {own}; {_CONVERT}",)


def _leave_libraries_out(tensorrt: Any, config: Any) -> None:
    sources = config.get_tactic_sources()
    for name in _LIBRARIES:
        if hasattr(tensorrt.TacticSource, name):
            sources &= ~(1 << int(getattr(tensorrt.TacticSource, name)))
    config.set_tactic_sources(sources)


def _set_shapes(builder: Any, network: Any, config: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Inputs with open sides get one size: the engine is then as fast as one without."""
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    open_inputs = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if not open_inputs:
        return
    profile = builder.create_optimization_profile()
    for tensor in open_inputs:
        shape = tuple(shapes[tensor.name])
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)


def _set_timing_cache(config: Any, known: bytes) -> Any:
    """What was measured before; that of another machine, or damaged, is not taken."""
    for content in (known, b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
            break
    return timings


def _failure(onnx: Path, options: BuildOptions) -> ModelError | TransientError:
    said = MESSAGES.last_words()
    words = says(version(), said)
    if is_of_memory(said):
        return TransientError(
            f"{onnx}: the GPU has too little memory to build an engine with a workspace of {options.workspace_mb} MB; "
            f"stop other programs that use it, or ask for a smaller workspace {words}"
        )
    return ModelError(f"{onnx}: TensorRT cannot build an engine from this model {words}")
