"""The next picture is prepared while the engine runs on this one.

A thread beside the pipeline looks at which frame would be taken next, decodes it and prepares it in memory of its own. It
takes nothing out of the mailroom: where another frame is taken after all, because a newer one or one for a trigger came,
its work was in vain, and all else is as without it. Where a frame found the engine at rest, the next probably will: then
nothing is done ahead, and nothing is delayed by it.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import structlog

from edge_agent.core.datatypes import Array, BoundTensor, Frame, Image, Later, pixels_of
from edge_agent.core.eyesight import Look
from edge_agent.core.heads import is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.mailbox import Mailroom, Taken
from edge_agent.runtime.preprocess import Preprocessor
from edge_agent.runtime.scheduling import Scheduling

log = structlog.get_logger()
RECENT = 15  # runs and pictures by which it is told when to begin
MARGIN_NS = 1_000_000  # for waking up, and for runs that are shorter than any of late
PATIENCE_S = 0.02  # between two looks whether the run goes on, where no frame comes
JOIN_S = 1.0
STUCK_NS = 5_000_000_000  # no picture takes so long: what makes it hangs


class Ahead:
    """For one engine. `wait_for`, `prepare`, `run_begins` and `run_ended` are for the thread that drives the engine.

    Args:
        mailroom: where the next frame is to be seen.
        engine: that runs.
        watches: one per camera, or none at all; those that look at frames measure them ahead, too.
        at_once: the next picture is begun as soon as the engine runs, and each newer one that comes meanwhile; without,
            as late as is in time, so that little is prepared in vain, and only where frames have to wait for the engine.

    Attributes:
        scheduling: where its thread runs; to be set before the start.
        thread: its own.
    """

    def __init__(
        self, mailroom: Mailroom, engine: Engine, watches: Sequence[CameraWatch] = (), *, at_once: bool = False
    ) -> None:
        self._mailroom, self._watches, self._at_once = mailroom, watches, at_once
        self._preprocessor = engine.preprocessor
        own = engine.preprocessor
        self._spare = _Spare(engine, own) if isinstance(own, Preprocessor) else None
        self._changed = threading.Condition(threading.Lock())  # of what both threads use: down to `_work_ns`
        self._run = self._runs = 0  # the run under way, by its number, 0 while there is none; and how many there were
        self._due_ns = 0  # when to begin
        self._picture: Image | Later | None = None  # that is being prepared, or was
        self._place: Letterbox | None = None  # where it lies in the spare memory; None: nowhere
        self._seen: Look | None = None  # what the camera's watch sees there
        self._busy: tuple[int, Frame] | None = None  # since when, and with what
        self._stuck: int | None = None  # since when, as it was told
        self._is_over = False
        self._work_ns: deque[int] = deque(maxlen=RECENT)
        self._runs_ns: deque[int] = deque(maxlen=RECENT)
        self._began_ns = 0
        self._is_pressed = False  # frames come faster than they are judged, as far as the last one tells
        self.scheduling = Scheduling()
        self.thread = threading.Thread(target=self._work, name="ahead", daemon=True)

    def start(self) -> None:
        """Starts the thread. Once only."""
        self.thread.start()

    def stop(self) -> bool:
        """Ends it, with the picture that it has begun. False where that one did not end in time."""
        with self._changed:
            self._is_over, self._run = True, 0
            self._changed.notify_all()
        self.thread.join(JOIN_S)
        return not self.thread.is_alive()

    def wait_for(self, taken: Taken) -> Look | None:
        """Before anything is done with a picture: until nobody works on it here. What it looks like, where that was measured."""
        self._is_pressed = taken.was_there
        with self._changed:
            self._run = 0  # also where the last one ended by an error
            if self._picture is not taken.frame.picture:
                return None
            self._changed.wait_for(lambda: self._busy is None)
            return self._seen

    def prepare(self, picture: Image | Later) -> Letterbox:
        """As the engine's own `Preprocessing.prepare`, which it calls where the picture is not ready."""
        place = self._place if self._picture is picture else None
        if self._spare and place:
            self._spare.copy(place)
        else:
            place = self._preprocessor.prepare(picture)
        if self._picture is picture:
            self._picture = None
        return place

    def run_begins(self) -> None:
        """The engine is about to run."""
        self._began_ns = now_ns = time.monotonic_ns()
        self._tell_where_stuck(now_ns)
        if not self._is_pressed and not self._at_once:
            return
        with self._changed:
            self._runs += 1
            self._run = self._runs
            spare_ns = min(self._runs_ns, default=0) - max(self._work_ns, default=0) - MARGIN_NS
            self._due_ns = now_ns if self._at_once else now_ns + spare_ns
            self._changed.notify_all()

    def run_ended(self) -> None:
        """No picture is begun from now on, until the engine runs again."""
        self._run = 0
        self._runs_ns.append(time.monotonic_ns() - self._began_ns)

    def _tell_where_stuck(self, now_ns: int) -> None:
        """Once for each picture. The engine's thread tells: the one that hangs cannot."""
        busy = self._busy
        if busy is None or now_ns - busy[0] < STUCK_NS or busy[0] == self._stuck:
            return
        self._stuck, frame = busy
        log.warning("overlap_stuck", frame=frame.seq, source=frame.source, for_s=(now_ns - self._stuck) // 10**9)

    def _work(self) -> None:
        self.scheduling.prepare_ahead()
        run = 0
        while (run := self._wait_until_due(run)) > 0:
            while self._run == run:
                self._look(run)

    def _wait_until_due(self, done: int) -> int:
        """The number of the run that is under way, and is not `done`; 0 at the end."""
        with self._changed:
            while not self._is_over:
                is_new = self._run not in (0, done)
                left_ns = self._due_ns - time.monotonic_ns()
                if is_new and left_ns <= 0:
                    return self._run
                self._changed.wait(left_ns / 1e9 if is_new else None)
        return 0

    def _look(self, run: int) -> None:
        """Prepares the picture that is next, unless that was done; waits for another."""
        found = self._mailroom.next_frame(PATIENCE_S, lambda frame: frame.picture is not self._picture)
        if found is None:
            return
        lane, frame = found
        with self._changed:
            if self._run != run:  # it may have been taken meanwhile
                return
            self._picture, self._place, self._seen = frame.picture, None, None
            start_ns = time.monotonic_ns()
            self._busy = start_ns, frame
        try:
            self._ready(lane, frame)
        finally:
            with self._changed:
                self._busy = None
                self._work_ns.append(time.monotonic_ns() - start_ns)
                self._changed.notify_all()

    def _ready(self, lane: int, frame: Frame) -> None:
        """What is wrong with a picture is found again by whoever judges the frame, and told there."""
        with suppress(Exception):
            if self._watches:
                self._seen = self._watches[lane].measure(frame)
            if self._spare:
                self._place = self._spare.preprocessor.prepare(frame.picture)
            else:
                pixels_of(frame.picture)


class _Spare:
    """Memory like that of the engine's input, and what writes pictures into it."""

    def __init__(self, engine: Engine, own: Preprocessor) -> None:
        self._own = own
        wanted = engine.model.inputs[0]
        bound = next(bound for bound in engine.backend.inputs if bound.spec.name == wanted.name)
        self._planar = bool(is_planar(bound.spec))
        self._input, self._memory = bound.array, np.zeros(bound.spec.shape, bound.spec.dtype)
        self.preprocessor = Preprocessor(BoundTensor(bound.spec, self._memory), engine.decoder.input_format)

    def copy(self, place: Letterbox) -> None:
        """The rows that have something of the picture; the others get their padding where there was something else."""
        self._own.pad_around(place)
        np.copyto(self._rows(self._input, place), self._rows(self._memory, place))

    def _rows(self, array: Array, place: Letterbox) -> Array:
        rows = slice(place.pad_top, place.pad_top + place.inner_h)
        view: Array = array[0, :, rows] if self._planar else array[0, rows]
        return view
