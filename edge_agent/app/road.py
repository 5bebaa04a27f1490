"""The road of a verdict: all that decides about a part and writes about it, from the mailroom to two outlets."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import edge_agent
from edge_agent import plugins
from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.app.health_limits import all_limits
from edge_agent.app.rules import mismatches
from edge_agent.clock import SYSTEM, Clock
from edge_agent.config import AgentConfig, CameraConfig, ConfigProblemsError, LineTrigger, Loaded
from edge_agent.core.datatypes import Thresholds
from edge_agent.core.parts import Ledger
from edge_agent.errors import ConfigError
from edge_agent.hardware import probe
from edge_agent.hardware.profile import Choice, choose, load_all
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.desk import Desk, Line, Records
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.mailbox import Mailbox, Mailroom
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import Identity, Scribe
from edge_agent.runtime.trigger import FrameInspector, Inspector, LineInspector, MakeRule
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Road:
    """Made, but not opened. Each mapping has every camera, in the order of the configuration."""

    choice: Choice
    mailroom: Mailroom
    mailboxes: dict[str, Mailbox]
    watches: dict[str, CameraWatch]
    scribe: Scribe
    ledger: Ledger
    desk: Desk
    reporter: Reporter
    pipeline: Pipeline


def build_road(loaded: Loaded, line: Line, records: Records, *, session: str, clock: Clock = SYSTEM) -> Road:
    """Verdicts go to `line`, results and events to `records`.

    Raises:
        ConfigError: the board cannot be served, or the profile or a baseline cannot be used.
    """
    config = loaded.config
    board, choice = choose_profile(config)
    scribe = Scribe(_identity(loaded, board, choice, session), _topics(config), clock)
    mailroom, ledger = Mailroom(), Ledger(config.verdict.deadline_ms, config.verdict.valid_ms)
    mailboxes = {camera.id: mailroom.add(lossless=is_lossless(camera)) for camera in config.cameras}
    watches = {
        camera.id: CameraWatch(camera.id, limits)
        for camera, limits in zip(config.cameras, all_limits(loaded), strict=True)
    }
    desk = Desk(scribe, line, records, results=config.records.results)
    pipeline = Pipeline(
        partial(_open_engine, loaded, choice, scribe),
        partial(_make_inspectors, config, ledger),
        mailroom,
        ledger,
        desk,
        watches=tuple(watches.values()),
        clock=clock,
    )
    reporter = Reporter(scribe, records)
    return Road(choice, mailroom, mailboxes, watches, scribe, ledger, desk, reporter, pipeline)


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
    profile, model, hardware = choice.profile, config.model, config.hardware
    return EngineRequest(
        path=model.path,
        order=profile.backends if profile else (),
        labels=model.labels,
        backend=hardware.backend,
        threads=hardware.threads or (profile.threads if profile else None),
        decoder=model.decoder,
        thresholds=Thresholds(model.conf, model.iou),
    )


def make_rules(camera: CameraConfig) -> list[MakeRule]:
    """One maker per rule: each part gets its own."""
    return [partial(plugins.load("rules", rule.kind).create, rule) for rule in camera.rules]


def _make_inspectors(config: AgentConfig, ledger: Ledger, engine: Engine) -> list[Inspector]:
    """One per camera, in their order."""
    return [_inspector(camera, ledger, engine.model.labels) for camera in config.cameras]


def is_lossless(camera: CameraConfig) -> bool:
    """A replay without a pace waits for the line; nothing of it is dropped."""
    return camera.kind == "replay" and getattr(camera, "fps", None) == 0


def _inspector(camera: CameraConfig, ledger: Ledger, labels: Sequence[str]) -> Inspector:
    rules, trigger = make_rules(camera), camera.trigger
    if isinstance(trigger, LineTrigger):
        return LineInspector(
            camera.id, ledger, labels, rules, parts=trigger.parts, line=trigger.line, direction=trigger.direction
        )
    return FrameInspector(camera.id, ledger, labels, rules)


def _open_engine(loaded: Loaded, choice: Choice, scribe: Scribe) -> Engine:
    """The engine, checked against what the configuration expects of its labels."""
    import cv2

    cv2.setNumThreads(1)  # the stages around the engine are short: more threads cost more than they give
    engine = open_engine(engine_request(loaded.config, choice))
    problems = mismatches(loaded, engine.model, engine.decoder_kind)
    if problems:
        engine.backend.close()
        raise ConfigProblemsError(problems)
    told = wire.Engine(
        backend=engine.backend_kind,
        runtime=engine.backend.runtime[:200],
        decoder=engine.decoder_kind,
        reason=engine.reason[:200],
    )
    scribe.introduce(told, engine.model)
    return engine


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
