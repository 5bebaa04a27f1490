"""A simulated line in place of a camera: bottles on a conveyor, drawn. The same seed gives the same line.

`settings` is the table, `belt` what travels where, `bottle` and `backdrop` how it looks, `line` the whole picture,
`witness` the truth for who scores. Here is the camera: pictures at their time.
"""

import math
import threading
from collections.abc import Callable

from edge_agent.cameras.simulator.settings import LABELS, Config, Fault, fault_at
from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Frame
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, FrameTimeoutError
from edge_agent.opencv_setup import prepare

_UNPLUGGED = "the simulated camera is unplugged"

__all__ = ["LABELS", "Config", "Fault", "create", "opener", "verify"]


def verify(config: Config) -> None:
    """Raises `ConfigError` where the truth could not be written. Opens nothing."""
    if config.truth is not None and not config.truth.parent.is_dir():
        raise ConfigError(f"truth: there is no folder {config.truth.parent}")
    if config.truth is not None and config.truth.is_dir():
        raise ConfigError(f"truth: {config.truth} is a folder; name a file in it")


def create(config: Config, *, clock: Clock = SYSTEM) -> Camera:
    """A line that begins to run now.

    Raises:
        CameraLostError: a fault `disconnected` goes on.
        UnavailableError: OpenCV is not installed.
    """
    return opener(config, clock=clock)()


def opener(config: Config, *, clock: Clock = SYSTEM) -> Callable[[], Camera]:
    """Opens the camera, again and again: the belt runs on while the camera is away."""
    running: list[_Running] = []

    def open_() -> Camera:
        if not running:
            running.append(_Running(config, clock))
        return SimulatedCamera(running[0])

    return open_


class _Running:
    """A line since its start: it outlives the camera that looks at it."""

    def __init__(self, config: Config, clock: Clock) -> None:
        prepare()
        from edge_agent.cameras.simulator.line import Line
        from edge_agent.cameras.simulator.witness import Witness

        self.config, self.clock = config, clock
        self.line = Line(config)
        self.start_ns = clock.mono_ns()
        self.witness = Witness(config, config.truth, self.start_ns) if config.truth else None
        self.next_seq = 0

    def elapsed_s(self) -> float:
        """Since the start."""
        return (self.clock.mono_ns() - self.start_ns) / 1e9

    def seq_to_read(self) -> int:
        """The frame that comes next. Those that nobody fetched while they were new are lost, as with a real camera."""
        run = self.elapsed_s() * self.config.fps
        return math.ceil(run) - 1 if run >= self.next_seq + 2 else self.next_seq

    def is_unplugged(self, t_s: float) -> bool:
        """Whether the fault `disconnected` goes on."""
        return fault_at(self.config.faults, "disconnected", t_s) is not None


class SimulatedCamera:
    """Looks at a running line. `close` may be called from any thread and ends a read that waits.

    `captured_ns` is when the frame was due; the first is one period after the start.
    """

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._closed = threading.Event()
        if running.is_unplugged(running.elapsed_s()):
            raise CameraLostError(_UNPLUGGED)

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. A frozen camera gives the same image again and again.

        Raises:
            EndOfStreamError: the last bottle has left.
            CameraLostError: a fault `disconnected` goes on, the truth cannot be written, or it was closed.
            FrameTimeoutError: no frame is due within the timeout.
        """
        running = self._running
        seq = running.seq_to_read()
        t_s = (seq + 1) / running.config.fps
        image = None
        if not running.is_unplugged(t_s) and not running.line.belt.is_over(t_s):
            image, _ = running.line.look(t_s)
        due_ns = running.start_ns + round(t_s * 1e9)
        self._wait_until(due_ns, timeout_s)
        running.next_seq = seq + 1
        if running.witness:
            running.witness.tell(t_s)
        if image is not None:
            return Frame(image, seq, due_ns)
        if running.is_unplugged(t_s):
            raise CameraLostError(_UNPLUGGED)
        raise EndOfStreamError(f"all {running.config.parts} bottles have passed")

    def _wait_until(self, due_ns: int, timeout_s: float) -> None:
        clock = self._running.clock
        give_up_ns = clock.mono_ns() + int(timeout_s * 1e9)
        if clock.wait_until(min(due_ns, give_up_ns), self._closed):
            raise CameraLostError("the simulated camera was closed")
        if due_ns > give_up_ns:
            raise FrameTimeoutError(f"the next picture was not due within {timeout_s:g} s")

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
