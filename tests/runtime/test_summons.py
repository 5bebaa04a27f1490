import random
import threading
import time

import numpy as np
import pytest

from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.parts import Decision
from edge_agent.runtime.mailbox import Mailroom
from edge_agent.runtime.summons import LOST_MOST, PENDING_MOST, Summons, Terms, TriggeredInspector
from edge_agent.runtime.timer import Timer
from tests.runtime.stations import LABELS, Station, Wire, one_after_the_other, wait_for

MS = 1_000_000
DEADLINE_MS = 100


class Hall:
    """A camera whose parts are called for; the test is its sensor, its camera and its pipeline."""

    def __init__(self, *, offset_ms=0, window_ms=50, ring=4, deadline_ms=DEADLINE_MS):
        self.line = Wire()
        self.station = Station(one_after_the_other(self.line), deadline_ms=deadline_ms)
        self.room = Mailroom()
        self.box = self.room.add(ring=ring, free_running=False)
        terms = Terms(offset_ms * MS, window_ms * MS)
        self.summons = Summons("top", terms, self.station.ledger, self.box, self.station.desk)
        self.summons.is_ready = True
        self.inspector = TriggeredInspector("top", self.station.ledger, LABELS, [], summons=self.summons)
        self.frames = 0

    def __enter__(self):
        self.station.__enter__()
        return self

    def __exit__(self, *_):
        self.station.__exit__()

    def capture(self, at_ns):
        self.box.put(Frame(np.zeros((4, 4, 3), np.uint8), self.frames, at_ns))
        self.frames += 1

    def take(self):
        return self.room.take(0)

    def expire(self):
        """What the timer does once every deadline has passed."""
        timer = Timer(self.station.ledger, self.station.desk, None, None, {"top": self.summons})
        for part in self.station.ledger.expire(time.monotonic_ns() + 10**12):
            timer._expired(part)

    def verdicts(self):
        return [(said["verdict"], [r.get("code") for r in said["reasons"]]) for said in self.line.on("verdict/top")]


@pytest.fixture
def hall():
    with Hall() as running:
        yield running


def test_the_part_is_judged_on_the_first_frame_at_or_after_trigger_and_offset():
    with Hall(offset_ms=20) as hall:
        now_ns = time.monotonic_ns()
        hall.summons.call(now_ns, "4711", 12.5)
        for after_ms in (0, 10, 20, 30):
            hall.capture(now_ns + after_ms * MS)
        taken = hall.take()
        assert taken.frame.captured_ns == now_ns + 20 * MS
        part = hall.inspector.begin(taken.frame, taken.token)
        assert (part.trigger_id, part.position, part.since_ns) == ("4711", 12.5, now_ns)
        assert hall.take() is None


def test_a_trigger_that_is_told_late_gets_its_frame_out_of_the_ring(hall):
    now_ns = time.monotonic_ns()
    for ago_ms in (40, 30, 20, 10):
        hall.capture(now_ns - ago_ms * MS)
    hall.summons.call(now_ns - 25 * MS)
    assert hall.take().frame.captured_ns == now_ns - 20 * MS


def test_without_a_frame_until_the_deadline_the_part_is_unknown(hall):
    hall.summons.call(time.monotonic_ns())
    hall.expire()
    assert hall.verdicts() == [("unknown", ["no_frame"])]
    hall.capture(time.monotonic_ns())
    assert hall.take() is None


def test_a_frame_after_the_window_shows_another_part(hall):
    now_ns = time.monotonic_ns()
    hall.summons.call(now_ns)
    hall.capture(now_ns + 51 * MS)
    taken = hall.take()
    assert hall.inspector.begin(taken.frame, taken.token) is None
    assert hall.verdicts() == [("unknown", ["no_frame"])]


def test_a_part_whose_frame_waits_for_the_engine_until_the_deadline_is_overload(hall):
    now_ns = time.monotonic_ns()
    hall.summons.call(now_ns)
    hall.capture(now_ns)
    hall.expire()
    assert hall.verdicts() == [("unknown", ["overload"])]
    assert hall.take() is None


def test_a_part_that_the_engine_is_looking_at_misses_its_deadline(hall):
    now_ns = time.monotonic_ns()
    hall.summons.call(now_ns)
    hall.capture(now_ns)
    taken = hall.take()
    assert hall.inspector.begin(taken.frame, taken.token) is not None
    hall.expire()
    assert hall.verdicts() == [("unknown", ["deadline_missed"])]


def test_a_part_that_was_closed_while_its_frame_was_on_the_way_is_not_judged(hall):
    now_ns = time.monotonic_ns()
    hall.summons.call(now_ns)
    hall.capture(now_ns)
    taken = hall.take()
    hall.expire()
    assert hall.inspector.begin(taken.frame, taken.token) is None
    assert len(hall.verdicts()) == 1


def test_parts_that_are_on_their_way_to_the_camera_are_no_crowd():
    with Hall(offset_ms=50) as hall:
        for _ in range(PENDING_MOST + 3):
            hall.summons.call(time.monotonic_ns())
        assert hall.verdicts() == []


def test_more_parts_than_may_wait_are_overload_at_once(hall):
    now_ns = time.monotonic_ns()
    for _ in range(PENDING_MOST + 3):
        hall.summons.call(now_ns)
    assert hall.verdicts() == [("unknown", ["overload"])] * 3
    assert hall.summons.calls == PENDING_MOST + 3


def test_a_part_that_cannot_be_judged_in_time_any_more_is_overload_without_a_run(hall):
    began_ns = time.monotonic_ns()
    judge(hall, began_ns, runs_s=0.06)
    hall.summons.call(time.monotonic_ns() - 60 * MS)  # 40 ms are left, a run takes 60
    hall.capture(time.monotonic_ns() - 20 * MS)
    taken = hall.take()
    assert hall.inspector.begin(taken.frame, taken.token) is None
    assert hall.verdicts() == [("unknown", ["overload"])]


def test_a_slow_time_is_forgotten_after_one_refusal(hall):
    for _ in range(9):
        hall.summons.took(200 * MS)
    refused = call_and_take(hall)
    assert hall.inspector.begin(refused.frame, refused.token) is None
    again = call_and_take(hall)
    assert hall.inspector.begin(again.frame, again.token) is not None


def test_before_there_is_an_engine_no_part_can_be_judged(hall):
    hall.summons.is_ready = False
    hall.summons.call(time.monotonic_ns())
    assert hall.verdicts() == [("unknown", ["model_not_ready"])]


def test_edges_that_were_lost_are_parts_without_a_look(hall):
    hall.summons.lose(2, time.monotonic_ns())
    assert hall.verdicts() == [("unknown", ["overload"])] * 2
    hall.summons.lose(LOST_MOST + 7, time.monotonic_ns())
    assert (len(hall.verdicts()), hall.summons.uncalled) == (2 + LOST_MOST, 7)


def test_a_call_after_the_end_is_told_so(hall):
    hall.station.ledger.shut()
    hall.summons.call(time.monotonic_ns(), "late")
    hall.expire()
    assert hall.verdicts() == [("unknown", ["stopping"])]


class Race:
    """Camera, pipeline and timer of a hall, each in a thread of its own."""

    def __init__(self, hall, seed):
        self.hall, self.chance, self.done = hall, random.Random(seed), threading.Event()
        self.timer = Timer(hall.station.ledger, hall.station.desk, None, None, {"top": hall.summons})
        self.threads = [
            threading.Thread(target=self.repeat, args=(step,)) for step in (self.shoot, self.look, self.tick)
        ]

    def repeat(self, step):
        while not self.done.is_set():
            step()
            time.sleep(0.001)

    def shoot(self):
        self.hall.capture(time.monotonic_ns())

    def look(self):
        taken = self.hall.room.take(0.01)
        if taken is None:
            return
        part = self.hall.inspector.begin(taken.frame, taken.token)
        time.sleep(self.chance.choice([0, 0.002]))
        for judged in self.hall.inspector.finish(taken.frame, part, Detections.empty()):
            if self.hall.station.ledger.close(judged.part):
                self.hall.station.desk.judged(judged.part, judged.decision)

    def tick(self):
        for part in self.hall.station.ledger.expire(time.monotonic_ns()):
            self.timer._expired(part)

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join(10)


@pytest.mark.parametrize("seed", range(5))
def test_every_call_gets_one_verdict_whoever_is_first(seed):
    with Hall(deadline_ms=5, window_ms=2) as hall:
        with Race(hall, seed):
            for number in range(200):
                hall.summons.call(time.monotonic_ns(), str(number))
                time.sleep(0.0005)
            wait_for(lambda: hall.station.ledger.opened == hall.station.ledger.closed == 200)
        told = [said["trigger_id"] for said in hall.line.on("verdict/top")]
        assert sorted(told, key=int) == [str(number) for number in range(200)]
        assert hall.box._bound == hall.box._sought == hall.summons._waiting == {}


def call_and_take(hall):
    hall.summons.call(time.monotonic_ns())
    hall.capture(time.monotonic_ns())
    return hall.take()


def judge(hall, began_ns, *, runs_s):
    """A part that the engine took so long for."""
    hall.summons.call(began_ns)
    hall.capture(began_ns)
    taken = hall.take()
    part = hall.inspector.begin(taken.frame, taken.token)
    time.sleep(runs_s)
    assert hall.inspector.finish(taken.frame, part, Detections.empty())[0].decision == Decision("pass")
    hall.station.ledger.close(part)
