"""One camera's thread: opens it, reads it into the mailbox, and opens it again when it was lost."""

import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Frame
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, EndOfStreamError, FatalError, FrameTimeoutError, TransientError
from edge_agent.runtime.mailbox import Mailbox

Condition = Literal["opening", "open", "lost", "finished", "failed"]

TICK_S = 0.5
"""The thread shows a sign of life at least so often, and stops within it, unless the driver blocks longer."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_GRACE_S = 1.0  # a driver that is back so much later than it should be does not hang
_SMOOTHING = 0.1  # of the frame interval: ten frames or so

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CameraLost:
    """The camera went, or could not be opened at the start."""

    camera: str
    reason: str


@dataclass(frozen=True, slots=True)
class CameraBack:
    """Frames come again, `outage_s` after the loss was noticed."""

    camera: str
    outage_s: float


class Capture:
    """Reads one camera in a thread of its own.

    A camera that gave nothing for `timeout_s` is lost, and so is one that says so: it is closed and opened again after
    a pause of 0.5 s, doubled up to 10 s as long as no frame comes. The end of a finite source finishes the capture; a
    `FatalError`, or an error nobody expected, is left in `failed` for the main thread.

    With a `seed` the pauses are the same each time.

    What follows may be read by any thread; only the capture thread writes it. Times are monotonic.

    Attributes:
        frames: frames read.
        timeouts: reads that got no frame in time.
        skipped: pictures that the driver had and could not read.
        losses: outages, each of which is one `CameraLost` and, once over, one `CameraBack` in `notices`.
        reopens: openings after the first that worked.
        last_frame_ns: `captured_ns` of the last frame.
        last_tick_ns: the thread's last sign of life; while a driver call hangs it grows old.
        size: (width, height) of the last frame in pixels.
        given: what the driver says that the camera really gives; empty where it says nothing.
        failed: what ended the thread, to be raised by the owner.
        notices: for the owner to take from.
    """

    def __init__(
        self,
        camera_id: str,
        open_: Callable[[], Camera],
        mailbox: Mailbox,
        *,
        timeout_s: float = 2.0,
        clock: Clock = SYSTEM,
        seed: str | None = None,
    ) -> None:
        self.frames = self.timeouts = self.losses = self.reopens = self.skipped = 0
        self.last_frame_ns: int | None = None
        self.last_tick_ns = time.monotonic_ns()
        self.size: tuple[int, int] | None = None
        self.given: Mapping[str, Any] = {}
        self.failed: Exception | None = None
        self.notices: queue.SimpleQueue[CameraLost | CameraBack] = queue.SimpleQueue()
        self._camera_id = camera_id
        self._open = open_
        self._mailbox = mailbox
        self._timeout_s = timeout_s
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - it is no secret
        self._state: tuple[Condition, str] = ("opening", "")
        self._lost_ns: int | None = None
        self._openings = 0
        self._named = 0
        self._last_seq = -1
        self._interval_ns: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture-{camera_id}", daemon=True)

    @property
    def condition(self) -> Condition:
        """`open` and `lost` change with a frame's arrival: a camera that opens and gives nothing stays lost.

        One whose driver does not come back from a call is lost as well: the thread that would say so hangs in it.
        """
        return "lost" if self._hangs() else self._state[0]

    @property
    def reason(self) -> str:
        """Why it is lost, finished or failed, in words; empty while all is well."""
        return "its driver hangs" if self._hangs() else self._state[1]

    @property
    def fps(self) -> float:
        """Frames per second as they come, smoothed; NaN while unknown."""
        interval_ns = self._interval_ns
        return 1e9 / interval_ns if interval_ns else float("nan")

    def start(self) -> None:
        """Starts the thread. Once only."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Asks the thread to end, and returns at once."""
        self._stop.set()

    def stop(self, timeout_s: float) -> bool:
        """Asks the thread to end and waits for it; False if it is stuck in its driver."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with closing(self.steps()) as steps:
                for frame in steps:
                    if frame is not None:
                        self._hand_over(frame)
            self._state = ("finished", "stopped")
        except EndOfStreamError as error:
            self._state = ("finished", str(error))
            log.info("camera_finished", camera=self._camera_id, reason=str(error), frames=self.frames)
        except Exception as error:  # noqa: BLE001 - the main thread raises it again
            self.failed = error
            self._state = ("failed", str(error) or type(error).__name__)

    def steps(self) -> Generator[Frame | None, None, None]:
        """Each frame as it comes, and None where the camera is lost, until it is stopped. What the thread does.

        Raises:
            EndOfStreamError: a finite source has ended.
            FatalError: no reopening can mend it.
        """
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            frames_before = self.frames
            try:
                yield from self._read_until_stopped()
            except TransientError as error:
                self._lost(str(error))
            except (FatalError, EndOfStreamError):
                raise
            except Exception as error:
                log.exception("camera_failed", camera=self._camera_id)
                self._lost(f"{type(error).__name__}: {error}")
            if self.frames > frames_before:
                pause_s = _FIRST_PAUSE_S
            yield None
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _read_until_stopped(self) -> Generator[Frame, None, None]:
        self._tick()
        with closing(self._open()) as camera:
            self._openings += 1
            self.reopens = self._openings - 1
            skipped_before = self.skipped
            try:
                yield from self._take_frames(camera, skipped_before)
            finally:  # the last pictures of a source may be among those that cannot be read
                self._count_skipped(camera, skipped_before)

    def _take_frames(self, camera: Camera, skipped_before: int) -> Generator[Frame, None, None]:
        quiet_since_ns = self._clock.mono_ns()
        seq_offset: int | None = None
        while not self._stop.is_set():
            self._tick()
            try:
                frame = camera.read(min(TICK_S, self._timeout_s))
            except FrameTimeoutError as error:
                self.timeouts += 1
                if self._clock.mono_ns() - quiet_since_ns >= self._timeout_s * 1e9:
                    raise CameraLostError(f"no frame for {self._timeout_s:g} s: {error}") from error
                continue
            if seq_offset is None:
                seq_offset = max(0, self._last_seq + 1 - frame.seq)
                self._read_back(camera)
            elif getattr(camera, "given", self.given) is not self.given:
                self.given = getattr(camera, "given", {})
                log.warning("camera_changed", camera=self._camera_id, given=self.given)
            frame = replace(frame, seq=frame.seq + seq_offset) if seq_offset else frame
            self._accept(frame)
            yield frame
            self._count_skipped(camera, skipped_before)
            quiet_since_ns = self._clock.mono_ns()

    def _read_back(self, camera: Camera) -> None:
        """Not every camera says what it gives."""
        self.given = getattr(camera, "given", {})
        refused: Mapping[str, tuple[Any, Any]] = getattr(camera, "refused", {})
        for key, (asked, given) in refused.items():
            log.warning("camera_setting_refused", camera=self._camera_id, key=key, asked=asked, given=given)

    def _count_skipped(self, camera: Camera, skipped_before: int) -> None:
        """Each time round a loop the same ones come again: once is enough to say."""
        self.skipped = skipped_before + getattr(camera, "skipped", 0)
        names: Sequence[str] = getattr(camera, "unreadable", ())
        if len(names) > self._named:
            self._named = len(names)
            log.warning("pictures_unreadable", camera=self._camera_id, count=self.skipped, names=list(names))

    def _accept(self, frame: Frame) -> None:
        self._last_seq = frame.seq
        self._measure(frame)
        self.frames += 1
        if self._state[0] != "open":
            self._back()

    def _hand_over(self, frame: Frame) -> None:
        while not self._mailbox.put(frame, TICK_S) and not self._stop.is_set():
            self._tick()

    def _measure(self, frame: Frame) -> None:
        if self.last_frame_ns is not None and self._state[0] == "open":
            interval_ns = frame.captured_ns - self.last_frame_ns
            before_ns = interval_ns if self._interval_ns is None else self._interval_ns
            self._interval_ns = before_ns + _SMOOTHING * (interval_ns - before_ns)
        self.last_frame_ns = frame.captured_ns
        self.size = frame.size

    def _back(self) -> None:
        self._state = ("open", "")
        if self._lost_ns is None:
            log.info("camera_open", camera=self._camera_id, size=self.size, given=self.given)
            return
        outage_s = (self._clock.mono_ns() - self._lost_ns) / 1e9
        self._lost_ns = None
        self.notices.put(CameraBack(self._camera_id, outage_s))
        log.info("camera_back", camera=self._camera_id, outage_s=round(outage_s, 1), given=self.given)

    def _lost(self, reason: str) -> None:
        self._interval_ns = None
        self._state = ("lost", reason)
        if self._lost_ns is not None:
            return
        self._lost_ns = self._clock.mono_ns()
        self.losses += 1
        self.notices.put(CameraLost(self._camera_id, reason))
        log.warning("camera_lost", camera=self._camera_id, reason=reason)

    def _pause(self, pause_s: float) -> None:
        """Waits, three quarters to five quarters of it: cameras lost together do not come back all at once."""
        end_ns = self._clock.mono_ns() + int(pause_s * self._random.uniform(0.75, 1.25) * 1e9)
        while (now_ns := self._clock.mono_ns()) < end_ns:
            if self._clock.wait_until(min(end_ns, now_ns + int(TICK_S * 1e9)), self._stop):
                return
            self._tick()

    def _hangs(self) -> bool:
        limit_s = max(self._timeout_s, TICK_S) + _GRACE_S
        return self._state[0] == "open" and time.monotonic_ns() - self.last_tick_ns > limit_s * 1e9

    def _tick(self) -> None:
        self.last_tick_ns = time.monotonic_ns()
