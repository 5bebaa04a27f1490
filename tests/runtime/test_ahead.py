import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import count

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_agent.core.datatypes import Frame, Later
from edge_agent.core.health_judge import Bound, Limits
from edge_agent.errors import BadFrameError
from edge_agent.runtime import ahead as ahead_module
from edge_agent.runtime.ahead import Ahead
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.mailbox import Mailroom
from tests.runtime.stations import engine_of, record, wait_for
from tests.runtime.works import Works, picture

SIZES = ((64, 64), (128, 64), (64, 96), (64, 64), (128, 64), (128, 64))
"""Width and height: padding at the sides, above and below, and none."""

PATIENCE_S = 20


def noise(seq, size=(64, 64)):
    width, height = size
    return np.random.default_rng(seq).integers(0, 256, (height, width, 3), np.uint8)


class Compressed:
    """Pictures that take a while to decode. Keeps which were decoded, and by which thread; one at a time decodes each."""

    def __init__(self, wait_s=0.0, draw=noise):
        self.wait_s, self.draw = wait_s, draw
        self.decoded_by = {"pipeline": [], "ahead": []}
        self._at_work = set()

    @property
    def decoded(self):
        return [seq for seqs in self.decoded_by.values() for seq in seqs]

    @property
    def by(self):
        return {name for name, seqs in self.decoded_by.items() if seqs}

    def frame(self, seq, size=(64, 64)):
        return Frame(Later(partial(self.decode, seq, size), size), seq, time.monotonic_ns())

    def decode(self, seq, size):
        assert seq not in self._at_work
        self._at_work.add(seq)
        time.sleep(self.wait_s)
        self._at_work.discard(seq)
        self.decoded_by[threading.current_thread().name].append(seq)
        return self.draw(seq, size)


def seen_by(works):
    """Copies of what stands in the engine's input at each run."""
    backend, inputs = works.pipeline.engine.backend, []
    infer = backend.infer

    def infer_and_keep():
        inputs.append(backend.inputs[0].array.copy())
        return infer()

    backend.infer = infer_and_keep
    return inputs


@contextmanager
def long_runs(works):
    """No run of the engine ends before the block does."""
    backend, is_over = works.pipeline.engine.backend, threading.Event()
    infer = backend.infer

    def infer_then():
        is_over.wait(PATIENCE_S)
        return infer()

    backend.infer = infer_then
    try:
        yield
    finally:
        is_over.set()


@pytest.mark.parametrize("how", ["in time", "at once"])
def test_the_engine_sees_the_same_as_without_and_every_frame_is_judged_once(tmp_path, how):
    path, seen, pictures = record(tmp_path / "m.npz", [], latency_ms=4), {}, {}
    for ahead in (None, how):
        pictures[ahead] = Compressed()
        with Works(path, ahead=ahead, deadline_ms=20_000) as works:
            seen[ahead] = seen_by(works)
            works.show(*(pictures[ahead].frame(n, size) for n, size in enumerate(SIZES * 6)))
            assert [v["seq"] for v in works.verdicts(36)] == list(range(1, 37))
    assert (pictures[None].by, "ahead" in pictures[how].by) == ({"pipeline"}, True)
    assert len(seen[how]) == len(seen[None]) == 36
    for one, other in zip(seen[how], seen[None], strict=True):
        np.testing.assert_array_equal(one, other)


@contextmanager
def flooding(works, make_frame, lanes=1):
    """Frames come faster than they can be judged; when it ends, what waited has been judged."""
    is_over = threading.Event()

    def show_all(lane):
        for seq in count():
            if is_over.wait(0.001):
                return
            works.show(make_frame(seq + 1_000_000 * lane), lane=lane)

    feeders = [threading.Thread(target=show_all, args=(lane,)) for lane in range(lanes)]
    for feeder in feeders:
        feeder.start()
    try:
        yield
    finally:
        is_over.set()
        for feeder in feeders:
            feeder.join()
        wait_for(lambda: all(box.counts.waiting == 0 for box in works.boxes) and works.pipeline.is_idle)


@pytest.mark.parametrize("how", ["in time", "at once"])
def test_a_flood_of_compressed_pictures_is_decoded_once_each_and_counted(tmp_path, how):
    path, pictures = record(tmp_path / "m.npz", [], latency_ms=5), Compressed(0.002)
    with Works(path, cameras=("top", "side"), ahead=how, lossless=False, deadline_ms=20_000) as works:
        with flooding(works, pictures.frame, lanes=2):
            wait_for(lambda: len(pictures.decoded_by["ahead"]) >= 100)
        assert len(set(pictures.decoded)) == len(pictures.decoded)
        counts = [box.counts for box in works.boxes]
        judged = {result["frame"]["seq"] for result in works.results(counts[0].taken)}  # of the first camera
        assert judged & set(pictures.decoded_by["ahead"])
        assert all(c.made == c.taken + c.dropped for c in counts)
        assert sum(c.taken for c in counts) == works.ledger.opened == works.ledger.closed
        assert min(c.taken for c in counts) > max(c.taken for c in counts) / 2
        assert works.pipeline.failures == 0


def test_while_the_engine_rests_nothing_is_prepared_ahead(tmp_path):
    pictures = Compressed()
    with Works(record(tmp_path / "m.npz", [], latency_ms=5), ahead="at once", deadline_ms=20_000) as works:
        for seq in range(5):
            works.show(pictures.frame(seq))
            works.verdicts(seq + 1)
            wait_for(lambda: works.pipeline.is_idle)
        assert pictures.by == {"pipeline"}


def test_of_a_newer_picture_the_older_is_prepared_in_vain_and_dropped(tmp_path):
    pictures = Compressed()
    with Works(record(tmp_path / "m.npz", []), ahead="at once", lossless=False, deadline_ms=20_000) as works:
        with long_runs(works):
            works.show(pictures.frame(0))
            wait_for(lambda: works.ledger.opened)
            for seq in (1, 2):
                works.show(pictures.frame(seq))
                wait_for(lambda seq=seq: seq in pictures.decoded)
        works.verdicts(2)
        assert [r["frame"]["seq"] for r in works.results(2)] == [0, 2]
        assert pictures.by == {"pipeline", "ahead"}
        assert (works.boxes[0].counts.taken, works.boxes[0].counts.dropped) == (2, 1)


def test_in_time_means_not_before_the_run_is_about_to_end(tmp_path):
    pictures, began = Compressed(), []
    with Works(record(tmp_path / "m.npz", [], latency_ms=100), ahead="in time", deadline_ms=20_000) as works:
        infer = works.pipeline.engine.backend.infer
        works.pipeline.engine.backend.infer = lambda: (began.append(time.monotonic()), infer())[1]
        works.show(picture(0), picture(1))  # the second has to wait for the engine: from then on the next is prepared
        wait_for(lambda: len(began) == 2)
        works.show(pictures.frame(2))
        wait_for(lambda: pictures.decoded)
        assert time.monotonic() - began[1] > 0.05
        works.verdicts(3)


def test_a_picture_that_cannot_be_decoded_is_one_bad_frame(tmp_path):
    def fail():
        raise BadFrameError("no picture in it")

    with Works(record(tmp_path / "m.npz", [], latency_ms=10), ahead="at once", deadline_ms=20_000) as works:
        works.show(picture(0), Frame(Later(fail, (64, 64)), 1, time.monotonic_ns()), picture(2))
        assert [v["verdict"] for v in works.verdicts(3)] == ["pass", "unknown", "pass"]
        assert works.verdicts(3)[1]["reasons"] == [{"code": "bad_frame"}]


def test_a_picture_that_nobody_can_prepare_is_one_internal_error(tmp_path):
    broken = Frame(np.zeros((0, 0, 3), np.uint8), 1, time.monotonic_ns())
    with Works(record(tmp_path / "m.npz", [], latency_ms=10), ahead="at once", deadline_ms=20_000) as works:
        works.show(picture(0), broken, picture(2))
        assert [v["verdict"] for v in works.verdicts(3)] == ["pass", "unknown", "pass"]
        assert works.pipeline.failures == 1


def test_for_a_camera_that_is_watched_the_whole_picture_is_decoded(tmp_path):
    asked = []

    class Watched(Later):
        @property
        def image(self):
            asked.append(threading.current_thread().name)
            return noise(1)

    watches = (CameraWatch("top", Limits()),)
    with Works(record(tmp_path / "m.npz", []), ahead="at once", watches=watches, deadline_ms=20_000) as works:
        with long_runs(works):
            works.show(picture(0), Frame(Watched(lambda: noise(1), (64, 64)), 1, time.monotonic_ns()))
            wait_for(lambda: asked)
        works.verdicts(2)
        assert asked[0] == "ahead"


def test_a_camera_is_judged_the_same_where_its_frames_are_measured_ahead(tmp_path):
    path, verdicts = record(tmp_path / "m.npz", [], latency_ms=4), {}
    for how in (None, "at once"):
        pictures = Compressed(draw=lambda seq, size: noise(seq, size) // (1 if seq % 9 < 5 else 8))
        watches = (CameraWatch("top", Limits(brightness=Bound(40, 48), for_s=0.0, clear_s=0.0)),)
        with Works(path, ahead=how, watches=watches, deadline_ms=20_000) as works:
            works.show(*(pictures.frame(seq, (128, 64)) for seq in range(36)))
            verdicts[how] = [v["verdict"] for v in works.verdicts(36)]
    assert "ahead" in pictures.by
    assert {"pass", "unknown"} == set(verdicts[None])
    assert verdicts["at once"] == verdicts[None]


def test_where_a_device_prepares_pictures_they_are_only_decoded_ahead(tmp_path):
    prepared, pictures = [], Compressed()

    class OnDevice:
        def __init__(self, own):
            self.own = own

        def prepare(self, picture):
            prepared.append(threading.current_thread().name)
            return self.own.prepare(picture)

    works = Works(record(tmp_path / "m.npz", [], latency_ms=10), deadline_ms=20_000)
    with works:
        engine, room = works.pipeline.engine, Mailroom()
        engine.preprocessor = OnDevice(engine.preprocessor)
        ahead, box = Ahead(room, engine, at_once=True), room.add()
        ahead.start()
        ahead.run_begins()
        box.put(frame := pictures.frame(0))
        wait_for(lambda: pictures.decoded)
        ahead.run_ended()
        ahead.wait_for(room.take(0))
        ahead.prepare(frame.picture)
        ahead.stop()
        assert (pictures.by, prepared) == ({"ahead"}, [threading.current_thread().name])


def test_the_picture_is_let_go_once_the_engine_has_it(tmp_path):
    room, engine = Mailroom(), engine_of(record(tmp_path / "m.npz", []))
    ahead, box = Ahead(room, engine, at_once=True), room.add()
    ahead.start()
    ahead.run_begins()
    box.put(picture())
    wait_for(lambda: ahead._place)
    ahead.run_ended()
    taken = room.take(0)
    ahead.wait_for(taken)
    ahead.prepare(taken.frame.picture)
    assert ahead._picture is None
    ahead.stop()


def test_a_picture_of_another_size_than_the_last_is_not_prepared_a_second_time(tmp_path):
    room, engine = Mailroom(), engine_of(record(tmp_path / "m.npz", []))
    ahead, box, own = Ahead(room, engine, at_once=True), room.add(), []
    ahead.start()
    ahead.prepare(noise(0, (64, 96)))
    prepare = engine.preprocessor.prepare
    engine.preprocessor.prepare = lambda picture: (own.append(picture), prepare(picture))[1]
    ahead.run_begins()
    box.put(Frame(noise(1, (128, 64)), 1, time.monotonic_ns()))
    wait_for(lambda: ahead._place)
    ahead.run_ended()
    taken = room.take(0)
    ahead.wait_for(taken)
    ahead.prepare(taken.frame.picture)
    ahead.stop()
    seen = engine.backend.inputs[0].array.copy()
    prepare(noise(1, (128, 64)))
    assert own == []
    np.testing.assert_array_equal(seen, engine.backend.inputs[0].array)


def test_it_ends_while_the_engine_hangs_and_nothing_comes(tmp_path):
    ahead = Ahead(Mailroom(), engine_of(record(tmp_path / "m.npz", [])), at_once=True)
    ahead.start()
    ahead.run_begins()
    assert ahead.stop()


def test_each_engine_has_its_own(tmp_path):
    path = record(tmp_path / "m.npz", [], latency_ms=2)
    with Works(path, ahead="at once", deadline_ms=20_000) as works:
        works.show(picture(0), picture(1))
        first = works.ahead
        works.pipeline.replace(partial(engine_of, path), lambda _: None).result(30)
        wait_for(lambda: works.ahead is not first)
        works.show(picture(2), picture(3))
        works.verdicts(4)
        assert not first.thread.is_alive()


@contextmanager
def hanging_in_a_picture(works):
    """A picture that nobody took is prepared for ever. Ends when what is given is set."""
    at_work, may_end = threading.Event(), threading.Event()

    def hang():
        at_work.set()
        may_end.wait(PATIENCE_S)
        return noise(1)

    with long_runs(works):
        works.show(picture(0))
        wait_for(lambda: works.ledger.opened)
        works.show(Frame(Later(hang, (64, 64)), 1, time.monotonic_ns()))
        assert at_work.wait(PATIENCE_S)
        works.show(picture(2))
    works.verdicts(2)
    try:
        yield may_end
    finally:
        may_end.set()


def test_a_picture_that_nobody_gets_done_with_is_told_at_the_end_until_it_is_done(tmp_path):
    with Works(record(tmp_path / "m.npz", []), ahead="at once", lossless=False, deadline_ms=20_000) as works:
        with hanging_in_a_picture(works):
            assert not works.pipeline.stop(PATIENCE_S)
        works.ahead.thread.join(PATIENCE_S)
        assert works.pipeline.stop(PATIENCE_S)


def test_a_picture_that_nobody_gets_done_with_is_told_once_while_others_are_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead_module, "STUCK_NS", 20_000_000)
    pictures = Compressed()
    with (
        capture_logs() as logs,
        Works(
            record(tmp_path / "m.npz", [], latency_ms=5), ahead="at once", lossless=False, deadline_ms=20_000
        ) as works,
        hanging_in_a_picture(works) as may_end,
    ):
        time.sleep(0.03)
        for seq in range(3, 6):
            works.show(picture(seq))
            works.verdicts(seq)
        (told,) = [entry for entry in logs if entry["event"] == "overlap_stuck"]
        assert (told["log_level"], told["frame"]) == ("warning", 1)
        may_end.set()
        with flooding(works, pictures.frame):
            wait_for(lambda: pictures.decoded_by["ahead"])
