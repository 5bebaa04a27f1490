"""What is measured, in figures: spreads of times, and ratios of blocks that were run side by side."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_agent.runtime.forms import Sent
from edge_agent.runtime.stages import Stages

DIGITS = 4  # of a millisecond: below that a clock call costs as much


@dataclass(frozen=True, slots=True)
class Spread:
    """Of `n` values of one unit. The 99th percentile of fewer than a hundred is little more than the greatest."""

    n: int
    min: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Range:
    """Of one figure in several rounds."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sending:
    """A verdict, and when its bytes had been written to the socket: monotonic, and by the processor time of the whole process."""

    sent_ns: int
    cpu_ns: int
    verdict: Sent

    @property
    def whole_ms(self) -> float:
        """From the frame's arrival to the socket."""
        return (self.sent_ns - self.verdict.captured_ns) / 1e6

    @property
    def added_ms(self) -> float:
        """Without what the engine took for that very frame."""
        return self.whole_ms - (self.verdict.latency.infer or 0.0)


@dataclass(frozen=True, slots=True)
class Runs:
    """A block of bare runs: when it began and when each run ended (monotonic), and processor time of the whole process in it."""

    ended_ns: Sequence[int]
    cpu_ns: int

    @property
    def fps(self) -> float:
        """Runs per second."""
        return rate(self.ended_ns)

    @property
    def cpu_ms(self) -> float:
        """Processor time of a run."""
        return self.cpu_ns / 1e6 / (len(self.ended_ns) - 1)


@dataclass(frozen=True, slots=True)
class Block:
    """What one stretch of time gave: verdicts in their order, and the stages of each frame that was judged.

    `dropped`: frames of each camera that nobody took before the next one came.
    """

    sendings: Sequence[Sending]
    stages: Sequence[Stages]
    dropped: dict[str, int]

    @property
    def fps(self) -> float:
        """Verdicts per second, from the first to the last; NaN with fewer than two."""
        return rate([sending.sent_ns for sending in self.sendings])

    @property
    def cpu_ms(self) -> float:
        """Processor time of all the process for each of them; NaN with fewer than two."""
        n = len(self.sendings) - 1
        return (self.sendings[-1].cpu_ns - self.sendings[0].cpu_ns) / 1e6 / n if n > 0 else float("nan")


@dataclass(slots=True)
class Tally:
    """All blocks of one engine, by what was done in them."""

    bare: list[Runs] = field(default_factory=list)
    paced: list[Block] = field(default_factory=list)
    line: list[Block] = field(default_factory=list)
    full: list[Block] = field(default_factory=list)
    cameras: list[Block] = field(default_factory=list)


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    if not values:
        return None
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return Spread(len(values), *(round(float(one), DIGITS) for one in (min(values), p50, p90, p99, max(values))))


def range_of(values: Sequence[float]) -> Range | None:
    """None of no values; those that are not known do not count."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    return Range(len(known), *(round(one, DIGITS) for one in (statistics.median(known), min(known), max(known))))


def rate(times_ns: Sequence[int]) -> float:
    """How often a second something happened that happened at these times; NaN with fewer than two."""
    lasted_ns = times_ns[-1] - times_ns[0] if len(times_ns) > 1 else 0
    return (len(times_ns) - 1) * 1e9 / lasted_ns if lasted_ns else float("nan")


def stage_times(blocks: Sequence[Block]) -> dict[str, Spread | None]:
    """Where the time of a frame goes, in milliseconds, in the order of its road. Each frame of the blocks gave one verdict.

    `whole` is from its arrival to the socket; `record` comes after that.
    """
    rows: dict[str, list[float]] = {name: [] for name in ("queue", "preprocess", "infer", "decode", "decide", "send")}
    rows |= {"whole": [], "record": []}
    for block in blocks:
        if len(block.sendings) != len(block.stages):  # a frame without a verdict: whose times they are is not known
            continue
        for sending, stages in zip(block.sendings, block.stages, strict=True):
            told = sending.verdict.latency
            rows["queue"].append(stages.queue)
            rows["preprocess"].append(stages.preprocess)
            rows["infer"].append(stages.infer)
            rows["decode"].append(stages.decode)
            rows["decide"].append((told.decide or 0.0) - stages.decode)
            rows["send"].append(sending.whole_ms - told.total)
            rows["whole"].append(sending.whole_ms)
            rows["record"].append(stages.total - sending.whole_ms)
    return {name: spread(values) for name, values in rows.items()}
