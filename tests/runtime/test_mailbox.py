import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.core.datatypes import Frame
from edge_agent.runtime.mailbox import Counts, Mailroom, Taken

LANES = 3
PATIENCE_S = 30


def frame(seq, captured_ns=None):
    return Frame(np.zeros((1, 1, 3), np.uint8), seq, seq if captured_ns is None else captured_ns)


def fill(box, count):
    for seq in range(count):
        box.put(frame(seq))


def seqs(room):
    """All that can be taken now, as (lane, seq, token)."""
    found = []
    while (taken := room.take(0)) is not None:
        found.append((taken.lane, taken.frame.seq, taken.token))
    return found


def test_the_newest_frame_wins_and_the_older_is_counted():
    room = Mailroom()
    box = room.add()
    for seq in range(5):
        box.put(frame(seq))
    assert seqs(room) == [(0, 4, None)]
    assert box.counts == Counts(made=5, taken=1, dropped=4, waiting=0)


def test_a_frame_is_taken_once():
    room = Mailroom()
    room.add(ring=4).put(frame(0))
    assert room.take(0) is not None
    assert room.take(0) is None


def test_take_waits_for_a_frame():
    room = Mailroom()
    box = room.add()
    found = []
    thread = threading.Thread(target=lambda: found.append(room.take(PATIENCE_S)))
    thread.start()
    box.put(frame(7))
    thread.join(PATIENCE_S)
    assert [taken.frame.seq for taken in found] == [7]


def test_a_frame_that_was_there_before_it_was_asked_for_says_so():
    room = Mailroom()
    box, found = room.add(), []
    box.put(frame(0))
    assert room.take(0).was_there
    thread = threading.Thread(target=lambda: found.append(room.take(PATIENCE_S)))
    thread.start()
    while not room._wake._waiters:
        time.sleep(0.001)
    box.put(frame(1))
    thread.join(PATIENCE_S)
    assert not found[0].was_there


def test_take_gives_up_after_its_time():
    room = Mailroom()
    room.add()
    assert room.take(0.01) is None


def test_the_cameras_take_turns():
    room = Mailroom()
    boxes = [room.add() for _ in range(4)]
    turns = []
    for seq in range(10):
        for box in boxes:
            box.put(frame(seq))
        turns.append(room.take(0).lane)
    assert turns == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_a_camera_without_a_frame_costs_the_others_no_turn():
    room = Mailroom()
    boxes = [room.add() for _ in range(3)]
    turns = []
    for seq in range(4):
        boxes[0].put(frame(seq))
        boxes[2].put(frame(seq))
        turns.append(room.take(0).lane)
    assert turns == [0, 2, 0, 2]


def test_a_lossless_mailbox_has_no_room_until_its_frame_is_taken():
    room = Mailroom()
    box = room.add(lossless=True)
    assert box.put(frame(0))
    assert not box.put(frame(1), timeout_s=0.01)
    room.take(0)
    assert box.put(frame(1), timeout_s=0)
    assert box.counts == Counts(made=2, taken=1, dropped=0, waiting=1)


def test_a_lossless_put_waits_for_its_room():
    room = Mailroom()
    box = room.add(lossless=True)
    producer = threading.Thread(target=fill, args=(box, 100))
    producer.start()
    assert [room.take(PATIENCE_S).frame.seq for _ in range(100)] == list(range(100))
    producer.join(PATIENCE_S)


def test_closing_wakes_everyone():
    room = Mailroom()
    box = room.add(lossless=True)
    quiet = room.add()
    box.put(frame(0))
    producer = threading.Thread(target=box.put, args=(frame(1),))
    producer.start()
    room.close()
    producer.join(PATIENCE_S)
    assert not producer.is_alive()
    assert room.take(PATIENCE_S) is None
    quiet.put(frame(0))
    assert box.counts == Counts(made=2, taken=0, dropped=1, waiting=1)
    assert quiet.counts == Counts(made=1, taken=0, dropped=1, waiting=0)


def test_a_trigger_that_comes_late_finds_its_frame_in_the_ring():
    room = Mailroom()
    box = room.add(ring=4)
    for seq in range(6):
        box.put(frame(seq))
    box.bind("part", not_before_ns=3)
    assert seqs(room) == [(0, 3, "part"), (0, 5, None)]


def test_a_frame_that_was_taken_is_still_there_for_a_trigger():
    room = Mailroom()
    box = room.add(ring=2)
    box.put(frame(0))
    room.take(0)
    box.bind("part", not_before_ns=0)
    assert seqs(room) == [(0, 0, "part")]
    assert box.counts == Counts(made=1, taken=1, dropped=0, waiting=0)


def test_a_trigger_that_comes_early_waits_for_the_first_frame_from_then_on():
    room = Mailroom()
    box = room.add(free_running=False)
    box.bind("part", not_before_ns=3)
    for seq in range(6):
        box.put(frame(seq))
    assert seqs(room) == [(0, 3, "part")]
    assert box.counts == Counts(made=6, taken=1, dropped=5, waiting=0)


def test_a_pinned_frame_outlives_the_ring():
    room = Mailroom()
    box = room.add(ring=1, free_running=False)
    box.put(frame(0))
    box.bind("part", not_before_ns=0)
    for seq in range(1, 9):
        box.put(frame(seq))
    assert seqs(room) == [(0, 0, "part")]


def test_one_frame_serves_several_triggers_and_counts_once():
    room = Mailroom()
    box = room.add(ring=1, free_running=False)
    box.put(frame(0))
    box.bind("a", not_before_ns=0)
    box.bind("b", not_before_ns=0)
    assert seqs(room) == [(0, 0, "a"), (0, 0, "b")]
    assert box.counts == Counts(made=1, taken=1, dropped=0, waiting=0)


def test_a_frame_taken_for_a_trigger_is_not_taken_again_for_none():
    room = Mailroom()
    box = room.add()
    box.put(frame(0))
    box.bind("part", not_before_ns=0)
    assert seqs(room) == [(0, 0, "part")]


def test_triggers_come_before_the_newest_frames_and_the_oldest_first():
    room = Mailroom()
    left, right = room.add(ring=4), room.add(ring=4)
    for seq in range(4):
        left.put(frame(seq))
        right.put(frame(seq))
    left.bind("second", not_before_ns=1)
    right.bind("first", not_before_ns=0)
    right.bind("third", not_before_ns=2)
    assert seqs(room) == [(1, 0, "first"), (0, 1, "second"), (1, 2, "third"), (0, 3, None), (1, 3, None)]


@pytest.mark.parametrize("frame_first", [True, False])
def test_nothing_is_taken_for_a_token_that_was_unbound(frame_first):
    room = Mailroom()
    box = room.add(free_running=False)
    if frame_first:
        box.bind("part", not_before_ns=0)
        box.put(frame(0))
        box.unbind("part")
    else:
        box.bind("part", not_before_ns=0)
        box.unbind("part")
        box.put(frame(0))
    assert seqs(room) == []
    assert box.counts == Counts(made=1, taken=0, dropped=1, waiting=0)


def test_without_free_running_no_frame_is_taken_for_none():
    room = Mailroom()
    box = room.add(ring=2, free_running=False)
    box.put(frame(0))
    assert room.take(0) is None
    assert box.counts == Counts(made=1, taken=0, dropped=0, waiting=1)


def test_memory_holds_the_ring_and_no_more():
    box = Mailroom().add(ring=3)
    images = []
    for seq in range(100):
        sent = frame(seq)
        images.append(weakref.ref(sent.image))
        box.put(sent)
        del sent
    assert [image() is None for image in images] == [True] * 97 + [False] * 3


def pour(room, box, count, interval_ms, jitter_ms=0):
    """Frames at that interval, each taken where it can be: the numbers of those that were."""
    found = []
    for seq in range(count):
        late_ms = jitter_ms if seq % 2 else 0
        box.put(frame(seq, int((seq * interval_ms + late_ms) * 1e6)))
        found += [number for _, number, _ in seqs(room)]
    return found


@pytest.mark.parametrize("jitter_ms", [0, 15])
def test_at_a_pace_so_many_frames_come_as_asked_and_the_rest_is_counted(jitter_ms):
    room = Mailroom()
    box = room.add()
    box.set_pace(10)
    taken = pour(room, box, 300, 1000 / 30, jitter_ms)
    assert 99 <= len(taken) <= 101
    assert box.counts == Counts(300, len(taken), 300 - len(taken), 0, shed=300 - len(taken))


def test_a_camera_slower_than_the_pace_loses_nothing():
    room = Mailroom()
    box = room.add()
    box.set_pace(10)
    assert pour(room, box, 20, 101) == list(range(20))
    assert box.counts.shed == 0


def test_after_a_pause_the_pace_catches_nothing_up():
    room = Mailroom()
    box = room.add()
    box.set_pace(10)
    box.put(frame(0, 0))
    late_ms = range(10_000, 10_100, 20)
    for number, at_ms in enumerate(late_ms, 1):
        box.put(frame(number, at_ms * 1_000_000))
    assert box.counts.shed == 4


def test_without_a_pace_all_come_again():
    room = Mailroom()
    box = room.add()
    box.set_pace(10)
    pour(room, box, 10, 33)
    box.set_pace(None)
    assert pour(room, box, 10, 33) == list(range(10))


def test_the_pace_takes_no_frame_from_a_trigger():
    room = Mailroom()
    box = room.add(ring=2, free_running=False)
    box.set_pace(1)
    box.bind("a part", 40_000_000)
    for seq in range(5):
        box.put(frame(seq, seq * 20_000_000))
    assert seqs(room) == [(0, 2, "a part")]
    assert box.counts.shed == 0


def test_a_lossless_mailbox_takes_no_notice_of_a_pace():
    room = Mailroom()
    box = room.add(lossless=True)
    box.set_pace(1)
    assert pour(room, box, 10, 33) == list(range(10))


def test_who_looks_at_the_next_frame_waits_for_one_that_is_new():
    room = Mailroom()
    box, found = room.add(), []
    first, second = frame(0), frame(1)
    box.put(first)
    assert room.next_frame(0, lambda _: True) == (0, first)
    assert room.next_frame(0.01, lambda new: new is not first) is None
    thread = threading.Thread(target=lambda: found.append(room.next_frame(PATIENCE_S, lambda new: new is not first)))
    thread.start()
    box.put(second)
    thread.join(PATIENCE_S)
    assert found == [(0, second)]
    assert box.counts == Counts(made=2, taken=0, dropped=1, waiting=1)


def test_in_a_closed_mailroom_there_is_no_next_frame():
    room = Mailroom()
    room.add().put(frame(0))
    room.close()
    assert room.next_frame(PATIENCE_S, lambda _: True) is None


class AgainstAModel(RuleBasedStateMachine):
    """Any order of calls, against a model that keeps every frame ever made and remembers what became of it."""

    @initialize(ring=st.integers(0, 3), free_running=st.booleans())
    def open(self, ring, free_running):
        self.ring, self.free_running = ring, free_running
        self.room = Mailroom()
        self.boxes = [self.room.add(ring=ring, free_running=free_running) for _ in range(LANES)]
        self.made = [[] for _ in range(LANES)]
        self.taken = [set() for _ in range(LANES)]
        self.bound = {}
        self.tokens = 0
        self.now = 0

    @rule(lane=st.integers(0, LANES - 1), later=st.integers(1, 3))
    def put(self, lane, later):
        self.now += later
        assert self.boxes[lane].put(frame(len(self.made[lane]), self.now))
        self.made[lane].append(self.now)
        for token, (where, not_before_ns, seq) in list(self.bound.items()):
            if where == lane and seq is None and self.now >= not_before_ns:
                self.bound[token] = (lane, not_before_ns, len(self.made[lane]) - 1)

    @rule(lane=st.integers(0, LANES - 1), ago=st.integers(-3, 6))
    def bind(self, lane, ago):
        self.tokens += 1
        self.boxes[lane].bind(self.tokens, self.now - ago)
        fitting = [seq for seq in self.held(lane) if self.made[lane][seq] >= self.now - ago]
        self.bound[self.tokens] = (lane, self.now - ago, min(fitting, default=None))

    @precondition(lambda self: self.bound)
    @rule(data=st.data())
    def unbind(self, data):
        token = data.draw(st.sampled_from(sorted(self.bound)))
        lane = self.bound.pop(token)[0]
        self.boxes[lane].unbind(token)

    @rule()
    def take(self):
        counts = [box.counts for box in self.boxes]
        seen = self.room.next_frame(0, lambda _: True)
        assert counts == [box.counts for box in self.boxes]
        taken = self.room.take(0)
        assert (taken and (taken.lane, id(taken.frame))) == (seen and (seen[0], id(seen[1])))
        ready = {token: entry for token, entry in self.bound.items() if entry[2] is not None}
        if ready:
            oldest = min(not_before_ns for _, not_before_ns, _ in ready.values())
            lane, not_before_ns, seq = self.bound.pop(taken.token)
            assert not_before_ns == oldest
            assert (taken.lane, taken.frame.seq) == (lane, seq)
        elif lanes := [lane for lane in range(LANES) if self.newest(lane) is not None]:
            assert taken.token is None
            assert taken.lane in lanes
            assert taken.frame.seq == self.newest(taken.lane)
        else:
            assert taken is None
        if taken is not None:
            self.taken[taken.lane].add(taken.frame.seq)

    def newest(self, lane):
        last = len(self.made[lane]) - 1
        return last if self.free_running and last >= 0 and last not in self.taken[lane] else None

    def held(self, lane):
        count = len(self.made[lane])
        pinned = {seq for where, _, seq in self.bound.values() if where == lane and seq is not None}
        newest = set() if self.newest(lane) is None else {self.newest(lane)}
        return set(range(max(0, count - self.ring), count)) | pinned | newest

    @invariant()
    def counts_agree(self):
        for lane, box in enumerate(getattr(self, "boxes", [])):
            waiting = len(self.held(lane) - self.taken[lane])
            made, taken = len(self.made[lane]), len(self.taken[lane])
            assert box.counts == Counts(made, taken, made - taken - waiting, waiting)


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("lossless", [False, True])
def test_counts_and_order_hold_while_threads_race(lossless):
    room = Mailroom()
    boxes = [room.add(ring=2, lossless=lossless) for _ in range(4)]
    each = 500
    producers = [threading.Thread(target=fill, args=(box, each)) for box in boxes]
    for thread in producers:
        thread.start()
    taken = [[] for _ in boxes]
    while (got := room.take(0.01)) is not None or any(thread.is_alive() for thread in producers):
        if got is not None:
            taken[got.lane].append(got.frame.seq)
        for counts in (box.counts for box in boxes):
            assert counts.made == counts.taken + counts.dropped + counts.waiting
    for box, seen in zip(boxes, taken, strict=True):
        assert seen == sorted(set(seen))
        assert (box.counts.made, box.counts.taken) == (each, len(seen))
        assert len(seen) == each if lossless else seen[-1] == each - 1


def test_with_four_busy_cameras_each_gets_its_turn():
    room = Mailroom()
    boxes = [room.add(lossless=True) for _ in range(4)]
    producers = [threading.Thread(target=fill, args=(box, 60)) for box in boxes]
    for thread in producers:
        thread.start()
    turns = []
    while len(turns) < 40:
        if all(box.counts.waiting for box in boxes):  # a slow consumer: every camera has a frame by then
            turns.append(room.take(PATIENCE_S).lane)
    room.close()
    for thread in producers:
        thread.join(PATIENCE_S)
    assert {turns.count(lane) for lane in range(4)} == {10}


def test_what_is_taken_says_where_from_and_what_for():
    room = Mailroom()
    room.add()
    box = room.add()
    sent = frame(3)
    box.put(sent)
    assert room.take(0) == Taken(lane=1, frame=sent, token=None)
