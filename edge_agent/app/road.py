"""The road of a verdict: all that decides about a part and writes about it, from the mailroom to two outlets."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import edge_agent
from edge_agent import plugins
from edge_agent.app.engine_choice import FRAME_WH, EngineRequest, build_request
from edge_agent.app.engine_supply import EngineSupply, Policy
from edge_agent.app.health_limits import all_limits
from edge_agent.app.overlap import maker, scheduling_of
from edge_agent.app.rules import mismatches
from edge_agent.clock import SYSTEM, Clock
from edge_agent.config import AgentConfig, CameraConfig, ConfigProblemsError, ExternalTrigger, LineTrigger, Loaded
from edge_agent.core.datatypes import Thresholds
from edge_agent.core.parts import Ledger
from edge_agent.errors import ConfigError
from edge_agent.hardware import probe, telemetry
from edge_agent.hardware.profile import BESIDE_MB, Choice, choose, load_all
from edge_agent.runtime.acks import Acks
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.desk import Desk, Line, Records
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.forms import Fire
from edge_agent.runtime.mailbox import Mailbox, Mailroom
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import UNKNOWN_CLOCK, Identity, Scribe
from edge_agent.runtime.streaks import Streaks
from edge_agent.runtime.summons import Summons, Terms, TriggeredInspector
from edge_agent.runtime.trigger import FrameInspector, Inspector, LineInspector, MakeRule
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Road:
    """Made, but not opened. Each mapping has every camera, in the order of the configuration.

    But `summons` has only those whose parts are called for from outside.
    """

    choice: Choice
    mailroom: Mailroom
    mailboxes: dict[str, Mailbox]
    watches: dict[str, CameraWatch]
    scribe: Scribe
    ledger: Ledger
    desk: Desk
    reporter: Reporter
    pipeline: Pipeline
    summons: dict[str, Summons]
    supply: EngineSupply
    introduce: Callable[[Engine], None]


def build_road(loaded: Loaded, line: Line, records: Records, *, session: str, clock: Clock = SYSTEM) -> Road:
    """Verdicts go to `line`, results and events to `records`.

    Raises:
        ConfigError: the board cannot be served, or the profile or a baseline cannot be used.
    """
    config = loaded.config
    board, choice = choose_profile(config)
    read_clock = wall_clock if clock is SYSTEM else lambda: UNKNOWN_CLOCK
    scribe = Scribe(_identity(loaded, board, choice, session), _topics(config), clock, read_clock)
    mailroom, ledger = Mailroom(), Ledger(config.verdict.deadline_ms, config.verdict.valid_ms)
    mailboxes = {camera.id: _mailbox(mailroom, camera) for camera in config.cameras}
    watches = {
        camera.id: CameraWatch(camera.id, limits)
        for camera, limits in zip(config.cameras, all_limits(loaded), strict=True)
    }
    acks = Acks(mailboxes, config.ack.within_ms, session) if config.ack else None
    streaks = Streaks(mailboxes, **row_limits(config))
    desk = Desk(scribe, line, records, results=config.records.results, streaks=streaks, acks=acks, fire=fires(config))
    summons = {
        camera.id: Summons(camera.id, terms, ledger, mailboxes[camera.id], desk, clock)
        for camera in config.cameras
        if (terms := _terms(camera)) is not None
    }
    reporter = Reporter(scribe, records)
    supply = EngineSupply(engine_request(config, choice), _policy(config, choice, clock), reporter)
    introduce = partial(_introduce, scribe, summons.values())
    pipeline = Pipeline(
        partial(_open_engine, loaded, supply, introduce),
        partial(_make_inspectors, config, ledger, summons),
        mailroom,
        ledger,
        desk,
        watches=tuple(watches.values()),
        clock=clock,
    )
    if clock is SYSTEM:
        pipeline.make_ahead = maker(config, choice, mailroom, tuple(watches.values()))
        pipeline.scheduling = scheduling_of(choice)
    return Road(
        choice, mailroom, mailboxes, watches, scribe, ledger, desk, reporter, pipeline, summons, supply, introduce
    )


def choose_profile(config: AgentConfig) -> tuple[probe.Board, Choice]:
    """The board, and the profile it gets.

    Raises:
        ConfigError: there is no such profile, or the board cannot be served.
    """
    board = probe.detect()
    choice = choose(board, load_all(), config.hardware.profile)
    if not choice.supported or choice.profile is None:
        raise ConfigError(f"this board cannot be served: {choice.reason}")
    return board, choice


def engine_request(config: AgentConfig, choice: Choice) -> EngineRequest:
    """What the configuration and the profile ask of the engine."""
    profile, model, hardware, rt = choice.profile, config.model, config.hardware, config.hardware.tensorrt
    return EngineRequest(
        path=model.path,
        order=profile.backends if profile else (),
        labels=model.labels,
        backend=hardware.backend,
        threads=hardware.threads or (profile.threads if profile else None),
        decoder=model.decoder,
        thresholds=Thresholds(model.conf, model.iou),
        build=build_request(
            model.path, profile, precision=rt.precision, workspace_mb=rt.workspace_mb, folder=rt.folder
        ),
        allow_host_code=rt.allow_host_code,
        frame_wh=_frame_wh(config, choice),
    )


def _frame_wh(config: AgentConfig, choice: Choice) -> tuple[int, int]:
    """About the size of the first camera's pictures; the profile's, where the configuration does not say."""
    camera, profile = config.cameras[0], choice.profile
    width, height = getattr(camera, "width", None), getattr(camera, "height", None)
    if width and height:
        return width, height
    return (profile.capture.width, profile.capture.height) if profile else FRAME_WH


def _policy(config: AgentConfig, choice: Choice, clock: Clock) -> Policy:
    """On a simulated clock nothing is built: what is decided must not depend on how long that takes."""
    if clock is not SYSTEM:
        return Policy("never")
    profile = choice.profile
    beside_mb = profile.tensorrt.beside_mb if profile and profile.tensorrt else BESIDE_MB
    return Policy(config.hardware.tensorrt.build, beside_mb)


def make_rules(camera: CameraConfig) -> list[MakeRule]:
    """One maker per rule: each part gets its own."""
    return [partial(plugins.load("rules", rule.kind).create, rule) for rule in camera.rules]


def fires(config: AgentConfig) -> dict[str, Fire]:
    """When parts are at the arm, for the cameras that say so."""
    return {camera.id: Fire(camera.fire.after_ms, camera.fire.tolerance_ms) for camera in config.cameras if camera.fire}


def row_limits(config: AgentConfig) -> dict[str, int]:
    """How many of one word in a row are too many."""
    return {"unknown_in_row": config.verdict.unknown_in_row, "reject_in_row": config.verdict.reject_in_row}


def wall_clock() -> wire.Clock:
    """What the kernel says about the wall clock."""
    told = telemetry.clock()
    return wire.Clock(synced=told.synced, max_error_ms=told.max_error_ms)


def _mailbox(mailroom: Mailroom, camera: CameraConfig) -> Mailbox:
    if isinstance(camera.trigger, ExternalTrigger):
        return mailroom.add(ring=camera.trigger.ring, free_running=False)
    return mailroom.add(lossless=is_lossless(camera))


def _terms(camera: CameraConfig) -> Terms | None:
    trigger = camera.trigger
    if not isinstance(trigger, ExternalTrigger):
        return None
    return Terms(int(trigger.offset_ms * 1e6), int(trigger.window_ms * 1e6))


def _make_inspectors(
    config: AgentConfig, ledger: Ledger, summons: Mapping[str, Summons], engine: Engine
) -> list[Inspector]:
    """One per camera, in their order."""
    labels = engine.model.labels
    return [_inspector(camera, ledger, labels, summons.get(camera.id)) for camera in config.cameras]


def is_lossless(camera: CameraConfig) -> bool:
    """A replay without a pace waits for the line; nothing of it is dropped."""
    return camera.kind == "replay" and getattr(camera, "fps", None) == 0


def _inspector(camera: CameraConfig, ledger: Ledger, labels: Sequence[str], summons: Summons | None) -> Inspector:
    rules, trigger = make_rules(camera), camera.trigger
    if summons is not None:
        return TriggeredInspector(camera.id, ledger, labels, rules, summons=summons)
    if isinstance(trigger, LineTrigger):
        return LineInspector(
            camera.id, ledger, labels, rules, parts=trigger.parts, line=trigger.line, direction=trigger.direction
        )
    return FrameInspector(camera.id, ledger, labels, rules)


def _open_engine(loaded: Loaded, supply: EngineSupply, introduce: Callable[[Engine], None]) -> Engine:
    """The engine, checked against what the configuration expects of its labels."""
    import cv2

    cv2.setNumThreads(1)  # the stages around the engine are short: more threads cost more than they give
    engine = supply.open()
    problems = mismatches(loaded, engine.model, engine.decoder_kind)
    if problems:
        engine.backend.close()
        raise ConfigProblemsError(problems)
    introduce(engine)
    return engine


def _introduce(scribe: Scribe, summons: Iterable[Summons], engine: Engine) -> None:
    """From now on messages name this engine, and parts can be called for."""
    told = wire.Engine(
        backend=engine.backend_kind,
        runtime=engine.backend.runtime[:200],
        decoder=engine.decoder_kind,
        reason=engine.reason[:200],
    )
    scribe.introduce(told, engine.model)
    for caller in summons:
        caller.is_ready = True


def _topics(config: AgentConfig) -> Topics:
    _, table = config.publisher
    return config.device.topics(table.prefix)


def _identity(loaded: Loaded, board: probe.Board, choice: Choice, session: str) -> Identity:
    config = loaded.config
    cameras = [
        wire.CameraInfo(id=camera.id, kind=camera.kind, trigger=camera.trigger.kind) for camera in config.cameras
    ]
    return Identity(
        device=config.device.id,
        agent_version=edge_agent.__version__,
        python=platform.python_version(),
        board=(board.board or "unknown")[:64],
        profile=choice.profile.name if choice.profile else "none",
        config_sha256=loaded.sha256,
        cameras=tuple(cameras),
        on_unknown=config.verdict.on_unknown,
        on_agent_loss=config.verdict.on_agent_loss,
        deadline_ms=config.verdict.deadline_ms,
        valid_ms=config.verdict.valid_ms,
        session=session,
    )
