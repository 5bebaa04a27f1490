"""The side channel of truth: what really travels on the belt, written for who scores the verdicts, line by line.

The agent never reads it. Times are CLOCK_MONOTONIC of this machine, or of the simulated clock.
"""

import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.cameras.simulator.belt import Belt, Part
from edge_agent.cameras.simulator.settings import Config
from edge_agent.errors import CameraLostError


class Witness:
    """Knows what happens when; `tell` writes what has happened until then, in order, each once."""

    def __init__(self, config: Config, path: Path, start_ns: int) -> None:
        self._config, self._path, self._start_ns = config, path, start_ns
        self._belt = Belt(config)
        self._parts = self._belt.upcoming()
        self._next: Part | None = next(self._parts, None)
        self._agenda: list[tuple[float, int, dict[str, Any]]] = []
        self._unwritten: list[str] = []
        self._made = 0
        self._last_left_s = 0.0
        for t_s, fact in self._of_the_belt():
            self._note(t_s, fact)

    def tell(self, t_s: float) -> None:
        """Appends to the file what happened until then.

        Raises:
            CameraLostError: the file cannot be written; what was to be written is kept for the next time.
        """
        self._look_ahead(t_s)
        while self._agenda and self._agenda[0][0] <= t_s:
            at_s, _, fact = heapq.heappop(self._agenda)
            line = json.dumps({"kind": fact.pop("kind"), "mono_ns": self._mono_ns(at_s), **fact})
            self._unwritten.append(line + "\n")
        if not self._unwritten:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(self._unwritten))
        except OSError as error:
            raise CameraLostError(f"the truth cannot be written to {self._path}: {error.strerror}") from error
        self._unwritten.clear()

    def _look_ahead(self, t_s: float) -> None:
        """Notes the parts that have come into the picture until then, and the end."""
        while self._next is not None and (entered_s := self._time_at(self._next, -self._belt.part_width_px / 2)) <= t_s:
            self._note_part(self._next, entered_s)
            self._next = next(self._parts, None)
            if self._next is None:
                self._note(self._last_left_s, {"kind": "end", "parts": self._config.parts})

    def _note_part(self, part: Part, entered_s: float) -> None:
        config = self._config
        about = {"part": part.number, "found": list(part.bottle.found), "defects": list(part.bottle.defects)}
        line = config.line if config.direction == "right" else 1 - config.line
        crossed_s = self._time_at(part, line * config.width)
        self._last_left_s = self._time_at(part, config.width + self._belt.part_width_px / 2)
        self._note(entered_s, {"kind": "entered", **about})
        self._note(crossed_s, {"kind": "part", **about, "entered_ns": self._mono_ns(entered_s)})

    def _time_at(self, part: Part, x_px: float) -> float:
        """When its centre is so far from the edge at which parts come in."""
        return self._belt.time_of(part.place_px + x_px)

    def _of_the_belt(self) -> Iterator[tuple[float, dict[str, Any]]]:
        config = self._config
        belt = {
            "kind": "belt",
            "camera_width": config.width,
            "camera_height": config.height,
            "px_per_s": config.px_per_s,
            "direction": config.direction,
            "line": config.line,
            "part_width_px": self._belt.part_width_px,
        }
        yield 0.0, belt
        for fault in config.faults:
            if fault.kind == "belt_stop":
                yield fault.at_s, belt | {"px_per_s": 0.0}
                yield fault.end_s, belt
            yield fault.at_s, {"kind": "fault", "fault": fault.kind, "on": True}
            yield fault.end_s, {"kind": "fault", "fault": fault.kind, "on": False}

    def _note(self, t_s: float, fact: dict[str, Any]) -> None:
        self._made += 1
        heapq.heappush(self._agenda, (t_s, self._made, dict(fact)))

    def _mono_ns(self, t_s: float) -> int:
        return self._start_ns + round(t_s * 1e9)
