"""From a configuration to a running agent."""

import queue
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from edge_agent import plugins
from edge_agent.app.attendants import attend
from edge_agent.app.cameras import make_capture
from edge_agent.app.places import own_folder
from edge_agent.app.road import Road, build_road, wall_clock
from edge_agent.config import AgentConfig, CameraConfig, GpioTrigger, Loaded, MqttTrigger
from edge_agent.core.ports import Message, Publisher
from edge_agent.hardware import power, telemetry
from edge_agent.hardware.probe import LIVE
from edge_agent.hardware.profile import Choice
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.audit import Audit
from edge_agent.runtime.health import Health, Vitals
from edge_agent.runtime.herald import Herald
from edge_agent.runtime.inbound import Inbound, TriggerInput
from edge_agent.runtime.inputs_watch import InputsWatch
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.records_watch import RecordsWatch
from edge_agent.runtime.sensing import Sensing
from edge_agent.runtime.systemd import Notifier
from edge_agent.runtime.timer import Timer
from edge_agent.runtime.verdicts_watch import VerdictsWatch
from edge_agent.runtime.workshop import Workshop

log = structlog.get_logger()


class Connector:
    """Opens the connections with the credentials of the day."""

    def __init__(self, config: AgentConfig) -> None:
        self._config, self._seen = config, _fingerprint(config)

    def open(self, role: str, will: Message | None = None, subscriptions: Sequence[str] = ()) -> Publisher:
        """A fresh connection."""
        kind, table = self._config.publisher
        client_id = f"ea-{self._config.device.id}-{role}"
        publisher: Publisher = plugins.load("publishers", kind).create(table, client_id, will, subscriptions)
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


def build(
    loaded: Loaded, wishes: "queue.SimpleQueue[Wish]", connector: Connector | None = None
) -> tuple[Agent, Connector]:
    """Every part of the agent, made but not started; nothing is opened yet. Without a `connector` it gets one.

    Raises:
        ConfigError: the board cannot be served, or the profile or a baseline cannot be used.
    """
    config = loaded.config
    connector = connector or Connector(config)
    line = Link(
        "line",
        lambda: connector.open("line", herald.will(), inbound.topics()),
        hear=lambda heard: inbound.hear(heard),  # noqa: PLW0108 - it is made below
    )
    records = Link("records", lambda: connector.open("records"))
    links = {"line": line, "records": records}
    outbox = Outbox(records, folder=own_folder(config), **record_limits(config))
    road = build_road(loaded, line, outbox, session=uuid.uuid4().hex)
    warn_of_power_mode(road.choice)
    reporter, desk = road.reporter, road.desk
    audit = Audit(own_folder(config))
    inbound = _inbound(config, road, audit)
    herald = Herald(road.scribe, desk, line, reporter, listens=inbound.topics())
    sensings = {camera.id: sensing for camera in config.cameras if (sensing := _sensing(camera, road))}
    health = _health(config, road, outbox, links, sensings, inbound)
    agent = Agent(
        scribe=road.scribe,
        ledger=road.ledger,
        mailroom=road.mailroom,
        mailboxes=road.mailboxes,
        captures=health.captures,
        pipeline=road.pipeline,
        line=line,
        records=records,
        outbox=outbox,
        desk=desk,
        sensings=sensings,
        inbound=inbound,
        audit=audit,
        reporter=reporter,
        workshop=Workshop(road.supply, road.pipeline, reporter, introduce=road.introduce, announce=herald.renew),
        watches=(
            RecordsWatch(outbox, reporter),
            VerdictsWatch(road.mailboxes, desk.acks, desk.streaks, reporter),
            InputsWatch(inbound, sensings, road.summons, links, reporter),
        ),
        attendants=(),
        herald=herald,
        health=health,
        timer=Timer(road.ledger, desk, herald, health, road.summons),
        notifier=Notifier(),
        read_vitals=read_vitals,
        wishes=wishes,
    )
    attend(agent, loaded, road.choice)
    return agent, connector


def warn_of_power_mode(choice: Choice, root: Path = LIVE) -> None:
    """One line in the log where the board runs in another power mode than its profile counts on."""
    if choice.profile and (reason := power.unlike(choice.profile, root)):
        log.warning("power_mode_unlike_profile", reason=reason)


def _health(
    config: AgentConfig,
    road: Road,
    outbox: Outbox,
    links: Mapping[str, Link],
    sensings: Mapping[str, Sensing],
    inbound: Inbound,
) -> Health:
    """What looks at all the others."""
    topics = road.scribe.topics
    return Health(
        captures={camera.id: make_capture(camera, road) for camera in config.cameras},
        mailboxes=road.mailboxes,
        pipeline=road.pipeline,
        ledger=road.ledger,
        desk=road.desk,
        outbox=outbox,
        links=links,
        vitals=read_vitals(),
        started_ns=time.monotonic_ns(),
        watches=road.watches,
        sensings=sensings,
        summons=road.summons,
        triggered={topics.of("trigger", camera): camera for camera in road.summons.keys() - sensings.keys()},
        inbound=inbound,
    )


def _inbound(config: AgentConfig, road: Road, audit: Audit) -> Inbound:
    """The gate for what comes in: triggers, and what arms say."""
    acks = road.desk.acks
    triggers = {
        camera.id: TriggerInput(
            road.summons[camera.id].call,
            road.summons[camera.id].doubt,
            camera.trigger.time_tolerance_ms,
            camera.trigger.window_ms,
        )
        for camera in config.cameras
        if isinstance(camera.trigger, MqttTrigger)
    }
    return Inbound(
        road.scribe.topics,
        triggers=triggers,
        on_ack=(lambda ack, heard: acks.hear(ack, heard.received_ns)) if acks else None,
        audit=audit,
        deadline_ms=config.verdict.deadline_ms,
        own_clock=wall_clock,
    )


def _sensing(camera: CameraConfig, road: Road) -> Sensing | None:
    """Who listens to the camera's input line, where it has one."""
    trigger = camera.trigger
    if not isinstance(trigger, GpioTrigger):
        return None
    open_ = partial(plugins.load("sensors", trigger.kind).create, trigger)
    summons = road.summons[camera.id]
    return Sensing(camera.id, open_, summons.call, summons.lose)


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
    told = telemetry.read()
    return Vitals(
        clock=wall_clock(),
        temperature_c=told.temperature_c,
        throttled=told.throttled,
        memory_available_mb=told.memory_available_mb,
        rss_mb=told.rss_mb,
        zones_c=told.zones,
        cpu_mhz=told.cpu_mhz,
    )
