import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest

from edge_agent.app.engine import EngineRequest, make_decoder, open_engine
from edge_agent.backends import onnx
from edge_agent.core.datatypes import Frame, Thresholds
from edge_agent.core.parts import Ledger
from edge_agent.decoders import yolo
from edge_agent.errors import LabelsError, ModelError
from edge_agent.models.bundled import ONNX
from edge_agent.runtime.mailbox import Mailroom
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.trigger import FrameInspector, LineInspector
from tests.runtime.stations import LABELS, Station, Wire, engine_of, one_after_the_other, record, wait_for
from tests.runtime.works import BOTTLE, CRACK, CRACKED, Works, picture, rejects_cracks

PATIENCE_S = 30
DECODER = yolo.Config(head="end2end", boxes="pixels")


def nothing(_engine):
    """For those who need no introduction."""


def swap(works, path):
    return works.pipeline.replace(partial(engine_of, path), nothing).result(PATIENCE_S)


def with_conf(conf):
    """Makes decoders with another threshold, as a reload does."""
    return lambda model: make_decoder(DECODER, model, Thresholds(conf=conf))


@contextmanager
def feeding(works):
    """Shows frames as fast as they are taken; when it ends, all are judged."""
    is_over = threading.Event()

    def show_all():
        for seq in count():
            if is_over.is_set():
                return
            works.show(picture(seq))

    feeder = threading.Thread(target=show_all)
    feeder.start()
    try:
        yield
    finally:
        is_over.set()
        feeder.join()
        wait_for(lambda: works.ledger.closed == works.boxes[0].counts.made)


class Door:
    """Opens an engine once the test lets it."""

    def __init__(self, path):
        self.path = path
        self.may_open, self.was_asked = threading.Event(), threading.Event()

    def open(self):
        self.was_asked.set()
        assert self.may_open.wait(PATIENCE_S)
        return engine_of(self.path)


def test_every_frame_gets_one_verdict_while_engines_come_and_go(tmp_path):
    cracked, whole = record(tmp_path / "cracked.npz", CRACKED), record(tmp_path / "whole.npz", [])
    with Works(cracked, deadline_ms=20_000) as works, feeding(works):
        for number in range(40):
            swap(works, (whole, cracked)[number % 2])
    made = works.boxes[0].counts.made
    assert works.ledger.opened == works.ledger.closed == made
    verdicts = works.line.on("verdict/top")
    assert [v["seq"] for v in verdicts] == list(range(1, made + 1))
    assert {v["verdict"] for v in verdicts} == {"reject", "pass"}


def test_real_engines_take_turns_under_load():
    pytest.importorskip("onnxruntime", reason=onnx._MISSING)
    request = EngineRequest(ONNX, ("onnx",), threads=1)
    with Station(one_after_the_other(wire := Wire()), deadline_ms=20_000) as station:
        room, ledger = Mailroom(), station.ledger
        box = room.add(lossless=True)
        inspector = FrameInspector("top", ledger, ("bottle", "cap", "crack"), [rejects_cracks])
        pipeline = Pipeline(partial(open_engine, request), lambda _: [inspector], room, ledger, station.desk)
        pipeline.start()
        assert pipeline.opened.wait(PATIENCE_S)
        image = np.zeros((480, 640, 3), np.uint8)
        changes = [pipeline.replace(partial(open_engine, request), nothing)]
        seq = 0
        while len(changes) < 5 or not changes[-1].done():
            assert box.put(Frame(image, seq, time.monotonic_ns()), PATIENCE_S)
            seq += 1
            if changes[-1].done() and len(changes) < 5:
                changes.append(pipeline.replace(partial(open_engine, request), nothing))
        wait_for(lambda: len(wire.on("verdict/top")) == seq)
        assert [v["seq"] for v in wire.on("verdict/top")] == list(range(1, seq + 1))
        assert len({id(change.result()) for change in changes}) == 5
        assert pipeline.engine is changes[-1].result()
        assert pipeline.stop(PATIENCE_S)


def test_a_part_that_is_followed_when_the_engine_changes_is_judged_by_both(tmp_path):
    places = (10, 16, 22, 28, 34, 40, 46, 52)
    frames = [[(BOTTLE, 0.9, (x - 8, 20, x + 8, 44))] for x in places]
    frames[1] = [*frames[1], (CRACK, 0.8, (14, 30, 18, 34))]

    def make_inspector(camera):
        line = ((0.5, 0.0), (0.5, 1.0))
        return LineInspector(
            camera, works.ledger, LABELS, [rejects_cracks], parts=("bottle",), line=line, direction="right"
        )

    first, second = record(tmp_path / "first.npz", *frames[:3]), record(tmp_path / "second.npz", *frames[3:])
    works = Works(first, make_inspector=make_inspector, deadline_ms=20_000)
    with works:
        works.show(*(picture(seq) for seq in range(3)))
        wait_for(lambda: len(works.pipeline.stages) == 3)
        swap(works, second)
        works.show(*(picture(seq) for seq in range(3, 8)))
        wait_for(lambda: len(works.pipeline.stages) == 5)
        (verdict,) = works.verdicts(1)
        assert verdict["verdict"] == "reject"
        (result,) = works.results(1)
        assert (result["frame"]["seq"], result["frames"]) == (4, 5)


def test_it_is_introduced_before_its_first_frame(tmp_path):
    path, order = record(tmp_path / "m.npz", []), []
    with Works(path, deadline_ms=20_000) as works:
        engine = works.pipeline.replace(partial(engine_of, path), order.append).result(PATIENCE_S)
        assert order == [engine]
        assert works.pipeline.engine is engine


def test_an_engine_that_gives_other_labels_does_not_take_over(tmp_path):
    path = record(tmp_path / "m.npz", CRACKED)
    closed = threading.Event()

    def open_other():
        engine = engine_of(path)
        close = engine.backend.close
        engine.backend.close = lambda: (close(), closed.set())
        engine.model = replace(engine.model, labels=("dog", "cat"))
        return engine

    with Works(path, deadline_ms=20_000) as works:
        before = works.pipeline.engine
        with pytest.raises(LabelsError, match="it gives the labels dog, cat, and the engine that serves bottle, crack"):
            works.pipeline.replace(open_other, nothing).result(PATIENCE_S)
        assert closed.is_set()
        assert works.pipeline.engine is before
        works.show(picture())
        assert works.verdicts(1)[0]["verdict"] == "reject"


def test_one_that_cannot_be_opened_changes_nothing_and_the_next_may_try(tmp_path):
    path = record(tmp_path / "m.npz", [])
    with Works(path, deadline_ms=20_000) as works:
        with pytest.raises(ModelError, match="no such file"):
            swap(works, tmp_path / "none.npz")
        works.show(picture())
        works.verdicts(1)
        assert works.pipeline.failed is None
        assert swap(works, path) is works.pipeline.engine


def test_only_one_is_opened_at_a_time(tmp_path):
    path = record(tmp_path / "m.npz", [])
    with Works(path) as works:
        door = Door(path)
        change = works.pipeline.replace(door.open, nothing)
        with pytest.raises(RuntimeError, match="one engine at a time"):
            works.pipeline.replace(door.open, nothing)
        door.may_open.set()
        change.result(PATIENCE_S)


def test_each_engine_is_opened_used_and_closed_by_one_thread(tmp_path):
    path, users = record(tmp_path / "m.npz", []), {}

    def open_watched(name):
        engine = engine_of(path)
        users[name] = {threading.get_ident()}
        for method in ("infer", "close"):
            setattr(engine.backend, method, watched(name, getattr(engine.backend, method)))
        return engine

    def watched(name, method):
        def call():
            users[name].add(threading.get_ident())
            closed.update({name} if method.__name__ == "close" else ())
            return method()

        return call

    closed = set()
    with Works(path, deadline_ms=20_000) as works:
        for name in ("first", "second"):
            works.pipeline.replace(partial(open_watched, name), nothing).result(PATIENCE_S)
            works.show(picture())
        works.verdicts(2)
        wait_for(lambda: closed == {"first"})
        assert users["first"] != users["second"]
        assert [len(threads) for threads in users.values()] == [1, 1]


def test_thresholds_that_were_changed_hold_for_the_next_engine_too(tmp_path):
    path = record(tmp_path / "m.npz", CRACKED)
    with Works(path, deadline_ms=20_000) as works:
        works.show(picture())
        works.verdicts(1)
        works.pipeline.tune(with_conf(0.95))
        works.show(picture())
        works.verdicts(2)
        swap(works, path)
        works.show(picture())
        assert [v["verdict"] for v in works.verdicts(3)] == ["reject", "pass", "pass"]


def test_thresholds_that_change_while_the_next_engine_is_opened_hold_for_it(tmp_path):
    path = record(tmp_path / "m.npz", CRACKED)
    with Works(path, deadline_ms=20_000) as works:
        door = Door(path)
        change = works.pipeline.replace(door.open, nothing)
        assert door.was_asked.wait(PATIENCE_S)
        works.pipeline.tune(with_conf(0.95))
        door.may_open.set()
        change.result(PATIENCE_S)
        works.show(picture())
        assert works.verdicts(1)[0]["verdict"] == "pass"


def test_the_statistics_begin_anew_with_the_next_engine(tmp_path):
    slow, fast = record(tmp_path / "slow.npz", [], latency_ms=20), record(tmp_path / "fast.npz", [])
    with Works(slow, deadline_ms=20_000) as works:
        works.show(picture())
        wait_for(lambda: works.pipeline.stages)
        swap(works, fast)
        works.show(picture())
        works.verdicts(2)
        wait_for(lambda: works.pipeline.stages)
        assert [stages.infer < 20 for stages in works.pipeline.stages] == [True]


def test_one_that_waits_for_an_engine_that_hangs_gives_no_sign_of_life(tmp_path):
    hangs, well = record(tmp_path / "hangs.npz", [], hang_after=1), record(tmp_path / "well.npz", [])
    with Works(hangs) as works:
        works.show(picture())
        wait_for(lambda: works.ledger.opened)
        ready = threading.Event()

        def open_():
            engine = engine_of(well)
            ready.set()
            return engine

        change = works.pipeline.replace(open_, nothing)
        assert ready.wait(PATIENCE_S)
        before_ns = works.pipeline.last_tick_ns
        time.sleep(0.25)
        assert works.pipeline.last_tick_ns == before_ns
        assert not change.done()
        works.pipeline.engine.backend.close()  # lets the hanging call return
        change.result(PATIENCE_S)
        wait_for(lambda: works.pipeline.last_tick_ns > before_ns)


def test_a_stop_does_not_wait_for_an_engine_that_is_being_opened(tmp_path):
    path = record(tmp_path / "m.npz", [])
    with Works(path) as works:
        door = Door(path)
        change = works.pipeline.replace(door.open, nothing)
        assert door.was_asked.wait(PATIENCE_S)
        assert not works.pipeline.stop(0.3)
        door.may_open.set()
        with pytest.raises(CancelledError):
            change.result(PATIENCE_S)


def test_a_stop_ends_one_that_waits_for_its_turn(tmp_path):
    hangs, well = record(tmp_path / "hangs.npz", [], hang_after=1), record(tmp_path / "well.npz", [])
    with Works(hangs) as works:
        works.show(picture())
        wait_for(lambda: works.ledger.opened)
        change = works.pipeline.replace(partial(engine_of, well), nothing)
        assert not works.pipeline.stop(0.1)
        with pytest.raises(CancelledError):
            change.result(PATIENCE_S)


def test_after_a_stop_nothing_is_opened(tmp_path):
    path = record(tmp_path / "m.npz", [])
    with Works(path) as works:
        assert works.pipeline.stop(PATIENCE_S)
        with pytest.raises(CancelledError):
            swap(works, path)


def test_before_there_is_an_engine_none_can_be_replaced(tmp_path):
    station = Station(one_after_the_other(Wire()))
    pipeline = Pipeline(partial(engine_of, tmp_path), lambda _: [], Mailroom(), Ledger(100, 200), station.desk)
    with pytest.raises(RuntimeError, match="none serves yet"):
        pipeline.replace(partial(engine_of, tmp_path), nothing)


def test_one_that_cannot_be_introduced_leaves_nobody_to_serve_and_that_is_a_failure(tmp_path):
    path = record(tmp_path / "m.npz", [])

    def refuse(_engine):
        raise ValueError("no name")

    with Works(path) as works:
        with pytest.raises(ValueError, match="no name"):
            works.pipeline.replace(partial(engine_of, path), refuse).result(PATIENCE_S)
        assert isinstance(works.pipeline.failed, ValueError)
