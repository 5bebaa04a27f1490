"""Parts that are called for from outside: a sensor sees one come, and one frame of the camera shows it."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision, Ledger, Part
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.mailbox import Mailbox, Token
from edge_agent.runtime.trigger import FrameInspector, Judged, MakeRule

WAITING_MOST = 1000  # parts of a camera that are on their way to it
PENDING_MOST = 16  # parts of a camera that should have been before it, and have no verdict yet
RUNS = 15  # of late, by which it is told whether a part can be judged in time
LOST_MOST = 16  # verdicts at once for edges that were lost: more are no parts any more, but a broken sensor


@dataclass(frozen=True, slots=True)
class Terms:
    """Which frame shows a part: the first at or after trigger + offset, and no later than the window after that."""

    offset_ns: int
    window_ns: int


class Summons:
    """One camera's. `call`, `doubt` and `lose` are for whoever hears the sensor, `take` and `took` for the pipeline, `give_up` for the timer.

    Attributes:
        is_ready: whether there is an engine that could judge a part. To be set once there is.
        calls: parts called for since the start, those included that were lost.
        uncalled: triggers that were lost and are not even parts.
    """

    def __init__(
        self, camera: str, terms: Terms, ledger: Ledger, mailbox: Mailbox, desk: Desk, clock: Clock = SYSTEM
    ) -> None:
        self._camera, self._terms, self._clock = camera, terms, clock
        self._ledger, self._mailbox, self._desk = ledger, mailbox, desk
        self.is_ready = False
        self.calls = self.uncalled = 0
        self._lock = threading.Lock()  # a part waits and its frame is sought, or neither
        self._waiting: dict[Token, Part] = {}
        self._runs_ns: deque[int] = deque(maxlen=RUNS)  # the pipeline's alone

    def call(self, at_ns: int, trigger_id: str | None = None, position: float | None = None) -> None:
        """A part comes, sensed at that moment (monotonic). It gets its verdict, whatever happens."""
        with self._lock:
            self.calls += 1
            part = self._ledger.open(self._camera, at_ns, trigger_id, position)
            is_crowded = self._is_crowded()
            if self.is_ready and not is_crowded and not part.is_born_closed:
                self._waiting[part.id] = part
                self._mailbox.bind(part.id, at_ns + self._terms.offset_ns)
                return
        self._close(part, "overload" if is_crowded else "model_not_ready")

    def doubt(self, at_ns: int, trigger_id: str, position: float | None) -> None:
        """A part came at that moment or later: no frame is known to show it."""
        with self._lock:
            self.calls += 1
        self._close(self._ledger.open(self._camera, at_ns, trigger_id, position), "no_frame")

    def lose(self, count: int, at_ns: int) -> None:
        """So many parts came of which nothing more is known than that it was before that moment."""
        told = min(count, LOST_MOST)
        with self._lock:
            self.calls += told
            self.uncalled += count - told
        for _ in range(told):
            self._close(self._ledger.open(self._camera, at_ns), "overload")

    def take(self, token: Token, frame: Frame) -> Part | None:
        """The part that this frame is for, where it can still be judged in time; otherwise it is closed here."""
        with self._lock:
            part = self._waiting.pop(token, None)
        if part is None:  # closed while its frame was on the way
            return None
        if frame.captured_ns > part.since_ns + self._terms.offset_ns + self._terms.window_ns:
            self._close(part, "no_frame")
            return None
        needs_ns = median(self._runs_ns) if self._runs_ns else 0
        if self._clock.mono_ns() + needs_ns > part.deadline_ns:  # else each part would be a little too late
            self._close(part, "overload")
            if frame.captured_ns + needs_ns > part.deadline_ns:
                self._runs_ns.clear()  # not even a fresh one could be judged; whether that goes on only a run can show
            return None
        return part

    def took(self, run_ns: int) -> None:
        """How long the engine and all around it had a part."""
        self._runs_ns.append(run_ns)

    def give_up(self, part: Part) -> str | None:
        """Why a part that was closed at its deadline could not be judged; None where the pipeline is about to."""
        with self._lock:
            if self._waiting.pop(part.id, None) is None:
                return None
            was_sought = self._mailbox.unbind(part.id) == "sought"
        return "no_frame" if was_sought else "overload"

    def _is_crowded(self) -> bool:
        """With the lock held. Parts that are still on their way to the camera hold no picture, and nothing up."""
        now_ns, offset_ns = self._clock.mono_ns(), self._terms.offset_ns
        due = sum(part.since_ns + offset_ns <= now_ns for part in self._waiting.values())
        return due >= PENDING_MOST or len(self._waiting) >= WAITING_MOST

    def _close(self, part: Part, code: str) -> None:
        if part.is_born_closed:
            self._desk.judged(part, Decision.unknown("stopping"))
        elif self._ledger.close(part):
            self._desk.judged(part, Decision.unknown(code))


class TriggeredInspector(FrameInspector):
    """The frame that a trigger asked for is the part, and the whole frame belongs to it."""

    def __init__(
        self,
        camera: str,
        ledger: Ledger,
        labels: Sequence[str],
        rules: Sequence[MakeRule],
        *,
        summons: Summons,
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(camera, ledger, labels, rules)
        self._summons, self._clock = summons, clock
        self._began_ns = 0

    def begin(self, frame: Frame, token: Token | None = None) -> Part | None:
        """The part that waits for this frame, unless it cannot be judged any more."""
        if token is None:
            return None
        self._began_ns = self._clock.mono_ns()
        return self._summons.take(token, frame)

    def finish(self, frame: Frame, part: Part | None, detections: Detections, *, is_fit: bool = True) -> list[Judged]:
        """One frame is all the evidence there is."""
        judged = super().finish(frame, part, detections, is_fit=is_fit)
        self._summons.took(self._clock.mono_ns() - self._began_ns)
        return judged
