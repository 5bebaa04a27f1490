"""The road of a frame: taken, looked at, judged, published. One thread, one engine, all cameras."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import structlog

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.parts import Decision, Ledger, Part
from edge_agent.errors import BadFrameError, FatalError
from edge_agent.runtime.ahead import Ahead
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.engine import Engine, Lap
from edge_agent.runtime.forms import Sight
from edge_agent.runtime.mailbox import Mailroom, Taken
from edge_agent.runtime.rarely import Rarely
from edge_agent.runtime.scheduling import Scheduling
from edge_agent.runtime.stages import Durations, Stages
from edge_agent.runtime.succession import ROUND_S, Introduce, MakeDecoder, OpenEngine, Succession, Turn
from edge_agent.runtime.trigger import Inspector

log = structlog.get_logger()
MAX_FAILURES = 10
FORGETTING = 0.99  # per frame: an unusually long run counts for about a hundred frames
STAGES_MOST = 1000  # frames whose times are kept
MakeAhead = Callable[[Engine], Ahead | None]


class Pipeline:
    """Opens the engine in its own thread, because CUDA contexts belong to one, and drives it.

    What it counts may be read by any thread: `failures` are frames that could not be judged, `longest_infer_ms` is the
    longest run of late, `stages` are times of the engine that serves, `durations` of all since the start. `watches`, one
    per camera, say whether a verdict may stand on a frame; without them any may. `make_ahead`, to be set before
    the start, gives what prepares pictures ahead for an engine, or None where each is prepared in its turn; so is
    `scheduling`, which says where its threads run.
    """

    def __init__(
        self,
        open_engine: OpenEngine,
        make_inspectors: Callable[[Engine], list[Inspector]],
        mailroom: Mailroom,
        ledger: Ledger,
        desk: Desk,
        watches: Sequence[CameraWatch] = (),
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._open_engine, self._make_inspectors = open_engine, make_inspectors
        self.make_ahead: MakeAhead | None = None
        self.scheduling = Scheduling()
        self._ahead: Ahead | None = None
        self._left: list[threading.Thread] = []  # that hung in a picture when their engine went
        self._watches, self._clock = watches, clock
        self._mailroom, self._ledger, self._desk = mailroom, ledger, desk
        self._first = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._engines = Succession(self, self._first)
        self._stop = threading.Event()
        self.inspectors: list[Inspector] = []
        self.opened = threading.Event()
        self.failed: BaseException | None = None
        self.failures = self._failures_in_a_row = 0
        self._unreadable, self._failed = Rarely(), Rarely()
        self.last_failure_ns: int | None = None
        self.longest_infer_ms = 0.0
        self.stages: deque[Stages] = deque(maxlen=STAGES_MOST)
        self.durations = Durations()
        self.last_tick_ns = time.monotonic_ns()
        self.is_idle = False

    def start(self) -> None:
        """Begins to open the engine; `opened` is set when it is ready or `failed`."""
        self._first.start()

    def ask_to_stop(self) -> None:
        """After the frame that is under way."""
        self._stop.set()

    def stop(self, timeout_s: float) -> bool:
        """False where an engine, or what prepares pictures for it, did not return in time."""
        self._stop.set()
        return self._engines.join(timeout_s) and not any(thread.is_alive() for thread in self._left)

    @property
    def engine(self) -> Engine | None:
        """The one that serves."""
        return self._engines.engine

    @property
    def is_ending(self) -> bool:
        """Whether no engine is to step in any more."""
        return self._stop.is_set() or self.failed is not None

    def open(self) -> Engine:
        """Opens the engine in the thread that is to use it, and close it."""
        engine = self._open_engine()
        self.inspectors = self._make_inspectors(engine)
        self._engines.engine = engine
        return engine

    def replace(self, open_engine: OpenEngine, introduce: Introduce) -> "Future[Engine]":
        """Opens another engine beside the one that serves, and has it take over between two frames.

        Inspectors and the parts under way stay, so its labels must be the same. `introduce` is told of it just before
        its first frame. The future's result is the engine, once it serves; its exception is why the old one goes on, or
        `CancelledError` where the pipeline ends first.

        Raises:
            RuntimeError: no engine serves yet, or another one is being opened.
        """

        def open_in_place() -> Engine:
            self.scheduling.before_engine()
            return open_engine()

        return self._engines.replace(open_in_place, introduce)

    def tune(self, make_decoder: MakeDecoder) -> None:
        """Gives the engine that serves a decoder with other thresholds, and each that takes its place one as well."""
        self._engines.tune(make_decoder)

    def _run(self) -> None:
        try:
            self.scheduling.before_engine()
            engine = self.open()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error
            return
        finally:
            self.last_tick_ns = time.monotonic_ns()  # loading may take long: that is no stall
            self.opened.set()
        self.serve(engine, self._engines.turn)

    def step_in(self, engine: Engine, introduce: Introduce) -> None:
        """See `Place.step_in`."""
        self.stages = deque(maxlen=STAGES_MOST)
        try:
            introduce(engine)
        except BaseException as error:
            self.failed = error  # the other one has left: nobody serves
            raise

    def serve(self, engine: Engine, turn: Turn) -> None:
        """Until its turn is over; then closes the engine, while the next one works already."""
        try:
            self.scheduling.serve(waits=engine.is_on_device)
            with self._prepares_ahead(engine):
                self._loop(engine, turn)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error
        finally:
            turn.left.set()
            engine.backend.close()

    @contextmanager
    def _prepares_ahead(self, engine: Engine) -> Iterator[None]:
        """While the engine runs on one frame, the next is prepared, where that is wanted."""
        ahead = self.make_ahead(engine) if self.make_ahead else None
        if ahead is None:
            yield
            return
        self._ahead, ahead.scheduling = ahead, self.scheduling
        ahead.start()
        try:
            yield
        finally:
            self._ahead = None
            if not ahead.stop():
                self._left.append(ahead.thread)

    def _loop(self, engine: Engine, turn: Turn) -> None:
        while not self._stop.is_set() and not turn.over.is_set():
            self.last_tick_ns = time.monotonic_ns()
            taken = self._mailroom.take(timeout_s=ROUND_S)
            self.is_idle = taken is None
            if taken is None:
                continue
            self.last_tick_ns = time.monotonic_ns()
            self.judge(engine, taken)

    def judge(self, engine: Engine, taken: Taken) -> None:
        """`step`, or a verdict that says why not.

        Raises:
            FatalError: too many frames in a row could not be judged.
        """
        self._failures_in_a_row = 0 if self._try_step(engine, taken) else self._failures_in_a_row + 1
        if self._failures_in_a_row >= MAX_FAILURES:
            raise FatalError(f"{MAX_FAILURES} frames in a row could not be judged; the log has each error")

    def _try_step(self, engine: Engine, taken: Taken) -> bool:
        inspector = self.inspectors[taken.lane]
        part = inspector.begin(taken.frame, taken.token)
        if part is None and taken.token is not None:  # nobody waits for it any more
            return True
        try:
            self.step(engine, inspector, part, taken)
        except BadFrameError as error:
            self._count_failure()
            if (unlogged := self._unreadable.now()) is not None:
                log.warning("frame_unreadable", frame=taken.frame.seq, reason=str(error), unlogged=unlogged)
            if part is not None:
                self._close(part, Decision.unknown("bad_frame"), Sight(taken.frame))
        except Exception:
            self._count_failure()
            if (unlogged := self._failed.now()) is not None:
                log.exception("frame_failed", frame=taken.frame.seq, source=taken.frame.source, unlogged=unlogged)
            if part is not None:
                self._close(part, Decision.unknown("internal_error"), Sight(taken.frame))
            return False
        return True

    def _count_failure(self) -> None:
        self.failures += 1
        self.last_failure_ns = self._clock.mono_ns()

    def step(self, engine: Engine, inspector: Inspector, part: Part | None, taken: Taken) -> None:
        """One frame, from the mailbox to the socket."""
        frame, ahead = taken.frame, self._ahead
        seen = ahead.wait_for(taken) if ahead else None
        is_fit = self._watches[taken.lane].examine(frame, seen) if self._watches else True
        detections, lap = engine.look(frame.picture, self._clock, ahead)
        for judged in inspector.finish(frame, part, detections, is_fit=is_fit):
            sight = Sight(frame, detections, lap, judged.frames)
            self._close(judged.part, judged.decision, sight)
        self._measure(frame.captured_ns, lap)

    def _close(self, part: Part, decision: Decision, sight: Sight) -> None:
        """The pipeline's verdict, where it is first and in time."""
        overdue = self._clock.mono_ns() >= part.deadline_ns
        if self._ledger.close(part):
            if not overdue:
                self._desk.judged(part, decision, sight)
                return
            self._desk.overdue(part)
        self._desk.too_late(part, decision, sight)

    def _measure(self, captured_ns: int, lap: Lap) -> None:
        now_ns = self._clock.mono_ns()
        self.longest_infer_ms = max(lap.infer_ms, FORGETTING * self.longest_infer_ms)
        stages = Stages(
            queue=(lap.started_ns - captured_ns) / 1e6,
            preprocess=lap.preprocess_ms,
            infer=lap.infer_ms,
            decode=lap.decode_ms,
            decide=(now_ns - lap.decoded_ns) / 1e6,
            total=(now_ns - captured_ns) / 1e6,
        )
        self.stages.append(stages)
        self.durations.add(stages)
