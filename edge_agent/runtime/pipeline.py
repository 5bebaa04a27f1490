"""The road of a frame: taken, looked at, judged, published. One thread, one engine, all cameras."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.parts import Decision, Ledger, Part
from edge_agent.errors import BadFrameError, FatalError
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.desk import Desk
from edge_agent.runtime.engine import Engine, Lap
from edge_agent.runtime.forms import Sight
from edge_agent.runtime.mailbox import Mailroom, Taken
from edge_agent.runtime.rarely import Rarely
from edge_agent.runtime.trigger import Inspector

log = structlog.get_logger()
MAX_FAILURES = 10
FORGETTING = 0.99  # per frame: an unusually long run counts for about a hundred frames


@dataclass(frozen=True, slots=True)
class Stages:
    """One frame's stage times in milliseconds."""

    queue: float
    preprocess: float
    infer: float
    decode: float
    decide: float
    total: float


class Pipeline:
    """Opens the engine in its own thread, because CUDA contexts belong to one, and drives it.

    What it counts may be read by any thread: `failures` are frames that could not be judged, `longest_infer_ms` is the
    longest run of late. `watches`, one per camera, say whether a verdict may stand on a frame; without them any may.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        make_inspectors: Callable[[Engine], list[Inspector]],
        mailroom: Mailroom,
        ledger: Ledger,
        desk: Desk,
        watches: Sequence[CameraWatch] = (),
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._open_engine, self._make_inspectors = open_engine, make_inspectors
        self._watches, self._clock = watches, clock
        self._mailroom, self._ledger, self._desk = mailroom, ledger, desk
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self.engine: Engine | None = None
        self.inspectors: list[Inspector] = []
        self.opened = threading.Event()
        self.failed: BaseException | None = None
        self.failures = self._failures_in_a_row = 0
        self._unreadable, self._failed = Rarely(), Rarely()
        self.last_failure_ns: int | None = None
        self.longest_infer_ms = 0.0
        self.stages: deque[Stages] = deque(maxlen=1000)
        self.last_tick_ns = time.monotonic_ns()
        self.is_idle = False

    def start(self) -> None:
        """Begins to open the engine; `opened` is set when it is ready or `failed`."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """After the frame that is under way."""
        self._stop.set()

    def stop(self, timeout_s: float) -> bool:
        """False where the engine did not return in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            engine = self.open()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error
            return
        finally:
            self.last_tick_ns = time.monotonic_ns()  # loading may take long: that is no stall
            self.opened.set()
        try:
            self._loop(engine)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error
        finally:
            engine.backend.close()

    def open(self) -> Engine:
        """Opens the engine in the thread that is to use it, and close it."""
        engine = self._open_engine()
        self.inspectors = self._make_inspectors(engine)
        self.engine = engine
        return engine

    def _loop(self, engine: Engine) -> None:
        while not self._stop.is_set():
            self.last_tick_ns = time.monotonic_ns()
            taken = self._mailroom.take(timeout_s=0.1)
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
        frame = taken.frame
        is_fit = self._watches[taken.lane].examine(frame) if self._watches else True
        detections, lap = engine.look(frame.image, self._clock)
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
        self.stages.append(
            Stages(
                queue=(lap.started_ns - captured_ns) / 1e6,
                preprocess=lap.preprocess_ms,
                infer=lap.infer_ms,
                decode=lap.decode_ms,
                decide=(now_ns - lap.decoded_ns) / 1e6,
                total=(now_ns - captured_ns) / 1e6,
            )
        )
