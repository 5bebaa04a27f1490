"""The gate for what comes in: every message ends in one outcome, which is counted and stands in the audit trail.

It is for the thread of the connection, and quick. What others may send is not trusted: nothing they say can raise, make
anything grow, or be acted on twice.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import structlog
from pydantic import ValidationError

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.ports import Heard
from edge_agent.runtime.allowance import Allowance
from edge_agent.runtime.audit import Audit
from edge_agent.runtime.rarely import Rarely
from edge_agent.runtime.refusals import Refusals, printable
from edge_agent.wire.inbound import Ack, Trigger
from edge_agent.wire.inbound import Inbound as Model
from edge_agent.wire.topics import Topics

log = structlog.get_logger()
M = TypeVar("M", bound=Model)
MOST_BYTES = 4096
MOST_PER_S = 200  # on one topic; no line has so many parts
MOST_AT_ONCE = 400
WHY_CHARACTERS = 120
ARMS = 10  # one topic has the acks of all arms and cameras
REMEMBERED_IDS = 1000  # of triggers, for each camera
Kind = Literal["trigger", "ack", "unknown_topic"]
Outcome = Literal[
    "accepted",  # handed on
    "unknown_topic",
    "unwanted",  # of a camera without such triggers, or an ack that nobody waits for
    "flood",
    "too_large",
    "retained",
    "no_expiry",
    "malformed",
    "stale",
    "duplicate",
    "failed",  # an error of ours
]


class ClockQuality(Protocol):
    """How good a wall clock is; None where it is not known."""

    @property
    def synced(self) -> bool | None:
        """Whether something sets it."""

    @property
    def max_error_ms(self) -> float | None:
        """The bound on its error."""


@dataclass(frozen=True, slots=True)
class TriggerInput:
    """What a camera's triggers bring about: `call` gets the moment (monotonic), `trigger_id` and `position`.

    `time` of a message counts where both clocks together are off by `time_tolerance_ms` at most. `doubt` is called in its
    place, with the earliest moment, where a message may have waited here for more than `window_ms`.
    """

    call: Callable[[int, str, float | None], None]
    doubt: Callable[[int, str, float | None], None]
    time_tolerance_ms: float
    window_ms: float


class _Source:
    """One topic: how much of it is let through, and which ids it has used lately."""

    def __init__(self, kind: Kind, camera: str = "", *, times: int = 1) -> None:
        self.kind, self.camera = kind, camera
        self.allowance = Allowance(times * MOST_PER_S, times * MOST_AT_ONCE)
        self._ids: set[str] = set()
        self._ids_in_order: deque[str] = deque()

    def is_new(self, trigger_id: str) -> bool:
        """Whether it was not used lately; it is remembered then."""
        if trigger_id in self._ids:
            return False
        self._ids.add(trigger_id)
        self._ids_in_order.append(trigger_id)
        if len(self._ids_in_order) > REMEMBERED_IDS:
            self._ids.remove(self._ids_in_order.popleft())
        return True


class Inbound:
    """`hear` belongs to one thread, `counts` and `refusals` are for any.

    Args:
        topics: of this device.
        triggers: the cameras that messages trigger.
        on_ack: gets each ack; None where none are expected.
        audit: where every message is written down.
        deadline_ms: a trigger whose part was sensed longer ago is of no use: its verdict would be due already. The
            attribute may be set at any time.
        own_clock: how good the wall clock of this machine is now.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        triggers: Mapping[str, TriggerInput],
        on_ack: Callable[[Ack, Heard], object] | None,
        audit: Audit,
        deadline_ms: float,
        own_clock: Callable[[], ClockQuality],
        clock: Clock = SYSTEM,
    ) -> None:
        self.refusals = Refusals()
        self.missed_ns: dict[str, int] = {}  # when a trigger of a camera was refused last that may have been a part
        self._triggers, self._on_ack, self._audit = dict(triggers), on_ack, audit
        self.deadline_ms, self._own_clock, self._clock = deadline_ms, own_clock, clock
        self._is_closed = False
        self._sources = {topics.of("trigger", camera): _Source("trigger", camera) for camera in triggers}
        self._ack_topic, self._trigger_root = topics.of("ack"), topics.of("trigger") + "/"
        self._sources[self._ack_topic] = _Source("ack", times=ARMS)
        self._unwanted, self._unknown = _Source("trigger"), _Source("unknown_topic")
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failures = Rarely()

    @property
    def counts(self) -> dict[str, int]:
        """How often each outcome was since the start: `trigger.accepted`, `ack.malformed` and so on, `unknown_topic`.

        Two are no outcomes. `trigger.time_unused`: the message said when, and that could not be used; `trigger.waited`:
        nobody knows when it came.
        """
        with self._lock:
            counts = dict(self._counts)
        return counts | ({"audit_lost": self._audit.lost} if self._audit.lost else {})

    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(topic for topic in self._sources if topic != self._ack_topic or self._on_ack)

    def close(self) -> None:
        """From now on nothing is wanted: the agent stops, and what it does not write down it must not do."""
        self._is_closed = True

    def hear(self, heard: Heard) -> None:
        """Takes one message. Never raises."""
        source = self._source_of(heard.topic)
        names: dict[str, str | int] = {}
        try:
            outcome = self._why_not(source, heard) or _fault_of(heard) or self._take(source, heard, names)
        except Exception:  # a bug behind the gate must not cost the messages after it
            outcome = "failed"
            if (unlogged := self._failures.now()) is not None:
                log.exception("inbound_failed", topic=heard.topic, unlogged=unlogged)
        self._count(outcome if outcome == "unknown_topic" else f"{source.kind}.{outcome}")
        self._audit.note(heard, outcome, names)
        if outcome != "accepted":
            self.refusals.add(outcome, heard.topic, heard.payload, str(names.get("why", "")))
            if source.camera and outcome not in ("duplicate", "retained", "unwanted"):
                self.missed_ns[source.camera] = heard.received_ns

    def _source_of(self, topic: str) -> _Source:
        known = self._sources.get(topic)
        if known is not None:
            return known
        return self._unwanted if topic.startswith(self._trigger_root) else self._unknown

    def _why_not(self, source: _Source, heard: Heard) -> Outcome | None:
        """What is wrong with where it came; None: nothing."""
        if not source.allowance.take(heard.received_ns):
            return "flood"
        if source is self._unknown:
            return "unknown_topic"
        if self._is_closed or source is self._unwanted or (source.kind == "ack" and self._on_ack is None):
            return "unwanted"
        return None

    def _take(self, source: _Source, heard: Heard, names: dict[str, str | int]) -> Outcome:
        if source.kind == "ack":
            return self._take_ack(heard, names)
        return self._take_trigger(source, heard, names)

    def _take_ack(self, heard: Heard, names: dict[str, str | int]) -> Outcome:
        ack = _read(Ack, heard.payload, names)
        if ack is None:
            return "malformed"
        named = {"camera": ack.camera, "session": ack.session, "seq": ack.seq, "trigger_id": ack.trigger_id}
        names |= {key: value for key, value in named.items() if value is not None} | {"action": ack.action}
        if self._on_ack is not None:
            self._on_ack(ack, heard)
        return "accepted"

    def _take_trigger(self, source: _Source, heard: Heard, names: dict[str, str | int]) -> Outcome:
        trigger = _read(Trigger, heard.payload, names)
        if trigger is None:
            return "malformed"
        names["trigger_id"] = trigger.trigger_id
        to = self._triggers[source.camera]
        at_ns = self._moment_of(trigger, heard, to.time_tolerance_ms)
        if at_ns is None:
            return "stale"
        if not source.is_new(trigger.trigger_id):
            return "duplicate"
        if at_ns == heard.received_ns and heard.waited_ns > to.window_ms * 1e6:
            self._count("trigger.waited")
            to.doubt(at_ns - heard.waited_ns, trigger.trigger_id, trigger.position)
        else:
            to.call(at_ns, trigger.trigger_id, trigger.position)
        return "accepted"

    def _moment_of(self, trigger: Trigger, heard: Heard, tolerance_ms: float) -> int | None:
        """When the part was sensed, as exactly as that is known; None: certainly too long ago."""
        if trigger.time is None:
            return heard.received_ns
        error_ms = self._error_of(trigger)
        if error_ms is not None:
            at_ns = self._clock.mono_of(trigger.time)
            age_ms = (heard.received_ns - at_ns) / 1e6
            if age_ms - error_ms > self.deadline_ms:
                return None
            if error_ms <= tolerance_ms and age_ms >= -tolerance_ms:  # from the future it cannot come: a clock is wrong
                return at_ns
        self._count("trigger.time_unused")
        return heard.received_ns

    def _error_of(self, trigger: Trigger) -> float | None:
        """By how much both wall clocks may be apart at most; None: nobody knows."""
        theirs = trigger.clock
        if theirs is None or not theirs.synced or theirs.max_error_ms is None:
            return None
        ours = self._own_clock()
        if not ours.synced or ours.max_error_ms is None:
            return None
        return theirs.max_error_ms + ours.max_error_ms

    def _count(self, key: str) -> None:
        with self._lock:
            self._counts[key] += 1


def _read(model: type[M], payload: bytes, names: dict[str, str | int]) -> M | None:
    """The message; else None, and why in `names`."""
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        names["why"] = printable(f"{where}: {first['msg']}".lstrip(": ").encode(), WHY_CHARACTERS)
        return None


def _fault_of(heard: Heard) -> Outcome | None:
    """What is wrong with a message, as far as it can be told without reading it; None: nothing."""
    if len(heard.payload) > MOST_BYTES:
        return "too_large"
    if heard.retained:
        return "retained"
    if heard.expiry_s is None:
        return "no_expiry"
    return "stale" if heard.expiry_s <= 0 else None
