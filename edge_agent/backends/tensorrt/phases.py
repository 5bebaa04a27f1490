"""How far a build is, from the phases that TensorRT 10 and later report.

A phase has steps, and while it takes one there may be phases within. TensorRT calls from threads of its own.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that are under way. The fraction never falls, whatever is reported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0

    @property
    def fraction(self) -> float:
        """What is done of the whole, from 0 to 1."""
        return self._fraction

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, within `parent` where there is one."""
        with self._lock:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        """The step of that number, from 0, is done."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
                self._look()

    def finish(self, name: str) -> None:
        """The phase is over, and what is within it."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = self._phases[name].steps
                self._look()
                self._remove(name)

    def _look(self) -> None:
        outermost = (name for name, phase in self._phases.items() if phase.parent is None)
        self._fraction = max(self._fraction, *map(self._done, outermost))

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        within = [self._done(other) for other, inner in self._phases.items() if inner.parent == name]
        return min(1.0, (phase.done + max(within, default=0.0)) / phase.steps)

    def _remove(self, name: str) -> None:
        del self._phases[name]
        for other in [other for other, inner in self._phases.items() if inner.parent == name]:
            if other in self._phases:
                self._remove(other)


def monitor(tensorrt: Any, on_fraction: Callable[[float], None]) -> Any:
    """A progress monitor of TensorRT's that tells how far the build is. `on_fraction` must not raise."""
    phases = Phases()

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc] # its class is known at run time only
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)  # pybind11 wants it called by name

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            on_fraction(phases.fraction)
            return True  # False would cancel the build: who wants that ends the process

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)
            on_fraction(phases.fraction)

    return Monitor()
