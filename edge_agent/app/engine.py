"""Which engine and which decoder a model gets on this board, and why."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from edge_agent import plugins
from edge_agent.core.datatypes import BoundTensor, Certainty, ModelSpec, Recognition, Thresholds
from edge_agent.core.heads import picture_of, refuse_state
from edge_agent.core.ports import Backend, Decoder
from edge_agent.errors import ModelError, UnavailableError
from edge_agent.models import bare
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.preprocess import Preprocessor

log = structlog.get_logger()
WARM_UP_RUNS = 2


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What is asked for. `order` is the profile's order of backends; `decoder` is None where the model must tell."""

    path: Path
    order: Sequence[str]
    labels: Path | None = None
    backend: str = "auto"
    threads: int | None = None
    decoder: Any = None
    thresholds: Thresholds = Thresholds()


def open_engine(request: EngineRequest) -> Engine:
    """Loads the model, finds its decoder and warms both up.

    Raises:
        ModelError: the model cannot be used as it is.
        UnavailableError: what it needs is not installed.
    """
    file = bare.identify(request.path)
    kind, reason = choose_backend(file, request.backend, request.order)
    module = plugins.load("backends", kind)
    with ExitStack() as stack:
        backend: Backend = module.create(module.Config(path=file.path, threads=request.threads))
        stack.callback(backend.close)
        picture, *others = picture_first(file, backend)
        specs = picture.spec, *(bound.spec for bound in others)
        model = bare.describe(file, backend.metadata, specs, tuple(backend.outputs), request.labels)
        decoder_config, why = choose_decoder(model, request.decoder)
        decoder = make_decoder(decoder_config, model, request.thresholds)
        model = replace(model, labels=decoder.labels)
        set_constants(model.name, others, decoder.input_format.constants)
        preprocessor = Preprocessor(picture, decoder.input_format)
        engine = Engine(backend, preprocessor, decoder, model, kind, decoder_config.kind, f"{reason}; {why}")
        warm_up(engine)
        stack.pop_all()
    log.info("engine_open", backend=kind, runtime=backend.runtime, decoder=decoder_config.kind, reason=engine.reason)
    return engine


def choose_backend(file: bare.ModelFile, wanted: str, order: Sequence[str]) -> tuple[str, str]:
    """The backend for the file, and why in words: the wanted one, or the first of the order that can run it here."""
    known = plugins.kinds("backends")
    if wanted not in ("auto", *known):
        raise UnavailableError(f"there is no engine {wanted!r} here; there are {', '.join(known)}")
    if wanted != "auto":
        problem = _cannot_run(wanted, file)
        if problem:
            raise problem
        return wanted, f"{wanted} was asked for"
    readers = [kind for kind in known if file.path.suffix.lower() in plugins.load("backends", kind).SUFFIXES]
    if not readers:
        formats = sorted(suffix for kind in known for suffix in plugins.load("backends", kind).SUFFIXES)
        raise ModelError(f"{file.path}: no engine here reads {file.path.suffix} files; it may be {', '.join(formats)}")
    ranked = [kind for kind in order if kind in readers] + [kind for kind in readers if kind not in order]
    for kind in ranked:
        problem = _cannot_run(kind, file)
        if problem is None:
            return kind, f"{kind} is the first of the profile's engines that runs {file.path.suffix} files here"
    raise _cannot_run(ranked[0], file) or AssertionError


def _cannot_run(kind: str, file: bare.ModelFile) -> Exception | None:
    module = plugins.load("backends", kind)
    if file.path.suffix.lower() not in module.SUFFIXES:
        return ModelError(f"{file.path}: {kind} reads {', '.join(module.SUFFIXES)} files")
    missing = module.available()
    return UnavailableError(f"{file.path}: {missing}") if missing else None


def picture_first(file: bare.ModelFile, backend: Backend) -> list[BoundTensor]:
    """The inputs of a model, that of the picture first: decoders go by it.

    Raises:
        ModelError: none takes a picture, or more than one might, or one takes what the last run gave.
    """
    specs = [bound.spec for bound in backend.inputs]
    refuse_state(str(file.path), specs, backend.outputs)
    picture = picture_of(specs)
    if picture is None:
        raise ModelError(
            f"{file.path}: which input takes the picture cannot be told: there should be one [1, H, W, 3] or "
            f"[1, 3, H, W], but there is {', '.join(map(str, specs))}; use a model that looks at one picture at a time"
        )
    return sorted(backend.inputs, key=lambda bound: bound.spec is not picture)


def set_constants(model: str, others: Sequence[BoundTensor], constants: Mapping[str, tuple[float, ...]]) -> None:
    """Writes what stands in the inputs that are not the picture, for good; one number fills all of its input.

    Raises:
        ModelError: nobody knows what one of them wants, or what is known does not fit into it.
    """
    for bound in others:
        numbers = constants.get(bound.spec.name)
        if numbers is None:
            raise ModelError(
                f"{model}: besides the picture it wants the input {bound.spec}, and what belongs there is not known; "
                "export the model with the picture as its only input"
            )
        with np.errstate(invalid="ignore"):  # what does not fit is found below
            wanted = np.resize(numbers, bound.array.shape)
            bound.array[...] = wanted
        fits = bound.spec.quant is None and len(numbers) in (1, bound.array.size)
        if not fits or not np.array_equal(bound.array, wanted):
            raise ModelError(
                f"{model}: the input {bound.spec} should hold {list(numbers)}, which does not fit; "
                "export the model again, the way its makers do"
            )


def choose_decoder(model: ModelSpec, configured: Any) -> tuple[Any, str]:
    """The decoder's configuration: as configured, or that of the one decoder that is surest of the model."""
    if configured is not None:
        return configured, f"decoder {configured.kind} was configured"
    claims: dict[str, Recognition] = {}
    doubts: list[ModelError] = []
    for kind in plugins.kinds("decoders"):
        try:
            claim = plugins.load("decoders", kind).recognise(model)
        except ModelError as error:
            doubts.append(error)
        else:
            claims |= {kind: claim} if claim else {}
    if not claims and doubts:
        raise doubts[0]
    if not claims:
        outputs = ", ".join(str(spec) for spec in model.outputs)
        raise ModelError(
            f"{model.name}: no decoder knows a model with the outputs {outputs}; there are "
            f"{', '.join(plugins.kinds('decoders'))}. Set one under [model.decoder] if you know that it fits"
        )
    surest: Certainty = max(claim.certainty for claim in claims.values())
    winners = [kind for kind, claim in claims.items() if claim.certainty == surest]
    if len(winners) > 1:
        raise ModelError(
            f"{model.name}: it may be a {' or a '.join(winners)} model; say which under [model.decoder]: "
            f'kind = "{winners[0]}"'
        )
    kind = winners[0]
    return plugins.load("decoders", kind).Config(**claims[kind].settings), f"decoder {kind}: {claims[kind].why}"


def make_decoder(config: Any, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder for a model with thresholds; cheap, so that a reload makes a new one."""
    decoder: Decoder = plugins.load("decoders", config.kind).create(config, model, thresholds)
    return decoder


def warm_up(engine: Engine) -> None:
    """Runs a grey picture, so that the first real one is not slower, and lets the decoder check what comes out."""
    grey = np.full((480, 640, 3), 114, np.uint8)
    for _ in range(WARM_UP_RUNS):
        engine.look(grey)
    engine.decoder.check(engine.backend.infer())
