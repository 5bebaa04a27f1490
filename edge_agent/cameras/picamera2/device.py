"""One camera, opened and read."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotDoneError
from contextlib import contextmanager, suppress
from typing import Any

from edge_agent.cameras.picamera2.buffers import Buffers
from edge_agent.cameras.picamera2.library import find, open_number, reason
from edge_agent.cameras.picamera2.modes import Given, choose_mode, controls, given, proportions, refused, whole_modes
from edge_agent.cameras.picamera2.settings import Config
from edge_agent.core.datatypes import Frame
from edge_agent.errors import CameraLostError, FrameTimeoutError

_BUFFERS = 6
"""One is exposed, one or two are worked on by the camera's processor, one is kept by Picamera2 as its newest, one waits
in the mailbox, one is looked at."""

_SLICE_S = 0.05
"""How long a read goes on after another thread has closed the camera, and buffers that come back wait at most."""

_FPS = 30.0  # where neither the configuration nor the profile says


class Picamera2Camera:
    """One camera of the Raspberry Pi. `close` may be called from any thread; a read that is under way then ends first.

    A frame's image is a view of the camera's own buffer, which goes back to the camera when the last view of it is
    let go (with `copies` it is an array of its own); frames that are still held after `close` stay valid. `seq` counts the pictures that libcamera completed:
    one that was replaced by a newer one before it was read leaves a gap. `captured_ns` is `SensorTimestamp`: on a Pi
    the end of the exposure of the first row, when the sensor begins to send.

    Attributes:
        given: what the camera really gives, by the configuration's keys and in its units.
        refused: each setting that differs, as what was asked and what is given; None: it cannot be set.
    """

    def __init__(
        self,
        library: Any,
        config: Config,
        size_of: Callable[[tuple[int, int]], tuple[int, int]] | None,
        *,
        copies: bool = False,
    ) -> None:
        self._copies = copies
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._buffers = Buffers(library)
        self._job: Any = None
        self._first_seq: int | None = None
        self._last_seq = -1
        self._last_ns = 0
        with _as_lost(f"camera {config.camera}"):
            number, self._label = find(library, config.camera)
        with _as_lost(self._label):
            self._camera = open_number(library, number)
        try:
            with _as_lost(self._label):
                self.given = self._start(config, size_of)
        except BaseException:
            with suppress(RuntimeError, OSError):  # it may be what is broken
                self._camera.close()
            raise
        self.refused = refused(config, self.given)

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. It is the newest picture there is, or else the next."""
        with self._reading:
            request = self._next_request(timeout_s)
            try:
                captured_ns = self._captured_ns(request.get_metadata())
                seq = self._seq(request)
                image = self._buffers.lend(request)
                if self._copies:
                    image = image.copy()
                    image.flags.writeable = False
            except BaseException:
                request.release()
                raise
        self._last_seq, self._last_ns = seq, captured_ns
        return Frame(image, seq, captured_ns)

    def close(self) -> None:
        """See `Camera.close`. Frames that are still held stay valid."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self._reading, _as_lost(self._label, "does not close"):
            self._camera.cancel_all_and_flush()  # a request that is still waited for would never come
            if self._job is not None:
                with suppress(CancelledError, NotDoneError, RuntimeError):
                    self._job.get_result(timeout=0).release()
            self._buffers.give_back()
            self._camera.close()

    def _start(self, config: Config, size_of: Callable[[tuple[int, int]], tuple[int, int]] | None) -> dict[str, Given]:
        camera = self._camera
        whole = whole_modes(camera.sensor_modes)
        if not whole:
            raise CameraLostError(f"{self._label} is no camera of the Pi's own connector: use kind 'opencv' for it")
        seen = proportions(whole[-1])
        wanted = seen if size_of is None else size_of(seen)
        if config.width is not None and config.height is not None:
            wanted = config.width, config.height
        size = wanted[0] // 2 * 2, wanted[1] // 2 * 2  # Picamera2 wants them even
        fps = config.fps or _FPS
        mode = choose_mode(whole, size, fps)
        camera.configure(
            camera.create_video_configuration(
                main={"format": "RGB888", "size": size},
                raw=None,  # buffers of raw pixels would only take memory
                sensor={"output_size": mode["size"], "bit_depth": mode["bit_depth"]},
                buffer_count=_BUFFERS,
                queue=True,  # the newest picture is kept: one that came between two reads is not lost, nor is it old
                display=None,
                encode=None,
                controls=controls(config, fps, camera.camera_controls),
            )
        )
        camera.start()
        real_size = camera.camera_configuration()["main"]["size"]
        return given(config, real_size, fps, camera.camera_controls)

    def _next_request(self, timeout_s: float) -> Any:
        """Waits in slices: meanwhile buffers come back, and the camera may be closed.

        A request that did not come in time stays asked for: the next read takes it.
        """
        end_s = time.monotonic() + timeout_s
        while not self._closed.is_set():
            self._buffers.give_back()
            if self._job is None:
                self._job = self._camera.capture_request(wait=False)
            left_s = end_s - time.monotonic()
            try:
                request = self._job.get_result(timeout=max(0.0, min(left_s, _SLICE_S)))
            except NotDoneError as error:
                if left_s > _SLICE_S:
                    continue
                raise FrameTimeoutError(
                    f"{self._label} gave no picture for {timeout_s:g} s: is its cable firm at both ends?"
                ) from error
            except RuntimeError as error:
                self._job = None
                raise CameraLostError(f"{self._label} stopped giving pictures: {reason(error)}") from error
            self._job = None
            return request
        raise CameraLostError(f"{self._label} was closed")

    def _seq(self, request: Any) -> int:
        """The number libcamera gave the picture, from 0 on; the next one where it does not count on."""
        count = int(request.request.sequence)
        if self._first_seq is None:
            self._first_seq = count
        return max(self._last_seq + 1, count - self._first_seq)

    def _captured_ns(self, metadata: Mapping[str, Any]) -> int:
        now_ns = time.monotonic_ns()
        sensor_ns = metadata.get("SensorTimestamp")
        if sensor_ns is None:
            return now_ns
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return max(self._last_ns + 1, to_monotonic(int(sensor_ns), now_ns, boot_ns))


def to_monotonic(sensor_ns: int, now_ns: int, boot_ns: int) -> int:
    """A time of the sensor on CLOCK_MONOTONIC, given what both clocks say now.

    libcamera documents CLOCK_BOOTTIME, the kernel's drivers stamp with CLOCK_MONOTONIC. They differ by the time that
    the system was suspended; what lies in the future of the one is of the other.
    """
    return sensor_ns if sensor_ns <= now_ns else min(sensor_ns - (boot_ns - now_ns), now_ns)


@contextmanager
def _as_lost(label: str, trouble: str = "does not open") -> Iterator[None]:
    """What Picamera2 and libcamera raise, as a camera that is lost, with the reason."""
    try:
        yield
    except CameraLostError:
        raise
    except (RuntimeError, OSError, LookupError) as error:
        raise CameraLostError(
            f"{label} {trouble} ({reason(error)}): another program may be using it (`fuser -v /dev/media*` names it), "
            "or its cable is loose"
        ) from error
