"""The figures of a benchmark as one document, and whether the board's budget is kept."""

import itertools
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import edge_agent
from edge_agent.app.bench.figures import DIGITS, Block, Runs, Spread, Tally, range_of, spread, stage_times
from edge_agent.app.bench.setting import Setting, Subject
from edge_agent.app.bench.startup import PARTS, Memory, Start
from edge_agent.app.bench.stopwatch import LARGE_BYTES
from edge_agent.hardware import telemetry
from edge_agent.hardware.profile import Profile

SCHEMA = "edge-agent/bench/1"


@dataclass(frozen=True, slots=True)
class Kept:
    """One figure of the profile's budget; None: it could not be measured."""

    name: str
    limit: float
    measured: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured."""

    setting: Setting
    outlet: str
    subject: Subject
    tally: Tally
    other: tuple[Subject, Tally] | None
    memory_taken: Sequence[Mapping[str, int]]
    pages_touched: Sequence[Mapping[str, int]]
    starts: Sequence[Start]
    memory: Memory
    failures: int
    unsent: int
    load_before: float


def document(measured: Measured) -> dict[str, Any]:
    """The one document of `--json`; docs/operations.md says what its keys mean."""
    wish, subject, tally = measured.setting.wish, measured.subject, measured.tally
    budget = list(_budget(subject.choice.profile, measured))
    return {
        "schema": SCHEMA,
        "agent_version": edge_agent.__version__,
        "machine": machine(subject, measured.load_before),
        "frames": {
            "width": wish.size[0],
            "height": wish.size[1],
            "different": len(measured.setting.frames),
            "detections": subject.detections,
            "jpeg": wish.jpeg,
            "health": wish.health,
        },
        "outlet": measured.outlet,
        "rounds": len(tally.bare),
        **engine_part(subject, tally),
        "cameras": _cameras(tally) if tally.cameras else None,
        "compare": _compare(tally, *measured.other) if measured.other else None,
        "allocations": _allocations(measured),
        "memory_mb": asdict(measured.memory),
        "start_s": _starts(measured.starts),
        "failures": measured.failures,
        "unsent": measured.unsent,
        "budget": {
            "profile": subject.choice.profile.name if subject.choice.profile else None,
            "figures": [asdict(one) for one in budget],
            "kept": all(one.kept for one in budget) if budget else None,
        },
    }


def machine(subject: Subject, load_before: float) -> dict[str, Any]:
    """What is measured on, and how busy that was."""
    told = telemetry.read()
    return {
        "architecture": platform.machine(),
        "profile": subject.choice.profile.name if subject.choice.profile else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "temperature_c": told.temperature_c,
        "throttled": told.throttled,
        "load_before": round(load_before, 2),
    }


def engine_part(subject: Subject, tally: Tally) -> dict[str, Any]:
    """What is told of each engine."""
    bare_fps = [runs.fps for runs in tally.bare]
    bare_cpu_ms, cpu_ms = [runs.cpu_ms for runs in tally.bare], [block.cpu_ms for block in tally.full]
    shares = [block.fps / bare for block, bare in zip(tally.full, bare_fps, strict=True)]
    return {
        "model": {
            "path": str(subject.path),
            "backend": subject.backend,
            "runtime": subject.runtime,
            "decoder": subject.decoder,
        },
        "bare_ms": _spread(_intervals_ms(tally.bare)),
        "added_ms": {"frame": _added(tally.paced), "line": _added(tally.line)},
        "stages_ms": {name: _told(one) for name, one in stage_times(tally.paced).items()}
        | {"track": _spread([stages.decide for block in tally.line for stages in block.stages])},
        "throughput": {
            "fps": _range([block.fps for block in tally.full]),
            "bare_fps": _range(bare_fps),
            "share": _range(shares),
        },
        "cpu_ms": {
            "frame": _range(cpu_ms),
            "bare": _range(bare_cpu_ms),
            "added": _range([frame - bare for frame, bare in zip(cpu_ms, bare_cpu_ms, strict=True)]),
        },
    }


def _added(blocks: Sequence[Block]) -> dict[str, Any] | None:
    """With the lowest and the highest median of a round, which say how steady the machine was; None without a verdict."""
    of_rounds = [[sending.added_ms for sending in block.sendings] for block in blocks]
    told = spread([ms for one in of_rounds for ms in one])
    medians = range_of([one.p50 for ms in of_rounds if (one := spread(ms))])
    return {**asdict(told), "rounds_p50": asdict(medians)} if told and medians else None


def _cameras(tally: Tally) -> dict[str, Any]:
    """All cameras at once, each of which gives more than its share of what the engine can do."""
    names = sorted(tally.cameras[0].dropped)
    each = {}
    total = sum(len(block.sendings) for block in tally.cameras)
    for name in names:
        mine = [one for block in tally.cameras for one in block.sendings if one.verdict.part.camera == name]
        each[name] = {
            "share": round(len(mine) / total, DIGITS) if total else None,
            "latency_ms": _spread([one.whole_ms for one in mine]),
            "dropped": sum(block.dropped[name] for block in tally.cameras),
        }
    alone = [block.fps for block in tally.full]
    ratios = [block.fps / one for block, one in zip(tally.cameras, alone, strict=True)]
    return {
        "count": len(names),
        "fps": _range([block.fps for block in tally.cameras]),
        "of_one_camera": _range(ratios),
        "each": each,
    }


def _compare(tally: Tally, subject: Subject, other: Tally) -> dict[str, Any]:
    """The other engine, and its figures as multiples of the first one's, round by round."""
    pairs = zip(tally.bare, other.bare, strict=True)
    fulls = zip(tally.full, other.full, strict=True)
    return {
        **engine_part(subject, other),
        "bare_speed": _range([theirs.fps / ours.fps for ours, theirs in pairs]),
        "throughput_ratio": _range([theirs.fps / ours.fps for ours, theirs in fulls]),
    }


def _allocations(measured: Measured) -> dict[str, Any]:
    """Where a stretch of the road touches fewer fresh pages than that, no piece of that size was taken in it."""
    pages = measured.pages_touched
    return {
        "most_at_once_kib": _stretches_kib(measured.memory_taken),
        "fresh_pages_kib": _stretches_kib(pages),
        "frames": len(pages),
        "frames_above_64_kib": sum(max(frame.values()) > LARGE_BYTES for frame in pages),
    }


def _stretches_kib(frames: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """The median of the frames."""
    return {name: round(median(frame.get(name, 0) for frame in frames) / 1024, 1) for name in frames[0]}


def _starts(starts: Sequence[Start]) -> dict[str, Any]:
    return {
        "first_verdict": _range([start.whole_s for start in starts]),
        "parts": {name: _range([start.parts_s[name] for start in starts]) for name in PARTS},
    }


def _budget(profile: Profile | None, measured: Measured) -> Iterator[Kept]:
    if profile is None or profile.budget is None:
        return
    limit, tally = profile.budget, measured.tally
    fps = range_of([block.fps for block in tally.full])
    yield Kept("fps", limit.fps, fps.median if fps else None, fps is not None and fps.median >= limit.fps)
    added = spread([sending.added_ms for block in (*tally.paced, *tally.line) for sending in block.sendings])
    yield Kept("p99_ms", limit.p99_ms, added.p99 if added else None, added is not None and added.p99 <= limit.p99_ms)
    rss_mb = round(measured.memory.rss_mb, 1)
    yield Kept("rss_mb", limit.rss_mb, rss_mb, rss_mb <= limit.rss_mb)


def _intervals_ms(blocks: Sequence[Runs]) -> list[float]:
    return [(after - before) / 1e6 for runs in blocks for before, after in itertools.pairwise(runs.ended_ns)]


def _told(one: Spread | None) -> dict[str, Any] | None:
    return asdict(one) if one else None


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    return _told(spread(values))


def _range(values: Sequence[float]) -> dict[str, Any] | None:
    told = range_of(values)
    return asdict(told) if told else None
