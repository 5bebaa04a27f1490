"""How the agent is, once a second, for those who ask on the device; and its last state, for those who ask afterwards."""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from edge_agent.clock import Clock
from edge_agent.runtime.agent import LOADING, Agent
from edge_agent.runtime.folders import write_whole
from edge_agent.runtime.forms import Sent
from edge_agent.runtime.rarely import Rarely
from edge_agent.runtime.status_words import BOOT_ID, words
from edge_agent.wire import messages as wire

log = structlog.get_logger()
LOOK_EVERY_S = 1.0
KEEP_EVERY_S = 10.0
KEEP_AGAIN_S = 1.0  # after a change of state
RATE_OVER_S = 10.0
TELL_EVERY_S = 600.0
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What the agent itself does not know of itself.

    Args:
        name: of its configuration, `NAME.toml`.
        config: where that is.
        outlet: where verdicts go: `mqtt.plant:8883`.
        more: further facts by their key, asked for once a second by the main thread.
    """

    name: str
    config: Path
    outlet: str
    more: Mapping[str, Callable[[], object]] = field(default_factory=dict)


class StatusBoard:
    """Looks at everything once a second, and tells systemd in a line. The main thread reports, any thread reads."""

    def __init__(self, agent: Agent, about: About, keep: Callable[[Facts], None]) -> None:
        self._agent, self._about, self._keep = agent, about, keep
        self._closed: deque[tuple[float, int]] = deque(maxlen=int(RATE_OVER_S / LOOK_EVERY_S) + 1)
        self._said: tuple[str, tuple[str, ...]] | None = None
        self._look_due_s = self._keep_due_s = self._keep_soonest_s = 0.0
        self._is_kept = False  # before that the folder may be another agent's
        self._failed = Rarely(TELL_EVERY_S)
        self._boot_id = _boot_id()
        self._seen: tuple[float, Facts] = (time.monotonic(), self._look(time.monotonic(), is_last=False))

    def document(self) -> bytes:
        """What was seen last, as JSON; `age_s` says how long ago, by a clock that nobody sets."""
        seen_s, facts = self._seen
        return _json({**facts, "age_s": round(time.monotonic() - seen_s, 1)})

    def report(self, now_s: float, *, is_last: bool = False) -> None:
        """Looks again where it is time, or the state is another. Never raises: the line does not depend on it."""
        try:
            self._report(now_s, is_last=is_last)
        except Exception:
            if (unlogged := self._failed.now()) is not None:
                log.exception("status_failed", unlogged=unlogged)

    def _report(self, now_s: float, *, is_last: bool) -> None:
        state = self._agent.health.state()
        is_news, self._said = state != self._said or is_last, state
        if not is_news and now_s < self._look_due_s:
            return
        self._look_due_s = now_s + LOOK_EVERY_S
        if is_news:
            self._keep_due_s = self._keep_soonest_s
        self._closed.append((now_s, self._agent.ledger.closed))
        facts = self._look(now_s, is_last=is_last)
        self._seen = now_s, facts
        self._agent.notifier.status(words(facts))
        if (is_last and self._is_kept) or (not is_last and now_s >= self._keep_due_s):
            self._keep_due_s, self._keep_soonest_s = now_s + KEEP_EVERY_S, now_s + KEEP_AGAIN_S
            self._is_kept = True
            self._keep(facts)

    def _look(self, now_s: float, *, is_last: bool) -> Facts:
        """A new document: nobody changes it any more."""
        agent, about, health = self._agent, self._about, self._agent.health
        who, topics, clock = agent.scribe.identity, agent.scribe.topics, agent.scribe.clock
        state, reasons = health.state()
        ended = {"why": agent.ending.why, "reason": agent.ending.reason, "exit_code": agent.ending.exit_code}
        interval_s = agent.notifier.watchdog_interval_s
        exempt = () if agent.pipeline.engine else LOADING  # a build takes minutes, and the cameras are not open then
        return {
            "name": about.name,
            "config": str(about.config.absolute()),
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "version": who.agent_version,
            "session": who.session,
            "started_at": wire.utc_text(clock.utc_of(health.started_ns)),
            "at": wire.utc_text(clock.utc_of(int(now_s * 1e9))),
            "state": state,
            "reasons": list(reasons),
            "ended": ended if is_last else None,
            "device": who.device,
            "place": f"{topics.site}/{topics.area}/{topics.line}/{topics.cell}",
            "board": who.board,
            "profile": who.profile,
            "engine": _plain(agent.scribe.engine),
            "model": _plain(agent.scribe.model),
            "workshop": agent.workshop.words or None,
            "config_sha256": who.config_sha256,
            "deadline_ms": who.deadline_ms,
            "parts": {"opened": agent.ledger.opened, "closed": agent.ledger.closed, "per_s": self._rate()},
            "recent": [_verdict(sent, clock) for sent in list(agent.desk.recent)],
            "outlet": about.outlet,
            "links": {name: link.connected for name, link in health.links.items()},
            "queues": {
                "frames": {name: mailbox.counts.waiting for name, mailbox in agent.mailboxes.items()},
                "records": agent.outbox.waiting(),
            },
            "threads": {name: round(now_s - tick_ns / 1e9, 1) for name, tick_ns in agent.ticks(exempt).items()},
            "watchdog": interval_s and round(2 * interval_s, 1),
            "health": health.facts(),
            **{key: tell() for key, tell in about.more.items()},
        }

    def _rate(self) -> float | None:
        """Parts a second over the last seconds."""
        if len(self._closed) < 2:  # noqa: PLR2004 - a rate needs two moments
            return None
        (then_s, then), (now_s, now) = self._closed[0], self._closed[-1]
        return round((now - then) / max(now_s - then_s, 1e-3), 2)


class StatusFile:
    """Keeps the last state in a file, in a thread of its own: who looks at the line never waits for a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted: Facts | None = None
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._failed = Rarely(TELL_EVERY_S)
        self._thread = threading.Thread(target=self._run, name="status-file", daemon=True)

    def keep(self, facts: Facts) -> None:
        """Has it written soon, in place of what waits."""
        self._wanted = facts
        self._wake.set()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Writes what is left. False where it did not end in time."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            self._write()
        self._write()  # what was given while the disk was busy with the one before

    def _write(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        try:
            write_whole(self._path, _json(wanted))
        except Exception as error:  # noqa: BLE001 - whatever a disk or a bug does: it costs this file, and no more
            if (unlogged := self._failed.now()) is not None:
                log.warning("status_not_kept", file=str(self._path), reason=str(error), unlogged=unlogged)


def _verdict(sent: Sent, clock: Clock) -> Facts:
    reasons = [asdict(reason) for reason in sent.decision.reasons]
    return {
        "camera": sent.part.camera,
        "seq": sent.seq,
        "part_id": sent.part.id,
        "verdict": sent.decision.verdict,
        "reasons": [{key: value for key, value in reason.items() if value is not None} for reason in reasons],
        "total_ms": round(sent.latency.total, 1),
        "at": wire.utc_text(clock.utc_of(sent.captured_ns)),
    }


def _boot_id() -> str | None:
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return None


def _json(facts: Facts) -> bytes:
    return json.dumps(facts, default=_plain, separators=(",", ":")).encode() + b"\n"


def _plain(value: object) -> Any:
    """What JSON can hold of it."""
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
