"""One trigger input's thread: opens it, hands on its edges, and opens it again when it was lost."""

import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import structlog

from edge_agent.core.ports import Edge, Sensor
from edge_agent.errors import FatalError, TransientError
from edge_agent.runtime.allowance import Allowance
from edge_agent.runtime.capture import TICK_S
from edge_agent.runtime.rarely import Rarely

Condition = Literal["opening", "open", "lost", "failed"]

MOST_PER_S = 1000
"""No line has so many parts: what comes faster is an input that chatters."""

MOST_AT_ONCE = 100
"""So many edges may follow each other faster than that."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 2.0  # to look for a chip costs next to nothing, and while it is away parts go by
_FLOOD_PAUSE_S = 0.1  # what comes in it is left to the kernel's buffer, which keeps the newest and counts all

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SensorLost:
    """The input went, or could not be opened at the start. Parts that come now are not seen, nor counted."""

    camera: str
    reason: str


@dataclass(frozen=True, slots=True)
class SensorBack:
    """Edges are seen again, `outage_s` after the loss was noticed."""

    camera: str
    outage_s: float


class Sensing:
    """Listens to the trigger input of one camera in a thread of its own.

    Each edge ends in one call of `called` with its time, or is counted in one of `lost`: how many, and the time of the
    edge that showed it. Both are called in this thread. Edges that the kernel had to forget are lost, and those of an
    input that chatters: above `MOST_PER_S`. While an input is not open there are none.

    An input that is lost or cannot be opened is opened again after a pause of 0.5 s, doubled up to 2 s, for ever. A
    `FatalError`, or an error of what is called, is left in `failed` for the main thread.

    What follows may be read by any thread; only this one writes it. Times are monotonic.

    Attributes:
        edges: edges given to `called`.
        edges_lost: edges counted in `lost`.
        losses: outages, each of which is one `SensorLost` and, once over, one `SensorBack` in `notices`.
        last_tick_ns: the thread's last sign of life.
        failed: what ended the thread, to be raised by the owner.
        notices: for the owner to take from.
    """

    def __init__(
        self,
        camera_id: str,
        open_: Callable[[], Sensor],
        called: Callable[[int], None],
        lost: Callable[[int, int], None],
    ) -> None:
        self.edges = self.edges_lost = self.losses = 0
        self.last_tick_ns = time.monotonic_ns()
        self.failed: Exception | None = None
        self.notices: queue.SimpleQueue[SensorLost | SensorBack] = queue.SimpleQueue()
        self._camera_id = camera_id
        self._open = open_
        self._called = called
        self._tell_lost = lost
        self._state: tuple[Condition, str] = ("opening", "")
        self._lost_s: float | None = None
        self._allowance = Allowance(MOST_PER_S, MOST_AT_ONCE)
        self._rarely = Rarely()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sensing-{camera_id}", daemon=True)

    @property
    def condition(self) -> Condition:
        """`open` from the first read that worked."""
        return self._state[0]

    @property
    def reason(self) -> str:
        """Why it is lost or failed, in words; empty while all is well."""
        return self._state[1]

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
            with closing(self._reads()) as reads:
                for edges in reads:
                    self._hand_on(edges)
        except Exception as error:  # noqa: BLE001 - the main thread raises it again
            self.failed = error
            self._state = ("failed", str(error) or type(error).__name__)

    def _reads(self) -> Generator[Sequence[Edge], None, None]:
        """The edges of each read, until it is stopped."""
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                yield from self._read_until_stopped()
            except FatalError:
                raise
            except TransientError as error:
                reason = str(error)
            except Exception as error:
                log.exception("sensor_failed", camera=self._camera_id)
                reason = f"{type(error).__name__}: {error}"
            else:
                return
            if self.condition == "open":
                pause_s = _FIRST_PAUSE_S
            self._lost(reason)
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _read_until_stopped(self) -> Generator[Sequence[Edge], None, None]:
        self._tick()
        with closing(self._open()) as sensor:
            edges = sensor.read(0)  # one that opens and then cannot be read stays lost
            self._opened()
            yield edges
            while not self._stop.is_set():
                self._tick()
                yield sensor.read(TICK_S)

    def _hand_on(self, edges: Sequence[Edge]) -> None:
        refused = 0
        for edge in edges:
            if edge.lost:
                self._count_lost(edge.lost, edge.at_ns)
            if self._allowance.take(edge.at_ns):  # its own time: what only waited for this thread does not chatter
                self.edges += 1
                self._called(edge.at_ns)
            else:
                refused += 1
        if refused:
            self._count_lost(refused, edges[-1].at_ns)
            self._stop.wait(_FLOOD_PAUSE_S)

    def _count_lost(self, count: int, at_ns: int) -> None:
        self.edges_lost += count
        self._tell_lost(count, at_ns)
        if self._rarely.now() is not None:
            log.warning("edges_lost", camera=self._camera_id, count=count, since_start=self.edges_lost)

    def _opened(self) -> None:
        self._state = ("open", "")
        if self._lost_s is None:
            log.info("sensor_open", camera=self._camera_id)
            return
        outage_s = time.monotonic() - self._lost_s
        self._lost_s = None
        self.notices.put(SensorBack(self._camera_id, outage_s))
        log.info("sensor_back", camera=self._camera_id, outage_s=round(outage_s, 1))

    def _lost(self, reason: str) -> None:
        self._state = ("lost", reason)
        if self._lost_s is not None:
            return
        self._lost_s = time.monotonic()
        self.losses += 1
        self.notices.put(SensorLost(self._camera_id, reason))
        log.warning("sensor_lost", camera=self._camera_id, reason=reason)

    def _pause(self, pause_s: float) -> None:
        """Waits, three quarters to five quarters of it."""
        end_s = time.monotonic() + pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - it is no secret
        while (left_s := end_s - time.monotonic()) > 0 and not self._stop.wait(min(left_s, TICK_S)):
            self._tick()

    def _tick(self) -> None:
        self.last_tick_ns = time.monotonic_ns()
