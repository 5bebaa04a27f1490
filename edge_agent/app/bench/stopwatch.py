"""What is hung into a running agent to measure it, from outside and only while it is needed."""

import ctypes
import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from edge_agent.app.agent import Connector
from edge_agent.config import AgentConfig
from edge_agent.core.datatypes import Array, Detections, InputFormat
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Backend, Decoder, Heard, Message, Publisher, Receipt

LARGE_BYTES = 64 << 10
"""What a frame takes at once should be below that: greater pieces cost a call of the kernel, and a fault for each page."""

_NO_RESERVE = {-3: LARGE_BYTES, -1: LARGE_BYTES, -2: 0}
"""mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD."""

OnVerdict = Callable[[int], None]
"""Called with the time (monotonic, ns) when a verdict's bytes had been written, by the thread that wrote them."""


class TimedConnector(Connector):
    """Opens connections as ever, and tells when verdicts have left on the line's."""

    def __init__(self, config: AgentConfig, on_verdict: OnVerdict) -> None:
        super().__init__(config)
        self.on_verdict = on_verdict

    def open(self, role: str, will: Message | None = None, subscriptions: Sequence[str] = ()) -> Publisher:
        """A fresh connection."""
        publisher = super().open(role, will, subscriptions)
        return TimedPublisher(publisher, self._tell) if role == "line" else publisher

    def _tell(self, now_ns: int) -> None:
        self.on_verdict(now_ns)


class TimedPublisher:
    """A publisher that tells when a verdict has left."""

    def __init__(self, publisher: Publisher, on_verdict: OnVerdict) -> None:
        self._publisher, self._on_verdict = publisher, on_verdict
        self.refused = publisher.refused

    def send(self, message: Message) -> None:
        """See `Publisher.send`."""
        self._publisher.send(message)
        now_ns = time.monotonic_ns()
        if "/verdict/" in message.topic:
            self._on_verdict(now_ns)

    def poll(self, timeout_s: float) -> Sequence[Receipt | Heard]:
        """See `Publisher.poll`."""
        return self._publisher.poll(timeout_s)

    def close(self, *, abort: bool = False) -> None:
        """See `Publisher.close`."""
        self._publisher.close(abort=abort)


class _Beside:
    """A decoder that does something else too."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @property
    def input_format(self) -> InputFormat:
        """See `Decoder`."""
        return self.decoder.input_format

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Decoder`."""
        return self.decoder.labels

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`."""
        self.decoder.check(outputs)


class BareRuns(_Beside):
    """Has the engine run on the same input again and again, and nothing else, once: in the thread that it belongs to.

    The frame that brings it there counts for nothing.
    """

    def __init__(self, decoder: Decoder, backend: Backend, seconds: float, least: int) -> None:
        super().__init__(decoder)
        self._backend, self._seconds, self._least = backend, seconds, least
        self.ended_ns: list[int] = []
        """When the block began, and when each run ended; monotonic."""

        self.cpu_ns = 0
        self.done = threading.Event()

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """The runs first: what they give is what the frame's own gave."""
        if not self.done.is_set():
            began_ns = time.process_time_ns()
            self.ended_ns.append(time.monotonic_ns())
            until_ns = self.ended_ns[0] + int(self._seconds * 1e9)
            while self.ended_ns[-1] < until_ns or len(self.ended_ns) <= self._least:
                outputs = self._backend.infer()
                self.ended_ns.append(time.monotonic_ns())
            self.cpu_ns = time.process_time_ns() - began_ns
            self.done.set()
        return self.decoder(outputs, letterbox)


class Meter(Protocol):
    """Tells how much memory was taken."""

    def begin(self) -> None:
        """Before a frame."""
        ...

    def __call__(self) -> int:
        """Bytes, since the last time."""
        ...


class RoadCuts(_Beside):
    """Cuts the road of each frame into stretches, and asks at each cut how much memory the stretch took."""

    def __init__(self, decoder: Decoder, meter: Meter) -> None:
        super().__init__(decoder)
        self._meter = meter
        self.taken: dict[str, int] = {}

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """Ends the way in, and then itself."""
        self.cut("way_in")
        found = self.decoder(outputs, letterbox)
        self.cut("decode")
        return found

    def begin(self) -> None:
        """Before a frame."""
        self._meter.begin()
        self.taken = {}

    def cut(self, name: str) -> None:
        """The stretch of that name is over."""
        self.taken[name] = self._meter()


class PeakMeter:
    """The most bytes that Python and numpy held at once since it was last read, beyond what they held then: by tracemalloc, of all threads."""

    def __init__(self) -> None:
        self._base = 0

    def begin(self) -> None:
        """Forgets what was before."""
        self()

    def __call__(self) -> int:
        """Bytes."""
        now, peak = tracemalloc.get_traced_memory()
        taken, self._base = max(0, peak - self._base), now
        tracemalloc.reset_peak()
        return taken


class PageMeter:
    """Bytes of fresh pages that each thread has touched since it last read: what C libraries take, too.

    From now on the C library gives freed memory back and keeps no reserve, so that no piece can hide in what was freed
    before; that makes all the process slower. Only glibc does so.
    """

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        with suppress(AttributeError):  # another C library
            for option, value in _NO_RESERVE.items():
                ctypes.CDLL(None).mallopt(option, value)

    def __call__(self) -> int:
        """Bytes."""
        faults, thread = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt, threading.get_ident()
        before, self._before[thread] = self._before.get(thread, faults), faults
        return (faults - before) * resource.getpagesize()

    def begin(self) -> None:
        """Gives back what is free between what is not."""
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
