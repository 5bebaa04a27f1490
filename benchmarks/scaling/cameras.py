"""One engine, several cameras: the real `edge-agent run`, and a subscriber to all its verdicts in a process of its own.

Every camera gives more frames than the engine can take, so that the engine never rests. What is expected: it makes as many
results for eight cameras as for one, each camera has its part of them, and, because the newest frame wins, a frame that is
judged is no older with eight cameras than with one. `expected_ms` says how old, by a simulation of the turns.
"""

import json
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from benchmarks import rig
from benchmarks.peers import line
from benchmarks.scaling.charts import Chart
from benchmarks.verdicts import Ear

COUNTS = (1, 2, 4, 8)
SETTLE_S = 2.0  # after the first verdict of each: first connections and caches are not what is measured
MORE = 1.3  # frames of each camera, over what the engine can take
SIMULATED = 4000  # frames that the engine takes
PATIENCE_MS = 5000.0  # no verdict is to be cut short where the machine is busy: that is seen in the times


class Verdict(NamedTuple):
    """As a subscriber heard it. Milliseconds, CLOCK_MONOTONIC, and lengths of time."""

    camera: str
    received_ms: float
    late_ms: float  # from the capture to the subscriber
    infer_ms: float
    verdict: str


def read(received_ns: int, payload: bytes) -> Verdict:
    """One message."""
    said = json.loads(payload)
    latency, received_ms = said["latency_ms"], received_ns / 1e6
    late_ms = latency["total"] + received_ms - said["sent_mono_ms"]
    return Verdict(said["camera"], received_ms, late_ms, latency.get("infer") or 0.0, said["verdict"])


@dataclass(frozen=True, slots=True)
class Window:
    """One agent, for some seconds. `shares`: results of each camera, over an equal part. `busy`: of the time, the engine's."""

    cameras: int
    fps: float
    busy: float
    p50_ms: float
    p99_ms: float
    shares: tuple[float, ...]
    expected_p50_ms: float
    expected_p99_ms: float


def pictures(folder: Path, size: tuple[int, int], of: Path = rig.PHOTOS, number: int = 4) -> Path:
    """So many photos `of` a folder, in that size: eight cameras keep them decoded."""
    folder.mkdir()
    for photo in sorted(of.rglob("*.jpg"))[:number]:
        cv2.imwrite(str(folder / photo.name), cv2.resize(line.read(photo), size))
    return folder


@contextmanager
def agent(cameras: int, fps: float, folder: Path, wish: Any, port: int) -> Iterator[None]:
    """Runs until the block ends."""
    config = rig.agent_config(port, wish.model, folder, fps=fps)
    (first,) = config["cameras"]
    first["source"] = wish.pictures
    config["cameras"] = [{**first, "id": f"c{number}"} for number in range(cameras)]
    config["verdict"] = {"deadline_ms": PATIENCE_MS, "valid_ms": 2 * PATIENCE_MS}
    config["hardware"] = {"threads": wish.threads}
    process = rig.Process("agent", config, folder, "run")
    try:
        process.wait_for_log("state", state="running")
        yield
        process.check()
    finally:
        process.stop()


def listen(cameras: int, fps: float, folder: Path, wish: Any, port: int) -> list[Verdict]:
    """All verdicts of one window."""
    folder.mkdir()
    with closing(_Ear(port)) as ear:
        with agent(cameras, fps, folder, wish, port):
            time.sleep(SETTLE_S)
            began_ms = time.monotonic_ns() / 1e6
            time.sleep(wish.seconds)
            ended_ms = time.monotonic_ns() / 1e6
        heard: list[Verdict] = ear.end()
    shutil.rmtree(folder)
    inside = [it for it in heard if began_ms <= it.received_ms <= ended_ms]
    if len(inside) < cameras * 2:
        raise rig.BenchmarkError(f"{len(inside)} verdicts of {cameras} cameras in {wish.seconds:g} s: more --seconds")
    return inside


class _Ear(Ear):
    """To all cameras."""

    def __init__(self, port: int) -> None:
        super().__init__(port, f"{rig.ROOT}/verdict/+", read)

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.kill()


def window(cameras: int, fps: float, verdicts: Sequence[Verdict]) -> Window:
    """What they say."""
    span_s = (verdicts[-1].received_ms - verdicts[0].received_ms) / 1e3
    rate = (len(verdicts) - 1) / span_s
    late = rig.spread([it.late_ms for it in verdicts])
    counts = [sum(it.camera == f"c{number}" for it in verdicts) for number in range(cameras)]
    shares = tuple(round(count * cameras / len(verdicts), 3) for count in counts)
    ends_ms = [it.received_ms for it in verdicts]
    turns_ms = [after - before for before, after in pairwise(ends_ms)]
    expected = rig.spread(expected_ms(cameras, fps, turns_ms))
    busy = rate * statistics.mean(it.infer_ms for it in verdicts) / 1e3
    return Window(cameras, round(rate, 2), round(busy, 3), late.p50, late.p99, shares, expected.p50, expected.p99)


def expected_ms(cameras: int, fps: float, turns_ms: Sequence[float]) -> list[float]:
    """How old verdicts are by the rule alone: cameras in turn, the newest frame of each, an engine that takes so long.

    The cameras are even, and out of step with each other; how long each turn takes is drawn from those that were measured.
    """
    chance, period_ms = random.Random(cameras), 1e3 / fps  # noqa: S311 - nothing to hide
    phases = [chance.uniform(0, period_ms) for _ in range(cameras)]
    now_ms, turn, ages = period_ms, 0, list[float]()
    taken = [(now_ms - phase) // period_ms for phase in phases]  # number of the frame that each gave last
    while len(ages) < SIMULATED:
        newest = [(now_ms - phase) // period_ms for phase in phases]
        waiting = [
            (turn + k) % cameras for k in range(cameras) if newest[(turn + k) % cameras] > taken[(turn + k) % cameras]
        ]
        if not waiting:
            now_ms = min(phase + (number + 1) * period_ms for phase, number in zip(phases, newest, strict=True)) + 1e-6
            continue
        lane = waiting[0]
        taken[lane], turn = newest[lane], lane + 1
        began_ms = phases[lane] + newest[lane] * period_ms
        now_ms += chance.choice(turns_ms)
        ages.append(now_ms - began_ms)
    return ages


def measure(folder: Path, wish: Any, port: int, begin: Callable[[str], None]) -> list[Window]:
    """Rounds of windows, each with a fresh agent, so that a machine that slows down favours none."""
    folder.mkdir()
    begin("what the engine can take")
    flood = listen(1, 200, folder / "flood", wish, port)
    fps = MORE * 1e3 * (len(flood) - 1) / (flood[-1].received_ms - flood[0].received_ms)
    windows = []
    for number in range(wish.repeat):
        for cameras in COUNTS[:: -1 if number % 2 else 1]:
            begin(f"{cameras} camera{'s' * (cameras > 1)}, round {number + 1}")
            own = folder / f"{number}-{cameras}"
            windows.append(window(cameras, fps, listen(cameras, fps, own, wish, port)))
    return windows


def charts(windows: Sequence[Window]) -> list[Chart]:
    """Medians over the rounds."""
    total = Chart("cameras", "One engine, several cameras: all together", "cameras", "results a second")
    shares = Chart("shares", "Each camera's share of them, over an equal one", "cameras", "share")
    busy = Chart("busy", "One engine, several cameras: it runs", "cameras", "share of the time")
    late = Chart("latency", "Capture to subscriber", "cameras", "ms")
    for cameras in sorted({it.cameras for it in windows}):
        of = [it for it in windows if it.cameras == cameras]
        total.add("all together", cameras, statistics.median(it.fps for it in of))
        busy.add("the engine", cameras, statistics.median(it.busy for it in of))
        shares.add("the one that has least", cameras, statistics.median(min(it.shares) for it in of))
        shares.add("the one that has most", cameras, statistics.median(max(it.shares) for it in of))
        late.add("p50", cameras, statistics.median(it.p50_ms for it in of))
        late.add("p50 by theory", cameras, statistics.median(it.expected_p50_ms for it in of))
        late.add("p99", cameras, statistics.median(it.p99_ms for it in of))
        late.add("p99 by theory", cameras, statistics.median(it.expected_p99_ms for it in of))
    return [total, busy, shares, late]
