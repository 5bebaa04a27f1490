"""Opens a model: the engine that suits this board, and the decoder that suits the model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import structlog

from edge_agent import plugins
from edge_agent.app.engine_choice import (
    EngineRequest,
    Way,
    blueprint,
    cannot_run,
    direct_ways,
    may_stand_in,
    not_built,
    stand_ins,
)
from edge_agent.app.preprocessing import choose_preprocessor
from edge_agent.core.datatypes import BoundTensor, Certainty, ModelSpec, Recognition, Thresholds
from edge_agent.core.heads import picture_of, refuse_state
from edge_agent.core.ports import Backend, Decoder
from edge_agent.errors import ConfigError, DeviceMemoryError, EngineUnfitError, ModelError
from edge_agent.models import bare
from edge_agent.models.engine_cache import EngineCache
from edge_agent.runtime.engine import Engine

log = structlog.get_logger()


def open_engine(request: EngineRequest, *, or_stand_in: bool = False) -> Engine:
    """Loads the model, finds its decoder and warms both up.

    Args:
        request: what is asked for.
        or_stand_in: whether another engine will do where TensorRT was asked for by name, but its engine is not built yet.

    Raises:
        ModelError: the model cannot be used as it is.
        UnavailableError: what it needs is not installed.
    """
    file = bare.identify(request.path)
    try:
        plan = blueprint(file, request)
    except ConfigError as error:
        ways = stand_ins(file, request.order, cannot_run(error)) if may_stand_in(request, error) else []
        if not ways:
            raise
        log.warning("tensorrt_unused", reason=str(error))
        return open_first(request, file, ways)
    if plan is None:
        return open_first(request, file, direct_ways(file, request.backend, request.order))
    built, is_optional = plan.built(), or_stand_in or request.backend == "auto"
    ways = [built] if built else []
    ways += stand_ins(file, request.order, not_built(file)) if is_optional else []
    if not ways:
        raise ModelError(f"{file.path}: {not_built(file)}")
    return open_first(request, file, ways, plan.cache)


def log_unused(way: Way, error: ConfigError) -> None:
    """One line for an engine that does not work."""
    log.warning("engine_unused", backend=way.backend, engine=way.path.name, reason=str(error))


def open_first(
    request: EngineRequest,
    file: bare.ModelFile,
    ways: Sequence[Way],
    cache: EngineCache | None = None,
    tell: Callable[[Way, ConfigError], None] = log_unused,
) -> Engine:
    """The first that works, of at least one.

    An engine that was built on this machine and does not fit it is set aside in `cache`. `tell` hears what does not work.

    Raises:
        ModelError: the model cannot be used as it is, or the last of them did not work either.
    """
    for way in ways:
        try:
            return open_way(request, file, way)
        except ConfigError as error:
            is_own = way.path != file.path
            if isinstance(error, EngineUnfitError) and is_own and cache:
                cache.discard(way.path, str(error))
            if not is_own and not isinstance(error, DeviceMemoryError):  # then it is the model that cannot be used
                raise
            tell(way, error)
            if way is ways[-1]:
                raise
    raise AssertionError("there was nothing to open")


def open_way(request: EngineRequest, file: bare.ModelFile, way: Way) -> Engine:
    """Opens that one, and nothing else, in the thread that is to use it. Raises as `open_engine`."""
    module = plugins.load("backends", way.backend)
    settings = {"path": way.path, "threads": request.threads, "allow_host_code": request.allow_host_code}
    known = module.Config.model_fields
    with ExitStack() as stack:
        backend: Backend = module.create(module.Config(**{key: settings[key] for key in settings if key in known}))
        stack.callback(backend.close)
        picture, *others = picture_first(file, backend)
        specs = picture.spec, *(bound.spec for bound in others)
        model = bare.describe(file, backend.metadata, specs, tuple(backend.outputs), request.labels)
        decoder_config, why = choose_decoder(model, request.decoder)
        decoder = make_decoder(decoder_config, model, request.thresholds)
        model = replace(model, labels=decoder.labels)
        set_constants(model.name, others, decoder.input_format.constants)
        preprocessor = choose_preprocessor(backend, picture, decoder.input_format, request.frame_wh)
        reason = f"{way.reason}; {why}"
        engine = Engine(backend, preprocessor, decoder, model, way.backend, decoder_config.kind, reason)
        warm_up(engine)
        stack.pop_all()
    log.info("engine_open", backend=way.backend, runtime=backend.runtime, decoder=decoder_config.kind, reason=reason)
    return engine


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
    """Runs a grey picture, so that the first real one is not slower, and lets the decoder check what comes out.

    Once: backends run a model when they load it, and after two runs LiteRT and ONNX Runtime are as fast as ever.
    """
    letterbox = engine.preprocessor.prepare(np.full((480, 640, 3), 114, np.uint8))
    outputs = engine.backend.infer()
    engine.decoder.check(outputs)
    engine.decoder(outputs, letterbox)
