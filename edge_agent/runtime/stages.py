"""How long the stages of a frame take: of each of the last frames, and in buckets since the start."""

from bisect import bisect_left
from itertools import accumulate
from typing import NamedTuple

BOUNDS_MS = (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2000.0)
"""Upper bounds of the buckets: from a stage that costs nothing to an engine that hangs."""


class Stages(NamedTuple):
    """One frame's stage times in milliseconds."""

    queue: float
    preprocess: float
    infer: float
    decode: float
    decide: float
    total: float


NAMES = Stages._fields


class Histogram:
    """How many times fell into which bucket. One thread adds, any may read."""

    __slots__ = ("_counts", "sum_ms")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, ms: float) -> None:
        """One more. A bound belongs to the bucket below it."""
        self._counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms

    def up_to(self) -> list[int]:
        """For each bound how many were not above it, and last of all how many there were."""
        return list(accumulate(list(self._counts)))


class Durations:
    """A histogram for each stage: a microsecond or two for a frame."""

    def __init__(self) -> None:
        self.of = {name: Histogram() for name in NAMES}

    def add(self, stages: Stages) -> None:
        """One more frame."""
        for histogram, ms in zip(self.of.values(), stages, strict=True):
            histogram.add(ms)
