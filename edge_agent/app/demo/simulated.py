"""What a run asks of its simulated cameras."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edge_agent.app.snapshot import take_baseline
from edge_agent.cameras.simulator.settings import FaultKind
from edge_agent.config import AgentConfig
from edge_agent.errors import UsageError

FAULTS: tuple[str, ...] = get_args(FaultKind)
_FAULT_S = 5.0
_PARTS_PER_S = 2.3  # at speed 1, as the simulator's gaps make it
_LOOK_S = 3.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `seconds` or `parts`, whichever comes first, ends the run.

    Raises:
        UsageError: there is no such fault, or the run has no end.
    """

    seconds: float | None
    parts: int | None
    seed: int = 1
    speed: float = 1.0
    fault: str | None = None

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in FAULTS:
            raise UsageError(f"--fault: there is no fault {self.fault!r}; there are {', '.join(FAULTS)}")
        if self.seconds is None and self.parts is None:
            raise UsageError("give --seconds or --parts: the run needs an end")

    @property
    def duration_s(self) -> float:
        """How long the line will run, about."""
        by_parts = [] if self.parts is None else [self.parts / (_PARTS_PER_S * self.speed)]
        return min(by_parts + ([] if self.seconds is None else [self.seconds]))

    def camera_keys(self, truth: Path, number: int = 0) -> dict[str, Any]:
        """The simulator's keys for the camera of that number: each has a line of its own. The fault comes after a third."""
        duration_s = self.duration_s
        fault = {"kind": self.fault, "at_s": round(duration_s / 3, 3), "for_s": min(_FAULT_S, round(duration_s / 4, 3))}
        return {
            "seed": self.seed + number,
            "speed": self.speed,
            "parts": self.parts,
            "truth": truth,
            "faults": [fault] if self.fault else None,
        }


def take_baselines(config: AgentConfig, tell: Callable[[float], None]) -> None:
    """Of each camera whose health names one: what it sees when all is well. `tell` gets the share that is done, 0 to 1."""
    for camera in config.cameras:
        if camera.health is not None and camera.health.baseline is not None:
            sound = camera.model_copy(update={"faults": (), "truth": None, "parts": None})
            take_baseline(config, sound, camera.health.baseline, tell, look_s=_LOOK_S)
