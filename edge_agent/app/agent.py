"""From a configuration to a running agent."""

import platform
import queue
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import edge_agent
from edge_agent import plugins
from edge_agent.app.cameras import camera_opener
from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.app.health_limits import all_limits
from edge_agent.app.rules import mismatches
from edge_agent.config import AgentConfig, CameraConfig, ConfigProblemsError, LineTrigger, Loaded
from edge_agent.core.datatypes import Thresholds
from edge_agent.core.parts import Ledger
from edge_agent.core.ports import Message, Publisher
from edge_agent.errors import ConfigError
from edge_agent.hardware import probe, telemetry
from edge_agent.hardware.profile import Choice, choose, load_all
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.link import Link
from edge_agent.runtime.mailbox import Mailbox, Mailroom
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.scribe import Identity, Scribe
from edge_agent.runtime.systemd import Notifier
from edge_agent.runtime.timer import Timer
from edge_agent.runtime.trigger import FrameInspector, Inspector, LineInspector, MakeRule
from edge_agent.wire import messages as wire
from edge_agent.wire.topics import Topics


class Connector:
    """Opens the connections with the credentials of the day."""

    def __init__(self, config: AgentConfig) -> None:
        self._config, self._seen = config, _fingerprint(config)

    def open(self, role: str, will: Message | None) -> Publisher:
        """A fresh connection."""
        kind, table = self._config.publisher
        publisher: Publisher = plugins.load("publishers", kind).create(
            table, f"ea-{self._config.device.id}-{role}", will
        )
        return publisher

    def renew(self, config: AgentConfig) -> bool:
        """Takes over the configuration; True where its credentials or certificates are others than before."""
        before, self._config, self._seen = self._seen, config, _fingerprint(config)
        return bool(self._seen != before)


def _fingerprint(config: AgentConfig) -> Any:
    """Changes where the publisher's table does, or a secret or certificate that it names."""
    kind, table = config.publisher
    module = plugins.load("publishers", kind)
    return (table, module.fingerprint(table) if hasattr(module, "fingerprint") else None)


def build(loaded: Loaded, wishes: "queue.SimpleQueue[Wish]") -> tuple[Agent, Connector]:
    """Every part of the agent, made but not started; nothing is opened yet.

    Raises:
        ConfigError: the board cannot be served, or the profile is not known.
    """
    config = loaded.config
    board, choice = choose_profile(config)
    scribe = Scribe(_identity(loaded, board, choice), _topics(config))
    mailroom, ledger = Mailroom(), Ledger(config.verdict.deadline_ms, config.verdict.valid_ms)
    mailboxes = {camera.id: mailroom.add(lossless=is_lossless(camera)) for camera in config.cameras}
    captures = {
        camera.id: _capture(camera, choice, mailboxes[camera.id], lambda: pipeline.engine) for camera in config.cameras
    }
    connector = Connector(config)
    line = Link("line", lambda: connector.open("line", herald.will()))
    records = Link("records", lambda: connector.open("records", None))
    outbox = Outbox(records, **record_limits(config))
    desk = Desk(scribe, line, outbox, results=config.records.results)
    herald = Herald(scribe, desk, line, outbox)
    open_ = partial(_open_engine, loaded, choice, scribe)
    watches = {
        camera.id: CameraWatch(camera.id, limits)
        for camera, limits in zip(config.cameras, all_limits(loaded), strict=True)
    }
    pipeline = Pipeline(
        open_, partial(make_inspectors, config, ledger), mailroom, ledger, desk, watches=tuple(watches.values())
    )
    links = {"line": line, "records": records}
    vitals = read_vitals()
    health = Health(captures, mailboxes, pipeline, ledger, desk, outbox, links, vitals, started_ns=time.monotonic_ns())
    health.watches = watches
    agent = Agent(
        scribe=scribe,
        ledger=ledger,
        mailroom=mailroom,
        mailboxes=mailboxes,
        captures=captures,
        pipeline=pipeline,
        line=line,
        records=records,
        outbox=outbox,
        desk=desk,
        herald=herald,
        health=health,
        timer=Timer(ledger, desk, herald, health),
        notifier=Notifier(),
        read_vitals=read_vitals,
        wishes=wishes,
    )
    return agent, connector


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


def make_inspectors(config: AgentConfig, ledger: Ledger, engine: Engine) -> list[Inspector]:
    """One per camera, in their order."""
    return [_inspector(camera, ledger, engine.model.labels) for camera in config.cameras]


def record_limits(config: AgentConfig) -> dict[str, Any]:
    """The outbox's limits."""
    records = config.records
    return {"max_rows": records.max_rows, "max_mb": records.max_mb, "drain_per_s": records.drain_per_s}


def is_lossless(camera: CameraConfig) -> bool:
    """A replay without a pace waits for the line; nothing of it is dropped."""
    return camera.kind == "replay" and getattr(camera, "fps", None) == 0


def read_vitals() -> Vitals:
    """What the board says now."""
    told, clock = telemetry.read(), telemetry.clock()
    return Vitals(
        clock=wire.Clock(synced=clock.synced, max_error_ms=clock.max_error_ms),
        temperature_c=told.temperature_c,
        throttled=told.throttled,
        memory_available_mb=told.memory_available_mb,
        rss_mb=told.rss_mb,
    )


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


def _capture(camera: CameraConfig, choice: Choice, mailbox: Mailbox, engine: Callable[[], Engine | None]) -> Capture:
    return Capture(camera.id, camera_opener(camera, choice, engine), mailbox, timeout_s=camera.timeout_s)


def _topics(config: AgentConfig) -> Topics:
    device, (_, table) = config.device, config.publisher
    return Topics(table.prefix, device.site, device.area, device.line, device.cell, device.id)


def _identity(loaded: Loaded, board: probe.Board, choice: Choice) -> Identity:
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
    )
