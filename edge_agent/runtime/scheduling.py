"""Which thread runs before which, and where: so that nothing of the agent's own holds up a verdict.

Linux schedules threads, not processes: niceness, cores and real-time priority are each thread's own, and are inherited by
those that it starts. What the kernel refuses is told once and changes nothing else.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

log = structlog.get_logger()
SWITCH_INTERVAL_S = 0.0005
"""Who waits for the interpreter gets it after so long. With Python's 5 ms and three busy threads the 99th percentile of what
a frame takes beside the engine was twice as long; without them there was no difference."""
BACKGROUND_NICE = 10  # more than the others have
BACKGROUND = ("evidence",)
"""Threads that no verdict waits for, and that work outside the interpreter.

One that holds the interpreter must not stand back: where other programs keep it from running, all others wait with it."""
TIMER = "timer"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the profile asks for; without anything each thread runs where and when the kernel likes.

    Attributes:
        engine_cores: where the pipeline and the engine's own threads run.
        other_cores: where all others do.
        realtime: SCHED_FIFO priority of the threads that a verdict waits for; None: as all others.
    """

    engine_cores: Sequence[int] = ()
    other_cores: Sequence[int] = ()
    realtime: int | None = None


class Scheduling:
    """Of one agent. Each method says which thread calls it. What the kernel refuses is in `refused`, in words."""

    def __init__(self, wanted: Wanted | None = None) -> None:
        self._wanted = wanted or Wanted()
        is_pinned = self._wanted.engine_cores or self._wanted.other_cores
        self._any = sorted(os.sched_getaffinity(0)) if is_pinned else []
        self.refused: set[str] = set()

    def begin(self) -> None:
        """The main thread, before it starts others."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._pin(self._wanted.other_cores)

    def prepare_ahead(self) -> None:
        """The thread that prepares pictures ahead, which the pipeline's starts."""
        self._pin(self._wanted.other_cores)
        self._hurry(0)

    def before_engine(self) -> None:
        """The pipeline's thread, before it opens an engine, which has threads of its own."""
        self._pin(self._wanted.engine_cores)

    def serve(self, *, waits: bool) -> None:
        """The pipeline's thread, once its engine is open. `waits`: it sleeps while the engine runs.

        One that computes itself stays as it is: Linux takes 50 ms of each second from a real-time thread that never sleeps.
        """
        if waits:
            self._hurry(0)

    def settle(self) -> None:
        """The main thread, once all others run."""
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + BACKGROUND_NICE
        for thread in _named(BACKGROUND):
            self._try("niceness", partial(os.setpriority, os.PRIO_PROCESS, thread, niceness))
        for thread in _named((TIMER,)):
            self._hurry(thread)

    def _pin(self, cores: Sequence[int]) -> None:
        """None: any, also where the thread that started this one is kept to some."""
        if cores := cores or self._any:
            self._try(f"cores {list(cores)}", partial(os.sched_setaffinity, 0, cores))

    def _hurry(self, thread_id: int) -> None:
        priority = self._wanted.realtime
        if priority is not None:
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            ask = partial(os.sched_setscheduler, thread_id, policy, os.sched_param(priority))
            self._try(f"real-time priority {priority}", ask)

    def _try(self, what: str, ask: Callable[[], None]) -> None:
        try:
            ask()
        except OSError as error:
            if what not in self.refused:
                self.refused.add(what)
                log.warning("scheduling_refused", wanted=what, reason=error.strerror)


def _named(names: Iterable[str]) -> list[int]:
    """The kernel's numbers of the threads with these names."""
    return [thread.native_id for thread in threading.enumerate() if thread.name in names and thread.native_id]
