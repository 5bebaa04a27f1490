"""The way from the cameras into the pipeline: one mailbox per camera, one thread that empties them all.

The newest frame wins: a frame that nobody took before the next one came is dropped and counted. A short ring keeps the
last frames, taken or not, so that the right one for an external trigger is still there; a trigger pins the frame it
needs. At every moment, for each mailbox, made = taken + dropped + waiting.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from edge_agent.core.datatypes import Frame

Token = str
"""Who asked for a frame: the id of a part."""
PINNED_MOST = 64  # tokens of one camera: each may hold a picture


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame to judge: from which camera (the index of its mailbox), and for which token, None being for none.

    `was_there`: it had come before somebody was there to take it.
    """

    lane: int
    frame: Frame
    token: Token | None
    was_there: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the frames of one camera. Each frame is in one of the last three.

    taken: delivered, counted once, however often it was; dropped: let go and never delivered; waiting: held and never
    delivered yet. `shed` are those of the dropped ones that were left out on purpose (`Mailbox.set_pace`).
    """

    made: int
    taken: int
    dropped: int
    waiting: int
    shed: int = 0


class _Held:
    """A frame and how many places hold it: the slot, the ring, and each token it is pinned for."""

    __slots__ = ("frame", "holders", "taken")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.holders = 0
        self.taken = False


class Mailbox:
    """One camera's frames. Made by `Mailroom.add`; any thread may call its public methods.

    Args:
        wake: the lock and wake-up call of the mailroom, shared by all its mailboxes.
        ring: how many of the last frames are kept for triggers that come late.
        lossless: `put` waits until the frame before has been taken, so that nothing is dropped. A frame counts as
            captured when it is taken, or a slow engine would make each one late by itself.
        free_running: frames are delivered as they come; if not, only for a token.
    """

    def __init__(self, wake: threading.Condition, *, ring: int, lossless: bool, free_running: bool) -> None:
        self._wake = wake
        self._lossless = lossless
        self._free_running = free_running
        self._closed = False
        self._slot: _Held | None = None
        self._ring_size = ring
        self._ring: deque[_Held] = deque()
        self._sought: dict[Token, int] = {}  # token: not_before_ns, in the order of `bind`
        self._bound: dict[Token, tuple[int, _Held]] = {}
        self._made = self._taken = self._dropped = self._shed = 0
        self._interval_ns = 0  # at least so long from one frame to the next in the slot
        self._due_ns = 0

    @property
    def counts(self) -> Counts:
        """All four at one moment."""
        with self._wake:
            waiting = sum(not held.taken for held in self._all_held())
            return Counts(self._made, self._taken, self._dropped, waiting, self._shed)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be taken. The ring may hold frames for triggers that come late."""
        with self._wake:
            return self._slot is None and not self._bound

    def put(self, frame: Frame, timeout_s: float | None = None) -> bool:
        """Hands a frame in. The capture thread calls it.

        A lossless mailbox waits until there is room, for `timeout_s` at most (None: for ever); False means that there
        was none and the frame is still the caller's. After `close` frames are dropped.
        """
        with self._wake:
            if not self._wake.wait_for(self._has_room, timeout_s):
                return False
            held = _Held(frame)
            self._made += 1
            if not self._closed:
                self._keep(held)
            if held.holders == 0:
                self._dropped += 1
            else:
                self._wake.notify_all()
            return True

    def set_pace(self, fps: float | None) -> None:
        """At most so many frames a second are delivered as they come, None: all. Those for a token always are.

        A lossless mailbox keeps its promise: it takes no notice.
        """
        with self._wake:
            self._interval_ns = int(1e9 / fps) if fps and not self._lossless else 0

    def bind(self, token: Token, not_before_ns: int) -> None:
        """Pins the first frame captured at or after `not_before_ns` (monotonic) for this token.

        That is the first such frame still held, or else the next that comes. It is delivered for the token even where
        it was delivered before, for another or for none.
        """
        with self._wake:
            self._unbind(token)
            fitting = [held for held in self._all_held() if held.frame.captured_ns >= not_before_ns]
            if fitting:
                self._pin(token, not_before_ns, min(fitting, key=lambda held: held.frame.captured_ns))
                self._wake.notify_all()
            else:
                self._sought[token] = not_before_ns

    def unbind(self, token: Token) -> Literal["sought", "pinned"] | None:
        """The token needs no frame any more: none is delivered for it.

        What it was: its frame had not come (`sought`), or waited to be taken (`pinned`); None where it was not bound.
        """
        with self._wake:
            return self._unbind(token)

    def close(self) -> None:
        """Wakes a `put` that waits; from now on every frame is dropped."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    # What follows is called with the lock held: these four by the mailroom, the rest by the above.

    def oldest_bound(self) -> tuple[int, Token] | None:
        """The oldest trigger that has its frame: its `not_before_ns` and its token."""
        if not self._bound:
            return None
        token = min(self._bound, key=lambda t: self._bound[t][0])
        return self._bound[token][0], token

    def take_bound(self, token: Token) -> Frame:
        """The frame pinned for the token, which is bound no more."""
        _, held = self._bound.pop(token)
        self._mark_taken(held)
        self._release(held)
        return held.frame

    def next_frame(self) -> Frame | None:
        """What `take_bound` or else `take_newest` would give."""
        oldest = self.oldest_bound()
        held = self._bound[oldest[1]][1] if oldest else self._slot
        return held.frame if held else None

    def take_newest(self) -> Frame | None:
        """The newest frame, if it was not taken yet."""
        held = self._slot
        if held is None:
            return None
        self._mark_taken(held)
        return replace(held.frame, captured_ns=time.monotonic_ns()) if self._lossless else held.frame

    def _mark_taken(self, held: _Held) -> None:
        self._taken += not held.taken
        held.taken = True
        if held is self._slot:  # taken for a token, it has been seen: not a second time for none
            self._empty_slot()

    def _has_room(self) -> bool:
        return self._closed or not self._lossless or self._slot is None

    def _keep(self, held: _Held) -> None:
        captured_ns = held.frame.captured_ns
        fitting = [t for t, not_before_ns in self._sought.items() if captured_ns >= not_before_ns]
        for token in fitting[: PINNED_MOST - len(self._bound)]:
            self._pin(token, self._sought.pop(token), held)
        if self._ring_size:
            self._ring.append(held)
            held.holders += 1
            if len(self._ring) > self._ring_size:
                self._release(self._ring.popleft())
        if self._free_running and self._is_due(held):
            self._empty_slot()
            self._slot = held
            held.holders += 1

    def _is_due(self, held: _Held) -> bool:
        """Whether the pace lets it through: by a schedule, so that jitter of the camera does not make it slower."""
        if not self._interval_ns:
            return True
        captured_ns = held.frame.captured_ns
        if captured_ns < self._due_ns:
            self._shed += held.holders == 0
            return False
        is_in_step = captured_ns - self._due_ns < self._interval_ns
        self._due_ns = (self._due_ns if is_in_step else captured_ns) + self._interval_ns
        return True

    def _all_held(self) -> Iterable[_Held]:
        slot = () if self._slot is None else (self._slot,)
        return {id(held): held for held in (*slot, *self._ring, *(held for _, held in self._bound.values()))}.values()

    def _pin(self, token: Token, not_before_ns: int, held: _Held) -> None:
        self._bound[token] = (not_before_ns, held)
        held.holders += 1

    def _unbind(self, token: Token) -> Literal["sought", "pinned"] | None:
        if self._sought.pop(token, None) is not None:
            return "sought"
        if token in self._bound:
            self._release(self._bound.pop(token)[1])
            return "pinned"
        return None

    def _release(self, held: _Held) -> None:
        held.holders -= 1
        if held.holders == 0 and not held.taken:
            self._dropped += 1

    def _empty_slot(self) -> None:
        if self._slot is not None:
            self._release(self._slot)
            self._slot = None


class Mailroom:
    """All mailboxes of an agent, and where the pipeline thread waits for any of them."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._boxes: list[Mailbox] = []
        self._turn = 0
        self._closed = False

    def add(self, *, ring: int = 0, lossless: bool = False, free_running: bool = True) -> Mailbox:
        """A mailbox for one more camera; its lane is the number of those added before. See `Mailbox`."""
        box = Mailbox(self._wake, ring=ring, lossless=lossless, free_running=free_running)
        self._boxes.append(box)
        return box

    def take(self, timeout_s: float) -> Taken | None:
        """The next frame to judge, or None when none came in time or the mailroom is closed.

        Frames bound to a trigger come first, that of the oldest trigger first of all; then the newest frame of each
        camera in turn.
        """
        end_s, was_there = time.monotonic() + timeout_s, True
        with self._wake:
            while not self._closed:
                taken = self._take_bound(was_there=was_there) or self._take_newest(was_there=was_there)
                if taken is not None:
                    self._wake.notify_all()  # there may be room now for a lossless camera
                    return taken
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._wake.wait(left_s)
                was_there = False
            return None

    def next_frame(self, timeout_s: float, is_new: Callable[[Frame], bool]) -> tuple[int, Frame] | None:
        """The frame that `take` would give now, and its lane; it stays to be taken, or to be dropped.

        Waits while there is none, or one that is not new; None where nothing else came in time.
        """
        end_s = time.monotonic() + timeout_s
        with self._wake:
            while not self._closed:
                found = self._look_next()
                if found is not None and is_new(found[1]):
                    return found
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._wake.wait(left_s)
            return None

    def close(self) -> None:
        """Wakes everyone: `take` returns None from now on, and every frame is dropped."""
        with self._wake:
            self._closed = True
            for box in self._boxes:
                box.close()
            self._wake.notify_all()

    def _take_bound(self, *, was_there: bool) -> Taken | None:
        oldest = self._oldest_bound()
        if oldest is None:
            return None
        lane, token = oldest
        return Taken(lane, self._boxes[lane].take_bound(token), token, was_there)

    def _take_newest(self, *, was_there: bool) -> Taken | None:
        for lane in self._in_turn():
            frame = self._boxes[lane].take_newest()
            if frame is not None:
                self._turn = lane + 1
                return Taken(lane, frame, None, was_there)
        return None

    def _look_next(self) -> tuple[int, Frame] | None:
        oldest = self._oldest_bound()
        for lane in self._in_turn() if oldest is None else (oldest[0],):
            frame = self._boxes[lane].next_frame()
            if frame is not None:
                return lane, frame
        return None

    def _oldest_bound(self) -> tuple[int, Token] | None:
        """The lane and the token of the oldest trigger that has its frame."""
        waiting = [(*oldest, lane) for lane, box in enumerate(self._boxes) if (oldest := box.oldest_bound())]
        if not waiting:
            return None
        _, token, lane = min(waiting, key=lambda entry: entry[0])
        return lane, token

    def _in_turn(self) -> Iterable[int]:
        n = len(self._boxes)
        return ((self._turn + i) % n for i in range(n))
