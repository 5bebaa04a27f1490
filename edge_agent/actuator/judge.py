"""May this verdict be acted on? The arm is the last gate; its rules are in docs/messages.md, "How an arm judges age".

Pure: what was heard and when comes in, what is to be done goes out. No clock, no MQTT. All times are milliseconds; those
that end in `sent_mono_ms` are of the sender's monotonic clock, all others of the arm's own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from edge_agent.actuator.messages import Birth, Heartbeat, State, Verdict, parse
from edge_agent.wire.messages import MOST_CAMERAS, Action

LOST_MS = 1500.0  # without a heartbeat for so long, the agent is lost
CLOCK_DRIFT = 0.0005  # two clocks that nobody sets run apart; 500 ppm is the most by which a kernel bends its own
CROWD_MS = 100.0  # heartbeats that come closer together stood in a queue: what they name may stand there still
CANNOT_JUDGE = ("starting", "error", "offline")
SESSIONS_MOST = 16  # that are remembered

Doing = Action | Literal["none"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The arm's own word on what to do, and how long its pulse comes after the verdict."""

    on_unknown: Action
    on_agent_loss: Action
    delay_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it came. `name` and `camera` are from its topic: `verdict/top`."""

    name: str
    camera: str | None
    payload: bytes
    retained: bool
    received_ms: float


@dataclass(frozen=True, slots=True)
class Ruling:
    """What to do about a verdict or a gap, and why; or why a message was dropped (`none`)."""

    kind: str  # verdict, heartbeat, state, birth; gap
    action: Doing
    why: str
    received_ms: float
    camera: str | None = None
    session: str | None = None
    seq: int | None = None
    part_id: str | None = None
    trigger_id: str | None = None
    verdict: str | None = None
    age_ms: float | None = None
    remaining_ms: float | None = None  # None: of a gap nobody knows
    count: int = 1  # of a gap: how many parts, from `seq` on


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something about the agent as a whole: `agent_lost`, `agent_back`, `policy_differs`."""

    code: str
    action: Doing
    why: str
    at_ms: float


Finding = Ruling | Alarm


@dataclass(slots=True)
class _Numbers:
    """Which verdicts of one camera are dealt with. A gap in them is a part without a verdict."""

    dealt_with: int = 0  # the last that came, or that is known to be missing
    before_us: int = 0  # named by the first heartbeat that we heard: not ours to miss
    named: int = 0  # by the heartbeat before
    named_ms: float = -math.inf  # when that came
    lost_to: float = 0  # up to here they are from a time of agent loss; infinity while that goes on

    def missing_below(self, seq: int) -> tuple[range, range]:
        """Those from a time of agent loss, and those since."""
        first = max(self.dealt_with, self.before_us) + 1
        border = int(min(max(self.lost_to + 1, first), seq))
        return range(first, border), range(border, seq)


@dataclass(slots=True)
class _Session:
    """One run of the agent. `fastest_ms` is the smallest receipt minus sending: two clocks, and the fastest way."""

    heard_ms: float
    fastest_ms: float = math.inf
    newest_beat_ms: float = -math.inf  # the sender's clock
    state: str = "starting"
    cameras: dict[str, _Numbers] = field(default_factory=dict)

    def age_ms(self, sent_mono_ms: float, received_ms: float) -> float:
        """How much longer this message took than the fastest."""
        transit_ms = received_ms - sent_mono_ms
        drift_ms = CLOCK_DRIFT * (received_ms - self.heard_ms)
        self.fastest_ms = min(transit_ms, self.fastest_ms + drift_ms)
        self.heard_ms = received_ms
        return transit_ms - self.fastest_ms

    def beats(self, now_ms: float) -> bool:
        """Whether its last heartbeat is recent: by when it was sent, for it may have come late."""
        return now_ms - (self.newest_beat_ms + self.fastest_ms) <= LOST_MS

    def judges(self, now_ms: float) -> bool:
        return self.beats(now_ms) and self.state not in CANNOT_JUDGE

    def numbers_of(self, camera: str) -> _Numbers | None:
        """None where there are more cameras than a device can have."""
        if camera not in self.cameras and len(self.cameras) >= MOST_CAMERAS:
            return None
        return self.cameras.setdefault(camera, _Numbers())


class Judge:
    """Hears every message of one device, in the order in which they come, and is asked now and then what time does."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._sessions: dict[str, _Session] = {}
        self._birth: Birth | None = None
        self._told: tuple[Action, Action] | None = None
        self.is_lost = True  # until the first heartbeat

    def begin(self, now_ms: float) -> list[Finding]:
        """Before the first heartbeat the agent counts as lost."""
        return [Alarm("agent_lost", self._policy.on_agent_loss, "start", now_ms)]

    def hear(self, letter: Letter) -> list[Finding]:
        """What to do about a message."""
        return [*self._heard(letter), *self._compare(letter.received_ms), *self.tick(letter.received_ms)]

    def tick(self, now_ms: float) -> list[Finding]:
        """Whether the agent was lost, or came back. To be asked several times a second."""
        was_lost, self.is_lost = self.is_lost, not any(session.judges(now_ms) for session in self._sessions.values())
        if self.is_lost == was_lost:
            return []
        if not self.is_lost:
            return [Alarm("agent_back", "none", "heartbeat", now_ms)]
        for session in self._sessions.values():
            for numbers in session.cameras.values():
                numbers.lost_to = math.inf
        states = [session.state for session in self._sessions.values() if session.beats(now_ms)]
        return [Alarm("agent_lost", self._policy.on_agent_loss, states[-1] if states else "no_heartbeat", now_ms)]

    def _heard(self, letter: Letter) -> Iterator[Finding]:
        if letter.retained and letter.name in ("verdict", "heartbeat"):  # from a time that nobody knows
            yield _refused(letter, "retained")
            return
        try:
            message = parse(letter.name, letter.payload)
        except ValueError:
            yield _refused(letter, "malformed")
            return
        if isinstance(message, Verdict):
            yield from self._rule(message, letter)
        elif isinstance(message, Heartbeat):
            yield from self._beat(message, letter)
        elif isinstance(message, State):
            if message.session in self._sessions:  # else nothing shows that it is not from long ago
                self._sessions[message.session].state = message.state
        elif isinstance(message, Birth):
            self._birth = message

    def _rule(self, verdict: Verdict, letter: Letter) -> Iterator[Ruling]:
        """First the gap before the verdict, if there is one; then the verdict."""
        session = self._sessions.get(verdict.session)
        ruling = _about(verdict, letter)
        if session is None:
            yield replace(ruling, why="no_heartbeat")
            return
        age_ms = session.age_ms(verdict.sent_mono_ms, letter.received_ms)
        ruling = replace(ruling, age_ms=age_ms, remaining_ms=verdict.valid_ms - age_ms)
        numbers = session.numbers_of(verdict.camera)
        if numbers is None or verdict.camera != letter.camera:
            yield replace(ruling, why="malformed")
        elif verdict.seq <= numbers.dealt_with:  # those of one camera come in order
            yield replace(ruling, why="duplicate")
        else:
            yield from self._gap(numbers, verdict.seq, ruling)
            numbers.dealt_with = verdict.seq
            if session.judges(letter.received_ms):
                numbers.lost_to = min(numbers.lost_to, verdict.seq)
            yield self._decide(ruling, session)

    def _decide(self, ruling: Ruling, session: _Session) -> Ruling:
        remaining_ms = ruling.remaining_ms or 0.0
        action: Action = self._policy.on_unknown
        if ruling.verdict in ("pass", "reject"):
            action = "pass" if ruling.verdict == "pass" else "reject"
        if remaining_ms <= 0:
            return replace(ruling, why="stale")
        if not session.judges(ruling.received_ms):
            return replace(ruling, why="agent_lost")
        if action == "reject" and remaining_ms <= self._policy.delay_ms:
            return replace(ruling, why="too_late")
        return replace(ruling, action=action, why="on_unknown" if ruling.verdict == "unknown" else "verdict")

    def _beat(self, beat: Heartbeat, letter: Letter) -> Iterator[Ruling]:
        if beat.session not in self._sessions:
            self._meet(beat.session, letter.received_ms)
        session = self._sessions[beat.session]
        session.age_ms(beat.sent_mono_ms, letter.received_ms)
        if beat.sent_mono_ms <= session.newest_beat_ms:
            yield _refused(letter, "duplicate")
            return
        is_first = session.newest_beat_ms == -math.inf
        session.newest_beat_ms, session.state = beat.sent_mono_ms, beat.state
        for camera, last_seq in beat.last_verdict_seq.items():
            numbers = session.numbers_of(camera)
            if numbers is None:
                continue
            if is_first:
                numbers.before_us = last_seq
            if session.judges(letter.received_ms):
                numbers.lost_to = min(numbers.lost_to, last_seq)
            if letter.received_ms - numbers.named_ms < CROWD_MS:
                continue
            about = replace(_refused(letter, ""), camera=camera, session=beat.session)
            yield from self._gap(numbers, numbers.named + 1, about)  # of the beat before: a verdict may still be coming
            numbers.dealt_with = max(numbers.dealt_with, numbers.named)
            numbers.named, numbers.named_ms = last_seq, letter.received_ms

    def _gap(self, numbers: _Numbers, seq: int, about: Ruling) -> Iterator[Ruling]:
        """The parts without a verdict below this number count as unknown, as far as the arm had not seen to them."""
        while_lost, since = numbers.missing_below(seq)
        about = Ruling("gap", "none", "", about.received_ms, about.camera, about.session, verdict="unknown")
        if while_lost:
            yield replace(about, why="gap_while_lost", seq=while_lost.start, count=len(while_lost))
        if since:
            yield replace(about, action=self._policy.on_unknown, why="gap", seq=since.start, count=len(since))

    def _meet(self, name: str, now_ms: float) -> None:
        """A new session starts anew; of too many the one that was silent longest is forgotten."""
        if len(self._sessions) >= SESSIONS_MOST:
            del self._sessions[min(self._sessions, key=lambda known: self._sessions[known].heard_ms)]
        self._sessions[name] = _Session(now_ms)

    def _compare(self, now_ms: float) -> Iterator[Alarm]:
        """What the agent's configuration recommends with what this arm does: once for each difference."""
        birth = self._birth
        if birth is None or birth.session not in self._sessions:
            return
        theirs, ours = (birth.on_unknown, birth.on_agent_loss), (self._policy.on_unknown, self._policy.on_agent_loss)
        if theirs not in (ours, self._told):
            keys = zip(("on_unknown", "on_agent_loss"), theirs, ours, strict=True)
            words = [
                f"{key}: the agent recommends {their}, this arm does {our}" for key, their, our in keys if their != our
            ]
            yield Alarm("policy_differs", "none", "; ".join(words), now_ms)
        self._told = theirs


def _refused(letter: Letter, why: str) -> Ruling:
    return Ruling(letter.name, "none", why, letter.received_ms, camera=letter.camera)


def _about(verdict: Verdict, letter: Letter) -> Ruling:
    """The verdict's own words; nothing decided yet."""
    return Ruling(
        "verdict",
        "none",
        "",
        letter.received_ms,
        camera=letter.camera,
        session=verdict.session,
        seq=verdict.seq,
        part_id=verdict.part_id,
        trigger_id=verdict.trigger_id,
        verdict=verdict.verdict,
    )
