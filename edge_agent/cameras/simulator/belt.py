"""What travels where: a conveyor as a function of seed and time. Pure.

A bottle stands at a fixed place of an endless belt; what the camera sees of it depends on how far the belt has run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_agent.cameras.simulator.bottle import WIDTH, Bottle
from edge_agent.cameras.simulator.settings import Config, fault_at

_FIRST = 60.0  # before the picture, so that it begins empty
_GAPS = (50.0, 170.0)
_TOUCHING = (0.0, 4.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One bottle on the belt. `place_px` is how far the belt has run when its centre enters the picture."""

    number: int
    place_px: float
    bottle: Bottle


class Belt:
    """Bottles are counted from 1. Times are seconds after the start, lengths pixels of the picture."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stops = sorted((f for f in config.faults if f.kind == "belt_stop"), key=lambda fault: fault.at_s)
        self._parts: list[Part] = []  # those that have not left yet, and one to come
        self._made = 0
        self._last_px = 0.0
        self.part_width_px = WIDTH * config.scale

    def run_px(self, t_s: float) -> float:
        """How far the belt has run."""
        stood_s = sum(min(max(t_s - stop.at_s, 0.0), stop.for_s) for stop in self._stops)
        return (t_s - stood_s) * self._config.px_per_s

    def time_of(self, run_px: float) -> float:
        """When the belt has run so far: the inverse of `run_px`."""
        t_s = run_px / self._config.px_per_s
        for stop in self._stops:
            if t_s > stop.at_s:
                t_s += stop.for_s
        return t_s

    def at(self, t_s: float) -> list[Part]:
        """The bottles of which something may be in the picture, in the order of their numbers. Time does not go back."""
        run_px, margin = self.run_px(t_s), self.part_width_px
        while self._has_more and (not self._parts or self._parts[-1].place_px < run_px + margin):
            self._parts.append(self._next())
        while self._parts and run_px - self._parts[0].place_px > self._config.width + margin:
            self._parts.pop(0)
        return [part for part in self._parts if part.place_px < run_px + margin]

    def is_over(self, t_s: float) -> bool:
        """Whether the last bottle has left."""
        return not self.at(t_s) and not self._has_more

    def upcoming(self) -> Iterator[Part]:
        """Each bottle once, in order, made as it is asked for; on a belt of its own."""
        belt = Belt(self._config)
        while belt._has_more:
            yield belt._next()

    @property
    def _has_more(self) -> bool:
        return self._config.parts is None or self._made < self._config.parts

    def _next(self) -> Part:
        self._made += 1
        rng = np.random.default_rng([self._config.seed, self._made])
        bottle = Bottle.random(rng, defects=self._config.defects, contrast=self._config.contrast)
        gap = rng.uniform(*_GAPS)
        touches = rng.random() < self._config.touching
        before = self._last_px
        if touches or self._bursts_at(before):
            gap = rng.uniform(*_TOUCHING)
        first = (_FIRST + WIDTH / 2) * self._config.scale
        place_px = first if self._made == 1 else before + (WIDTH + gap) * self._config.scale
        self._last_px = place_px
        return Part(self._made, place_px, bottle)

    def _bursts_at(self, place_px: float) -> bool:
        t_s = self.time_of(place_px)
        return fault_at(self._config.faults, "burst", t_s) is not None
