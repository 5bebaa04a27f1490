"""How the agent is, derived from facts at the moment it is asked."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import chain
from typing import Any, Protocol

import numpy as np

from edge_agent.core.parts import Ledger
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.inbound import Inbound
from edge_agent.runtime.link import Link
from edge_agent.runtime.mailbox import Mailbox
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.sensing import Sensing
from edge_agent.runtime.stages import NAMES, Stages
from edge_agent.runtime.summons import Summons
from edge_agent.wire import messages as wire

STALL_S = 0.5
RECENTLY_S = 10.0
MOST_ZONES = 32


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the board says. Unknown is None."""

    clock: wire.Clock
    temperature_c: float | None = None
    throttled: tuple[str, ...] | None = None
    memory_available_mb: float | None = None
    rss_mb: float | None = None
    zones_c: Mapping[str, float | None] = field(default_factory=dict)
    cpu_mhz: float | None = None


class Counted(Protocol):
    """Something beside the line that counts what became of what it was given."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Since the start."""


@dataclass(slots=True)
class Health:
    """Reads the other objects; owns nothing but the last vitals and whether the agent is stopping."""

    captures: Mapping[str, Capture]
    mailboxes: Mapping[str, Mailbox]
    pipeline: Pipeline
    ledger: Ledger
    desk: Desk
    outbox: Outbox
    links: Mapping[str, Link]
    vitals: Vitals
    started_ns: int
    stopping: bool = False
    ending: str = "stopping"
    stall_s: float = STALL_S  # at the least
    watches: Mapping[str, CameraWatch] = field(default_factory=dict)
    sensings: Mapping[str, Sensing] = field(default_factory=dict)
    summons: Mapping[str, Summons] = field(default_factory=dict)
    triggered: Mapping[str, str] = field(default_factory=dict)  # cameras by the topics of their triggers
    inbound: Inbound | None = None
    recorder: Counted | None = None
    evidence: Counted | None = None
    shedding: Callable[[], tuple[str, ...]] = tuple

    def state(self) -> tuple[wire.State, tuple[str, ...]]:
        """The state of contract's table, and why."""
        if self.stopping:
            return "offline", (self.ending,)
        lost = tuple(f"camera_lost:{name}" for name, camera in self.captures.items() if camera.condition == "lost")
        lost += tuple(f"trigger_lost:{name}" for name in self._without_trigger())
        stalled = ("engine_stalled",) if self._is_stalled() else ()
        if self.pipeline.opened.is_set() and (lost or stalled):
            return "error", stalled + lost
        conditions = [capture.condition for capture in self.captures.values()]
        conditions += [sensing.condition for sensing in self.sensings.values()]
        if self.pipeline.engine is None or any(condition not in ("open", "finished") for condition in conditions):
            return "starting", ()
        reasons = self._degradations()
        if reasons:
            return "degraded", reasons
        return ("running" if self.ledger.opened else "ready"), ()

    def facts(self) -> dict[str, Any]:
        """The body of a health message."""
        return {**self.figures(), "latency_ms": self._latencies()}

    def figures(self) -> dict[str, Any]:
        """The same without the latencies, which take longer than all else together."""
        vitals, acks, disk_free = self.vitals, self.desk.acks, self.outbox.disk_free_bytes
        return {
            "uptime_s": round((time.monotonic_ns() - self.started_ns) / 1e9, 1),
            "cameras": {name: self._camera(name) for name in self.captures},
            "verdicts": dict(self.desk.verdicts),
            "unsent": dict(self.desk.unsent.totals),
            "frames_failed": self.pipeline.failures,
            "acks": acks.counts if acks else {},
            "inbound": (self.inbound.counts if self.inbound else {}) | self._calls(),
            "records": {"waiting": self.outbox.waiting(), **self.outbox.counts},
            "queues": self._queues(),
            "links": {name: link.connections for name, link in self.links.items()},
            "recorder": self.recorder.counts if self.recorder else {},
            "evidence": self.evidence.counts if self.evidence else {},
            "shedding": self.shedding(),
            "temperature_c": vitals.temperature_c,
            "zones_c": {wire.cut(name): celsius for name, celsius in [*vitals.zones_c.items()][:MOST_ZONES]},
            "throttled": vitals.throttled,
            "memory_available_mb": vitals.memory_available_mb,
            "rss_mb": vitals.rss_mb,
            "disk_free_mb": None if disk_free is None else disk_free // 2**20,
            "cpu_mhz": vitals.cpu_mhz,
            "clock": vitals.clock,
        }

    def _queues(self) -> dict[str, wire.QueueHealth]:
        now = datetime.now(timezone.utc)
        return {
            kind: wire.QueueHealth(waiting=depth.rows, bytes=depth.size, oldest_s=_age_s(depth.oldest, now))
            for kind, depth in self.outbox.depths().items()
        }

    def _calls(self) -> dict[str, int]:
        """Parts that were called for from outside, and what was lost on the way there."""
        calls = {f"called.{name}": summons.calls for name, summons in self.summons.items()}
        lost = {f"lost.{name}": summons.uncalled for name, summons in self.summons.items()}
        lost |= {f"edges_lost.{name}": sensing.edges_lost for name, sensing in self.sensings.items()}
        lost |= {"unheard": sum(link.unheard for link in self.links.values())}
        return calls | {what: count for what, count in lost.items() if count}

    def _latencies(self) -> dict[str, wire.LatencyHealth]:
        round_trip = self.desk.acks.round_trip() if self.desk.acks else None
        return latencies(list(self.pipeline.stages)) | ({"ack": round_trip} if round_trip else {})

    def _is_stalled(self) -> bool:
        """The engine has not come back for longer than any frame should take: the deadline, or thrice its longest."""
        if self.pipeline.engine is None:
            return False
        deadline_s = self.desk.deadline_ms / 1000
        limit_s = max(self.stall_s, deadline_s, 3 * self.pipeline.longest_infer_ms / 1000)
        return time.monotonic_ns() - self.pipeline.last_tick_ns > limit_s * 1e9

    def _degradations(self) -> tuple[str, ...]:
        acks, inbound = self.desk.acks, self.inbound
        reasons = [code for code, last_ns in sorted(dict(self.desk.lapses).items()) if _recently(last_ns)]
        if _recently(self.pipeline.last_failure_ns):
            reasons.append("frames_failed")
        if self.desk.refused:
            reasons.append("verdicts_refused")
        if self.desk.nobody_listens:
            reasons.append("no_arm")
        reasons += [f"{streak.verdict}_in_row:{name}" for name, streak in self.desk.streaks.over.items()]
        reasons += [f"no_ack:{name}" for name in (acks.missing_now if acks else ())]
        reasons += _recent("arm_contradicts", acks.contradicted_ns if acks else {})
        reasons += _recent("triggers_refused", inbound.missed_ns if inbound else {})
        reasons += [f"connection_unstable:{name}" for name, link in self.links.items() if link.is_unstable]
        if self.desk.forms.has_unsure_clock:
            reasons.append("clock_unsure")
        if self.outbox.trouble is not None:
            reasons.append("records_in_memory")
        if self.outbox.refused:
            reasons.append("records_refused")
        now = [flag for flag in self.vitals.throttled or () if not flag.endswith("_since_boot")]
        unhealthy = [f"camera_unhealthy:{name}" for name, watch in self.watches.items() if watch.findings]
        shed = [f"shedding:{what}" for what in self.shedding()]
        return tuple(
            reasons + [f"throttled:{flag}" for flag in now] + shed + unhealthy
        )  # there may be more than `state` holds

    def _without_trigger(self) -> list[str]:
        """Cameras of which nobody would tell that a part comes."""
        lost = [name for name, sensing in self.sensings.items() if sensing.condition == "lost"]
        refused = [topic for link in self.links.values() for topic in link.refused]
        return lost + [self.triggered[topic] for topic in refused if topic in self.triggered]

    def _camera(self, name: str) -> wire.CameraHealth:
        capture, counts = self.captures[name], self.mailboxes[name].counts
        newest_ns, watch = capture.last_frame_ns, self.watches.get(name)
        return wire.CameraHealth(
            condition=capture.condition,
            fps=None if math.isnan(capture.fps) else round(capture.fps, 2),
            frames=capture.frames,
            taken=counts.taken,
            dropped=counts.dropped,
            shed=counts.shed,
            verdicts=dict(self.desk.verdicts_of[name]),
            timeouts=capture.timeouts,
            losses=capture.losses,
            skipped=capture.skipped,
            age_ms=None if newest_ns is None else round((time.monotonic_ns() - newest_ns) / 1e6, 1),
            faults=tuple(finding.fault for finding in watch.findings) if watch else (),
            unhealthy=watch.times if watch else 0,
            picture=watch.picture() if watch else None,
        )


def _age_s(payload: bytes | None, now: datetime) -> float | None:
    """How long ago the message was made, by the wall clock; unknown where it does not say."""
    try:
        made = datetime.fromisoformat(json.loads(payload or b"")["at"].replace("Z", "+00:00"))  # Python 3.10 knows no Z
        return round(max(0.0, (now - made).total_seconds()), 1)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _recent(reason: str, cameras: Mapping[str, int]) -> list[str]:
    """For each camera of which it is not long ago."""
    return [f"{reason}:{camera}" for camera, then_ns in sorted(dict(cameras).items()) if _recently(then_ns)]


def _recently(then_ns: int | None) -> bool:
    return then_ns is not None and time.monotonic_ns() - then_ns < RECENTLY_S * 1e9


def latencies(stages: list[Stages]) -> dict[str, wire.LatencyHealth]:
    """p50, p99 and the worst of every stage, in milliseconds."""
    if not stages:
        return {}
    table = np.fromiter(chain.from_iterable(stages), float).reshape(-1, len(NAMES))
    p50, p99 = np.percentile(table, [50, 99], axis=0)
    worst = table.max(axis=0)
    return {
        name: wire.LatencyHealth(p50=float(p50[i]), p99=float(p99[i]), max=float(worst[i]))
        for i, name in enumerate(NAMES)
    }
