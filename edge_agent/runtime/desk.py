"""The desk sends one verdict per part, knows what became of it, and writes the record."""

import math
import threading
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import structlog

from edge_agent.core.parts import Decision, Part, Word
from edge_agent.core.ports import Message, Receipt
from edge_agent.runtime.acks import Acks
from edge_agent.runtime.evidence import Evidence
from edge_agent.runtime.forms import NOTHING_SEEN, Fire, Forms, Sent, Sight
from edge_agent.runtime.outbox import Kind
from edge_agent.runtime.recorder import Notes
from edge_agent.runtime.scribe import Scribe
from edge_agent.runtime.streaks import Streaks
from edge_agent.runtime.unsent import Unsent

log = structlog.get_logger()
LATE_DECISION_S = 5.0
RECENT = 10  # verdicts that are shown to who asks how it goes
LAPSES = ("deadline_missed", "no_frame", "overload", "stale_frame")  # codes of `unknown` that a line should not see


class Line(Protocol):
    """Where verdicts go: `Link`, or what stands in for it."""

    connections: int

    def send(self, message: Message) -> bool:
        """Writes the message now. False: it was not sent and never will be."""
        ...


class Records(Protocol):
    """Where results and events go: `Outbox`, or what stands in for it."""

    def put(self, kind: Kind, message: Message) -> None:
        """Keeps the message until it can be sent."""
        ...


class _Unconfirmed(NamedTuple):
    connection: int  # the number of the one that it went out on
    sent: Sent
    since_ns: int


class Desk:
    """Whoever closed a part reports it here, once. Any thread.

    Attributes:
        recorder: keeps the story of each verdict on the device, where there is one.
        evidence: keeps pictures of parts that did not pass there, where it is to.
    """

    def __init__(
        self,
        scribe: Scribe,
        link: Line,
        outbox: Records,
        *,
        results: str | float,
        streaks: Streaks,
        acks: Acks | None = None,
        fire: Mapping[str, Fire] | None = None,
    ) -> None:
        self._scribe, self._link, self._outbox = scribe, link, outbox
        self.acks, self.streaks = acks, streaks
        self.forms = Forms(scribe, fire)
        self._topics = {camera.id: scribe.topics.of("verdict", camera.id) for camera in scribe.identity.cameras}
        self._clock = scribe.clock
        self.results = results
        self.evidence: Evidence | None = None
        self.unsent = Unsent()
        self.refused: set[str] = set()  # cameras whose last verdict the broker did not take
        self.unheard: set[str] = set()  # cameras whose last verdict nobody had subscribed to
        self.lapses: dict[str, int] = {}  # code of `unknown`: when it was last said, monotonic
        self.verdicts: dict[str, int] = {}
        self.verdicts_of: dict[str, dict[Word, int]] = {camera.id: {} for camera in scribe.identity.cameras}
        self.last_seq = {camera.id: 0 for camera in scribe.identity.cameras}
        self.recent: deque[Sent] = deque(maxlen=RECENT)
        self._lock = threading.Lock()
        self.recorder: Notes | None = None
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._overdue: dict[str, Sent] = {}
        self._hasty: dict[str, tuple[Part, Decision, Sight]] = {}  # too late, but before the verdict was out
        self._tokens = 0

    # ---- what the pipeline and the timer report

    def judged(self, part: Part, decision: Decision, sight: Sight = NOTHING_SEEN) -> None:
        """Publishes the verdict, then records the result."""
        self._record(self._send(part, decision, sight), sight)

    def overdue(self, part: Part) -> None:
        """Publishes `unknown(deadline_missed)`; the result waits a while for what the engine may still say."""
        sent = self._send(part, Decision.unknown("deadline_missed"), NOTHING_SEEN)
        with self._lock:
            hasty = self._hasty.pop(part.id, None)
            if hasty is None:
                self._overdue[part.id] = sent
        if hasty is not None:
            self._record(sent, hasty[2], hasty[1])

    def too_late(self, part: Part, decision: Decision, sight: Sight) -> None:
        """Records what the engine made of a part whose verdict is out already."""
        with self._lock:
            sent = self._overdue.pop(part.id, None)
            if sent is None:
                self._hasty[part.id] = (part, decision, sight)
        if sent is not None:
            self._record(sent, sight, decision)

    def settle_overdue(self, *, everything: bool = False) -> None:
        """Records the overdue parts for which nothing came any more."""
        limit_ns = self._clock.mono_ns() - int(LATE_DECISION_S * 1e9)
        with self._lock:
            parts = [part_id for part_id, s in self._overdue.items() if everything or s.part.deadline_ns < limit_ns]
            settled = [self._overdue.pop(part_id) for part_id in parts]
            self._hasty = {part_id: h for part_id, h in self._hasty.items() if h[0].deadline_ns >= limit_ns}
        for sent in settled:
            self._record(sent, NOTHING_SEEN)

    # ---- what the connection reports

    @property
    def deadline_ms(self) -> float:
        """The deadline that new parts get."""
        return self._scribe.identity.deadline_ms

    @property
    def nobody_listens(self) -> bool:
        """Whether the verdicts of a camera reach nobody."""
        return bool(self.unheard)

    def confirm(self, receipt: Receipt) -> None:
        """What the broker said of a verdict."""
        with self._lock:
            unconfirmed = self._unconfirmed.pop(receipt.token, None)
        if unconfirmed is None:
            return
        sent, took_ns = unconfirmed.sent, self._clock.mono_ns() - unconfirmed.since_ns
        self._note("receipt", sent, code=receipt.code, ms=round(took_ns / 1e6, 3))
        if receipt.accepted:
            self.refused.discard(sent.part.camera)
        if not receipt.accepted:
            self.refused.add(sent.part.camera)
            self._undelivered(sent, "refused")
        elif receipt.nobody_listens:
            self.unheard.add(sent.part.camera)
        else:
            self.unheard.discard(sent.part.camera)

    def has_overdue_confirmation(self, now_ns: int) -> bool:
        """Whether a verdict stayed without a PUBACK while it was valid."""
        with self._lock:
            return any(waits.sent.part.valid_until_ns < now_ns for waits in self._unconfirmed.values())

    def give_up_unconfirmed(self, connection: int | None = None) -> None:
        """The connection broke: what was not confirmed counts as not delivered, and is never sent again.

        With the number of a connection, what went out on a later one is left alone.
        """
        with self._lock:
            waiting = self._unconfirmed.items()
            tokens = [token for token, waits in waiting if connection is None or waits.connection <= connection]
            given_up = [self._unconfirmed.pop(token).sent for token in tokens]
        for sent in given_up:
            self._undelivered(sent, "unconfirmed")

    # ----

    def _send(self, part: Part, decision: Decision, sight: Sight) -> Sent:
        topic = self._topics[part.camera]
        with self._scribe.page(topic) as head:
            sent = self.forms.sent(part, decision, head["seq"], sight)
            self.recent.append(sent)
            obstacle = self._hand_over(topic, head, sent)
            self.last_seq[part.camera] = sent.seq  # all that nobody waits for comes after the message
            self._count(part.camera, decision)
            self.streaks.add(part.camera, decision.verdict, sent.seq)
            if obstacle is None:
                return sent._replace(in_time=True)
            if obstacle != "told":
                self._undelivered(sent, obstacle)
            return sent

    def _hand_over(self, topic: str, head: dict[str, object], sent: Sent) -> str | None:
        """Writes the verdict to the connection; why not, where that cannot be."""
        try:
            payload = self.forms.verdict(head, sent)
        except Exception:
            log.exception("verdict_not_written", part=sent.part.id)
            return "internal_error"
        remaining_ns = sent.part.valid_until_ns - self._clock.mono_ns()  # the last thing before it is sent
        if remaining_ns <= 0:
            return "stale"
        token = self._await(sent)
        if self.acks:  # before it is sent: an arm may be quick
            self.acks.expect(
                sent.part.camera, sent.seq, sent.part.trigger_id, sent.decision.verdict, self._clock.mono_ns()
            )
        expiry_s = math.ceil(remaining_ns / 1e9)
        if self._link.send(Message(topic, payload, qos=1, expiry_s=expiry_s, token=token)):
            return None
        with self._lock:
            is_ours = self._unconfirmed.pop(token, None) is not None
        return "no_connection" if is_ours else "told"  # the connection broke meanwhile, and all on it was given up

    def _await(self, sent: Sent) -> int:
        with self._lock:
            self._tokens += 1
            self._unconfirmed[self._tokens] = _Unconfirmed(self._link.connections, sent, self._clock.mono_ns())
            return self._tokens

    def _undelivered(self, sent: Sent, reason: str) -> None:
        self.unsent.add(sent.part.camera, reason, sent.seq)
        self._note("unsent", sent, reason=reason)
        if self.acks:
            self.acks.forget(sent.part.camera, sent.seq)

    def _record(self, sent: Sent, sight: Sight, late: Decision | None = None) -> None:
        if self.evidence:
            self.evidence.offer(sent, sight)
        if not self._is_recorded(sent):
            if self.recorder:
                self.recorder.note("result", self.forms.result(self._scribe.head(sent.seq), sent, sight, late))
            return
        topic = self._scribe.topics.of("result", sent.part.camera)
        with self._scribe.page(topic) as head:
            payload = self.forms.result(head, sent, sight, late)
            self._outbox.put("result", Message(topic, payload, qos=1))
        if self.recorder:
            self.recorder.note("result", payload)

    def _note(self, kind: str, sent: Sent, **facts: object) -> None:
        """What became of a verdict, for who asks for it on the device."""
        if self.recorder:
            self.recorder.note(kind, {"camera": sent.part.camera, "seq": sent.seq, **facts})

    def _is_recorded(self, sent: Sent) -> bool:
        """A fraction takes every n-th part, by its number, so that a replay records the same ones."""
        if isinstance(self.results, str):
            return self.results == "all" or sent.decision.verdict != "pass"
        number = sent.part.number
        return int(number * self.results) > int((number - 1) * self.results)

    def _count(self, camera: str, decision: Decision) -> None:
        """By word, unknown ones by their code too, and by camera. Called by whoever holds the camera's page."""
        keys: list[str] = [decision.verdict]
        keys += [f"unknown.{reason.code}" for reason in decision.reasons[:1] if reason.code]
        with self._lock:
            for key in keys:
                self.verdicts[key] = self.verdicts.get(key, 0) + 1
            of_camera = self.verdicts_of[camera]
            of_camera[decision.verdict] = of_camera.get(decision.verdict, 0) + 1
            for reason in decision.reasons:
                if reason.code in LAPSES:
                    self.lapses[reason.code] = self._clock.mono_ns()
