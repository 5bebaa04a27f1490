"""An agent on the stand: all of `edge-agent run` in this process, with cameras that give frames when they are told to."""

import gc
import queue
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence

from edge_agent.app.agent import build
from edge_agent.app.bench.feed import Feed, Pace
from edge_agent.app.bench.figures import Block, Runs, Sending
from edge_agent.app.bench.pictures import Reel
from edge_agent.app.bench.stopwatch import BareRuns, Meter, PageMeter, PeakMeter, RoadCuts, TimedConnector
from edge_agent.config import Loaded
from edge_agent.errors import EdgeAgentError
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.capture import Capture
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.stages import Stages

FRAME, LINE, FULL = "frame", "line", "full"
"""Cameras: each frame is a part; what crosses a line is one; each frame is, and the next is there as soon as one is taken."""

SKIPPED = 2  # frames at the start of a block: the caches hold what was done before
LEAST_RUNS = 10
SETTLE_S = 120.0  # for what is under way on a slow board
QUIET_S = 0.5  # for records that are still to be sent; what takes longer is part of a full load
TRACED, TRACED_SKIPPED = 24, 8
_NEVER_S = 1e9  # a camera that is told to give nothing is not lost
_LOOK_S = 0.002
_UP_S = 10.0


class BenchError(EdgeAgentError):
    """It cannot be measured; the message says why."""


class Stand:
    """One engine with all that `run` puts around it."""

    def __init__(self, loaded: Loaded, reel: Reel) -> None:
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        connector = TimedConnector(loaded.config, self._note)
        self.agent: Agent = build(loaded, self._wishes, connector)[0]
        self._feeds = {
            camera.id: Feed(reel, number, self._all_is_judged) for number, camera in enumerate(loaded.config.cameras)
        }
        captures = {
            name: Capture(name, lambda feed=feed: feed, self.agent.mailboxes[name], timeout_s=_NEVER_S)  # type: ignore[misc]
            for name, feed in self._feeds.items()
        }
        self.agent.captures = self.agent.health.captures = captures
        self._connector = connector
        self._sendings: list[Sending] = []
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="bench", daemon=True)

    @property
    def engine(self) -> Engine:
        """That serves."""
        engine = self.agent.pipeline.engine
        if engine is None:
            raise BenchError("the engine was not opened")
        return engine

    def start(self) -> None:
        """Returns when the engine is open and the line is connected."""
        self.agent.pipeline.scheduling.begin()
        self.agent.start()
        self.agent.pipeline.scheduling.settle()
        gc.freeze()
        self._thread.start()
        self._wait("the connection for verdicts", lambda: self.agent.line.connected, _UP_S)

    def stop(self) -> None:
        """Ends all of it."""
        self._wishes.put("stop")
        if self._thread.is_alive():
            self._thread.join(_UP_S)
        self.agent.stop()

    def bare(self, seconds: float) -> Runs:
        """A block of bare runs of the engine."""
        self._settle()
        engine = self.engine
        runs = BareRuns(engine.decoder, engine.backend, seconds, LEAST_RUNS)
        engine.decoder = runs
        try:
            self._feeds[FULL].give(Pace(0.0, left=1))
            self._wait("the engine", runs.done.is_set, SETTLE_S + seconds)
            self._settle()
        finally:
            engine.decoder = runs.decoder
        return Runs(runs.ended_ns, runs.cpu_ns)

    def block(self, cameras: Sequence[str], interval_s: float, seconds: float, *, alone: bool = False) -> Block:
        """Each of the cameras gives a frame every `interval_s`, with jitter, 0: whenever one is taken. For `alone` see `Pace`."""
        self._settle()
        dropped = self._dropped()
        stages = deque[Stages]()  # of all frames of the block: by itself the pipeline keeps only the last ones
        self._sendings, self.agent.pipeline.stages = [], stages
        for name in cameras:
            self._feeds[name].give(Pace(interval_s, alone=alone))
        time.sleep(seconds)
        for name in cameras:
            self._feeds[name].give(None)
        self._settle()
        n = SKIPPED * len(cameras)
        lost = {name: count - dropped[name] for name, count in self._dropped().items() if name in cameras}
        return Block(self._sendings[n:], list(stages)[n:], lost)

    def memory_taken(self) -> list[dict[str, int]]:
        """The most bytes that Python and numpy took at once, by stretches of the road, for frames one by one."""
        tracemalloc.start()
        try:
            return self._one_by_one(PeakMeter(), to_the_end=True)
        finally:
            tracemalloc.stop()

    def pages_touched(self) -> list[dict[str, int]]:
        """Bytes of fresh pages that the pipeline's thread touched, likewise; `way_in` begins where the frame before was sent."""
        return self._one_by_one(PageMeter(), to_the_end=False)

    def _one_by_one(self, meter: Meter, *, to_the_end: bool) -> list[dict[str, int]]:
        engine, frames = self.engine, []
        cuts = RoadCuts(engine.decoder, meter)
        self._settle()
        engine.decoder, self._connector.on_verdict = cuts, lambda _now_ns: cuts.cut("send")
        try:
            for _ in range(TRACED_SKIPPED + TRACED):
                self._settle()
                cuts.begin()
                self._feeds[FRAME].give(Pace(0.0, left=1))
                self._settle()
                if to_the_end:
                    cuts.cut("record")
                frames.append(cuts.taken)
        finally:
            engine.decoder, self._connector.on_verdict = cuts.decoder, self._note
        return frames[TRACED_SKIPPED:]

    @property
    def failures(self) -> int:
        """Frames that could not be judged."""
        return self.agent.pipeline.failures

    @property
    def unsent(self) -> int:
        """Verdicts that did not reach the broker."""
        return sum(self.agent.desk.unsent.totals.values())

    def _note(self, now_ns: int) -> None:
        """In the pipeline's thread, which has just put the verdict on the desk's list."""
        self._sendings.append(Sending(now_ns, time.process_time_ns(), self.agent.desk.recent[-1]))

    def _watch(self) -> None:
        """What the main thread does in `run`."""
        try:
            self.agent.wait()
        except BaseException as error:  # noqa: BLE001 - the benchmark raises it
            self._failed = error

    def _settle(self) -> None:
        """Until every frame was judged, and records have gone out as far as they do soon."""
        self._wait("the frames under way", self._is_settled, SETTLE_S)
        until_s = time.monotonic() + QUIET_S
        while self.agent.outbox.waiting() and time.monotonic() < until_s:
            time.sleep(_LOOK_S)

    def _is_settled(self) -> bool:
        return all(feed.is_idle for feed in self._feeds.values()) and self._all_is_judged()

    def _all_is_judged(self) -> bool:
        counts = [box.counts for box in self.agent.mailboxes.values()]
        pipeline = self.agent.pipeline
        given = sum(feed.count for feed in self._feeds.values())
        judged = pipeline.durations.of["total"].up_to()[-1] + pipeline.failures
        return given == sum(one.made for one in counts) and judged == given - sum(one.dropped for one in counts)

    def _dropped(self) -> dict[str, int]:
        return {name: box.counts.dropped for name, box in self.agent.mailboxes.items()}

    def _wait(self, what: str, has_come: Callable[[], bool], patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        while not has_come():
            if self._failed is not None:
                raise self._failed
            if time.monotonic() > until_s:
                raise BenchError(f"{what} did not come to an end within {patience_s:.0f} s")
            time.sleep(_LOOK_S)
