"""The herald says how the agent is: state, birth, heartbeat and health."""

import queue
import time
from collections.abc import Mapping
from typing import Any

import structlog

from edge_agent.core.ports import Message, Receipt
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.link import Down, Link, Up
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire

log = structlog.get_logger()
HEARTBEAT_S = 0.25
ANNOUNCE_S = 10.0
OWN, OWN_NAME = -1, ""  # the token of state and birth, and who they are of where cameras are meant
AGAIN_S = 0.1  # where it did not go out, because the broker takes no more unconfirmed messages now
REPORT_S = 2.0
OUTAGE_S = 10.0  # an event for what could not be sent meanwhile
MOST_REASONS = 16
CAN_JUDGE = ("ready", "running", "degraded")


class Herald:
    """`tick` belongs to the timer thread."""

    def __init__(
        self, scribe: Scribe, desk: Desk, link: Link, reporter: Reporter, *, listens: tuple[str, ...] = ()
    ) -> None:
        self._scribe, self._desk, self._link, self._reporter = scribe, desk, link, reporter
        self._listens = listens
        self._refusal: int | None = None  # the code with which the broker did not take state or birth
        self._said: tuple[wire.State, tuple[str, ...]] = ("starting", ())
        self._nobody_listens = False
        self.winding_down = False
        self._ups = 0
        self._beat_due_s = self._announce_due_s = self._report_due_s = 0.0
        self._unsent_due_s = time.monotonic() + OUTAGE_S

    def tick(self, state: wire.State, reasons: tuple[str, ...]) -> None:
        """The timer's round: receipts, announcements, heartbeat, reports."""
        now_s = time.monotonic()
        self._take_notices()
        if self._desk.has_overdue_confirmation(self._scribe.clock.mono_ns()):
            self._desk.give_up_unconfirmed()
            self._link.abort("a verdict was not confirmed while it was valid")
        if self.winding_down:  # what is being stopped looks as if nothing were wrong with it
            return
        if state in CAN_JUDGE and now_s >= self._beat_due_s:
            due_s = self._beat_due_s + HEARTBEAT_S
            self._beat_due_s = due_s if due_s > now_s else now_s + HEARTBEAT_S
            self._beat(state)  # first of all: arms believe no verdict before they hear one
        if (state, reasons) != self._said or now_s >= self._announce_due_s:
            self.announce(state, reasons)
        if now_s >= self._report_due_s:
            self._report_due_s = now_s + REPORT_S
            self._desk.settle_overdue()
            self._report()

    def announce(self, state: wire.State, reasons: tuple[str, ...]) -> bool:
        """Publishes `state` and `birth`, retained, with all that is known now. False: they did not go out."""
        if (state, reasons) != self._said:
            say = log.warning if state in ("degraded", "error") else log.info
            say("state", state=state, reasons=list(reasons))
        self._said = (state, reasons)
        is_said = self._send_state(state, reasons)
        topic = self._scribe.topics.of("birth")
        with self._scribe.page(topic) as head:
            is_said &= self._link.send(Message(topic, self._birth(head).payload(), qos=1, retain=True, token=OWN))
        is_held_up = self._link.connected and not is_said  # without a connection the next one brings it
        self._announce_due_s = time.monotonic() + (AGAIN_S if is_held_up else ANNOUNCE_S)
        return is_said

    def renew(self) -> None:
        """State and birth are published again at the next tick."""
        self._announce_due_s = 0.0

    def will(self) -> Message:
        """What the broker says when the agent is lost."""
        topic = self._scribe.topics.of("state")
        with self._scribe.page(topic) as head:
            payload = wire.StateMessage(**head, state="offline", reasons=("connection_lost",)).payload()
        return Message(topic, payload, qos=1, retain=True)

    def health(self, facts: Mapping[str, Any]) -> Message:
        """The health message, for the records connection: not queued, the next one is newer."""
        topic = self._scribe.topics.of("health")
        with self._scribe.page(topic) as head:
            payload = wire.Health.model_validate({**head, **facts}).payload()
        return Message(topic, payload, retain=True, expiry_s=60)

    def log_undelivered(self) -> None:
        """After the connection was closed: what it left unconfirmed can be told to the log alone."""
        self._take_notices()
        self._desk.give_up_unconfirmed()
        for span in self._desk.unsent.take():
            log.error("verdicts_unsent", **span.data())

    def report_unsent(self) -> None:
        """An event for each range of verdicts that nobody got."""
        for span in self._desk.unsent.take():
            text = f"{span.count} verdicts of camera {span.camera} were not delivered ({span.reason})"
            self._reporter.event("verdicts_unsent", "alarm", text, span.data())

    def _report(self) -> None:
        if self._link.connected or time.monotonic() >= self._unsent_due_s:
            self._unsent_due_s = time.monotonic() + OUTAGE_S
            self.report_unsent()
        if self._desk.nobody_listens != self._nobody_listens:
            self._nobody_listens = self._desk.nobody_listens
            if self._nobody_listens:
                self._reporter.event("no_arm", "alarm", "nobody subscribes to the verdicts")
            else:
                self._reporter.event("arm_back", "info", "somebody subscribes to the verdicts again")

    def _send_state(self, state: wire.State, reasons: tuple[str, ...]) -> bool:
        topic = self._scribe.topics.of("state")
        with self._scribe.page(topic) as head:
            payload = wire.StateMessage(**head, state=state, reasons=_at_most(reasons, MOST_REASONS)).payload()
            return self._link.send(Message(topic, payload, qos=1, retain=True, token=OWN))

    def _birth(self, head: dict[str, Any]) -> wire.Birth:
        who = self._scribe.identity
        return wire.Birth(
            **head,
            agent_version=who.agent_version,
            python=who.python,
            board=who.board,
            profile=who.profile,
            engine=self._scribe.engine,
            model=self._scribe.model,
            config_sha256=who.config_sha256,
            cameras=who.cameras,
            on_unknown=who.on_unknown,
            on_agent_loss=who.on_agent_loss,
            deadline_ms=who.deadline_ms,
            valid_ms=who.valid_ms,
            schemas=tuple(f"edge-agent/{name}/1" for name in wire.MESSAGES),
            topics=self._scribe.topics.listing(tuple(camera.id for camera in who.cameras)),
            listens=self._listens,
        )

    def _beat(self, state: wire.State) -> None:
        topic = self._scribe.topics.of("heartbeat")
        with self._scribe.page(topic) as head:
            sent_mono_ms = self._scribe.clock.mono_ns() / 1e6
            beat = wire.Heartbeat(
                **head, state=state, last_verdict_seq=dict(self._desk.last_seq), sent_mono_ms=sent_mono_ms
            )
            self._link.send(Message(topic, beat.payload(), expiry_s=2))

    def _note_own(self, receipt: Receipt) -> None:
        """What the broker says of state and birth: without them nobody knows this device."""
        before, self._refusal = self._refusal, None if receipt.accepted else receipt.code
        if receipt.accepted:
            self._desk.refused.discard(OWN_NAME)
        else:
            self._desk.refused.add(OWN_NAME)
        if self._refusal is not None and self._refusal != before:
            text = f"the broker does not take state and birth (0x{receipt.code:02x}): its ACL, or [mqtt] prefix?"
            self._reporter.event("state_refused", "alarm", text, {"code": receipt.code})

    def _take_notices(self) -> None:
        while True:
            try:
                notice = self._link.inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(notice, Receipt) and notice.token == OWN:
                self._note_own(notice)
            elif isinstance(notice, Receipt):
                self._desk.confirm(notice)
            elif isinstance(notice, Up):
                self._ups += 1
                self._announce_due_s = self._beat_due_s = 0.0
            elif isinstance(notice, Down):
                self._desk.give_up_unconfirmed(self._ups)
                self.report_unsent()  # to the disk, and not to memory: who knows how the agent ends


def _at_most(reasons: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """The first ones, and how many more there are where they do not fit."""
    return reasons if len(reasons) <= limit else (*reasons[: limit - 1], f"more:{len(reasons) - limit + 1}")
