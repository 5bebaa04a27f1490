"""The daemon: build, start, watch, reload, stop."""

import faulthandler
import gc
import os
import queue
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import structlog

from edge_agent import logs
from edge_agent.app.agent import Connector, build, record_limits
from edge_agent.app.check import secret_problems
from edge_agent.app.engine import choose_decoder, make_decoder
from edge_agent.app.health_limits import all_limits
from edge_agent.app.pictures import caps_of
from edge_agent.app.recording import setting_of
from edge_agent.app.road import fires, make_rules, row_limits
from edge_agent.app.rules import mismatches
from edge_agent.config import AgentConfig, ConfigProblemsError, Loaded, dotted, live_changes, load
from edge_agent.core.datatypes import ModelSpec, Thresholds
from edge_agent.core.ports import Decoder
from edge_agent.errors import EX_USAGE, ConfigError, EdgeAgentError, FatalError
from edge_agent.runtime import heap
from edge_agent.runtime.agent import Agent, Wish

log = structlog.get_logger()


def run(path: Path) -> None:
    """Runs until a signal, the end of every finite camera, or an error.

    Raises:
        FatalError: with the exit code to end with.
    """
    wishes = _listen_to_signals()
    heap.share_one()
    loaded = load(path)
    logs.configure(loaded.config.log.level, loaded.config.log.format)
    faulthandler.enable()
    if problems := secret_problems(loaded):
        raise ConfigProblemsError(problems)
    with single_instance(path):
        agent, connector = build(loaded, wishes)
        log.info("starting", config=str(path), config_sha256=loaded.sha256, session=agent.scribe.identity.session)
        try:
            agent.pipeline.scheduling.begin()
            gc.enable()  # from here on it may take long: an engine may have to be built
            agent.start()
            agent.pipeline.scheduling.settle()
            gc.freeze()  # what comes after this is little to look through: a fraction of a millisecond in ten seconds
            while agent.wait() == "reload":
                loaded = reload(agent, connector, loaded)
        except Exception as error:
            exit_code = error.exit_code if isinstance(error, FatalError) else EX_USAGE
            agent.fail(str(error), exit_code)
            if not agent.stop():
                _leave(exit_code, error)
            raise
        if not agent.stop():
            _leave(0)


def _leave(exit_code: int, error: Exception | None = None) -> NoReturn:
    """Ends at once: a thread that came back from a hanging call into an interpreter that shuts down would crash it."""
    if isinstance(error, EdgeAgentError):
        sys.stderr.write(f"edge-agent: {error}\n")
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stderr.flush()
    os._exit(exit_code)


def reload(agent: Agent, connector: Connector, old: Loaded) -> Loaded:
    """Takes over what may change while running, or refuses the whole file; what runs goes on either way."""
    if agent.is_ready:
        agent.notifier.reloading()
    try:
        new = load(old.path)
        live, restart = live_changes(old.config, new.config)
        if restart:
            keys = ", ".join(dotted(change) for change in restart)
            raise ConfigError(f"restart needed for {keys}")
        has_new_credentials = _take_over(agent, connector, new)
    except FatalError as error:
        agent.reporter.event("reload_refused", "warning", str(error), {"reason": str(error)[-200:]})
        return old
    else:
        changed = [dotted(change) for change in live] + ["mqtt credentials"] * has_new_credentials
        agent.reporter.event(
            "reloaded",
            "info",
            "the configuration was read again",
            {"changed": ", ".join(changed)[:200], "config_sha256": new.sha256},
        )
        return new
    finally:
        if agent.is_ready:
            agent.notifier.ready()


def _take_over(agent: Agent, connector: Connector, new: Loaded) -> bool:
    """All that can fail comes first, so that a file that is refused changes nothing. Whether credentials are new."""
    config, engine = new.config, agent.pipeline.engine
    if engine is None:
        raise ConfigError("the engine is not open")
    problems = secret_problems(new) + mismatches(new, engine.model, engine.decoder_kind)
    if problems:
        raise ConfigProblemsError(problems)
    limits = all_limits(new)
    decoder_of = partial(_decoder_of, config)
    decoder_of(engine.model)
    has_new_credentials = connector.renew(config)
    agent.pipeline.tune(decoder_of)
    for camera, inspector in zip(config.cameras, agent.pipeline.inspectors, strict=True):
        inspector.rules = make_rules(camera)
    for watch, limit in zip(agent.health.watches.values(), limits, strict=True):
        watch.set_limits(limit)
    verdict = config.verdict
    agent.ledger.set_limits(verdict.deadline_ms, verdict.valid_ms)
    agent.outbox.set_limits(**record_limits(config))
    agent.desk.results = config.records.results
    agent.desk.forms.fire = fires(config)
    agent.desk.streaks.set_limits(**row_limits(config))
    if agent.desk.acks and config.ack:
        agent.desk.acks.within_ms = config.ack.within_ms
    agent.inbound.deadline_ms = verdict.deadline_ms
    agent.scribe.identity = replace(
        agent.scribe.identity,
        config_sha256=new.sha256,
        deadline_ms=verdict.deadline_ms,
        valid_ms=verdict.valid_ms,
    )
    if agent.desk.evidence:
        agent.desk.evidence.set_caps(caps_of(config))
    if agent.desk.recorder:
        agent.desk.recorder.note("setting", setting_of(new))
    if has_new_credentials:
        agent.line.reopen()
        agent.records.reopen()
    agent.herald.renew()
    logs.set_level(config.log.level)
    return has_new_credentials


def _decoder_of(config: AgentConfig, model: ModelSpec) -> Decoder:
    thresholds = Thresholds(config.model.conf, config.model.iou)
    return make_decoder(choose_decoder(model, config.model.decoder)[0], model, thresholds)


def _listen_to_signals() -> "queue.SimpleQueue[Wish]":
    """What operators wish, in order."""
    wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: wishes.put("stop"))
    signal.signal(signal.SIGINT, lambda *_: wishes.put("stop"))
    signal.signal(signal.SIGHUP, lambda *_: wishes.put("reload"))
    return wishes


@contextmanager
def single_instance(path: Path) -> Iterator[None]:
    """One agent per configuration: an abstract socket's name, which the kernel frees however the process ends.

    Raises:
        FatalError: another process runs this configuration.
    """
    name = f"edge-agent-{sha256(str(path.resolve()).encode()).hexdigest()[:32]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind("\0" + name)
        except OSError:
            raise FatalError(f"{path}: another edge-agent runs this configuration already") from None
        yield
