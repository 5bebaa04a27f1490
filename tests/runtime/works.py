"""A pipeline at work for tests: it plays a recording, and the test shows it frames."""

import time

import numpy as np

from edge_agent.core.datatypes import Frame
from edge_agent.rules import defect
from edge_agent.runtime.ahead import Ahead
from edge_agent.runtime.mailbox import Mailroom
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.trigger import FrameInspector
from tests.runtime.stations import LABELS, SIDE_PX, Station, Wire, engine_of, one_after_the_other, wait_for

BOTTLE, CRACK = 0, 1
CRACKED = [(CRACK, 0.9, (20, 20, 40, 40))]


def rejects_cracks():
    return defect.create(defect.Config(reject=("crack",)))


def picture(seq=0, ago_ms=0):
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    return Frame(image, seq, time.monotonic_ns() - int(ago_ms * 1e6))


class Works:
    """A station with a pipeline that plays a recording; `show` hands in a frame and waits until it is taken.

    `ahead` is how pictures are prepared ahead: "in time" or "at once". Without `lossless`, `show` does not wait.
    """

    def __init__(
        self, path, *, cameras=("top",), make_inspector=None, watches=(), ahead=None, lossless=True, **settings
    ):
        self.line = Wire()
        self.station = Station(one_after_the_other(self.line), cameras=cameras, **settings)
        self.room = Mailroom()
        self.boxes = [self.room.add(lossless=lossless) for _ in cameras]
        make = make_inspector or (lambda camera: FrameInspector(camera, self.ledger, LABELS, [rejects_cracks]))
        self.pipeline = Pipeline(
            lambda: engine_of(path),
            lambda engine: [make(camera) for camera in cameras],
            self.room,
            self.station.ledger,
            self.station.desk,
            watches,
        )
        self._is_ahead, self.ahead = bool(ahead), None
        if ahead:
            self.pipeline.make_ahead = lambda engine: self._ahead(engine, at_once=ahead == "at once")

    def _ahead(self, engine, **how):
        self.ahead = Ahead(self.room, engine, self.pipeline._watches, **how)
        return self.ahead

    @property
    def ledger(self):
        return self.station.ledger

    def __enter__(self):
        self.station.__enter__()
        self.pipeline.start()
        assert self.pipeline.opened.wait(30)
        wait_for(lambda: self.ahead or not self._is_ahead)
        return self

    def __exit__(self, *_):
        self.room.close()
        self.pipeline.engine.backend.close()  # ends a call that hangs
        assert self.pipeline.stop(30)
        self.station.__exit__()

    def show(self, *frames, lane=0):
        for frame in frames:
            assert self.boxes[lane].put(frame, 30)

    def verdicts(self, count, camera="top"):
        wait_for(lambda: len(self.line.on("verdict/" + camera)) >= count)
        return self.line.on("verdict/" + camera)

    def results(self, count):
        wait_for(lambda: len(self.station.records_wire.on("result/top")) >= count)
        return self.station.results()
