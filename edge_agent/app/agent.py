"""From a configuration to a running agent."""

import queue
import time
import uuid
from typing import Any

from edge_agent import plugins
from edge_agent.app.cameras import make_capture
from edge_agent.app.road import build_road
from edge_agent.app.state_folder import records_folder
from edge_agent.config import AgentConfig, Loaded
from edge_agent.core.ports import Message, Publisher
from edge_agent.hardware import telemetry
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.records_watch import RecordsWatch
from edge_agent.runtime.systemd import Notifier
from edge_agent.runtime.timer import Timer
from edge_agent.wire import messages as wire


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
        ConfigError: the board cannot be served, or the profile or a baseline cannot be used.
    """
    config = loaded.config
    connector = Connector(config)
    line = Link("line", lambda: connector.open("line", herald.will()))
    records = Link("records", lambda: connector.open("records", None))
    outbox = Outbox(records, folder=records_folder(config), **record_limits(config))
    road = build_road(loaded, line, outbox, session=uuid.uuid4().hex)
    ledger, desk, pipeline, mailboxes = road.ledger, road.desk, road.pipeline, road.mailboxes
    herald = Herald(road.scribe, desk, line, road.reporter)
    captures = {camera.id: make_capture(camera, road) for camera in config.cameras}
    links = {"line": line, "records": records}
    vitals = read_vitals()
    health = Health(captures, mailboxes, pipeline, ledger, desk, outbox, links, vitals, started_ns=time.monotonic_ns())
    health.watches = road.watches
    agent = Agent(
        scribe=road.scribe,
        ledger=ledger,
        mailroom=road.mailroom,
        mailboxes=mailboxes,
        captures=captures,
        pipeline=pipeline,
        line=line,
        records=records,
        outbox=outbox,
        desk=desk,
        reporter=road.reporter,
        records_watch=RecordsWatch(outbox, road.reporter),
        herald=herald,
        health=health,
        timer=Timer(ledger, desk, herald, health),
        notifier=Notifier(),
        read_vitals=read_vitals,
        wishes=wishes,
    )
    return agent, connector


def record_limits(config: AgentConfig) -> dict[str, Any]:
    """The outbox's limits."""
    records = config.records
    return {
        "max_rows": records.max_rows,
        "max_mb": records.max_mb,
        "min_free_mb": records.min_free_mb,
        "drain_per_s": records.drain_per_s,
    }


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
