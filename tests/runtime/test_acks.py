"""What arms say of the verdicts, against what was sent."""

import threading
import time

import pytest

from edge_agent.runtime.acks import KEPT, MOST_WHYS, Acks
from edge_agent.wire.inbound import Ack

MS = 1_000_000
SESSION = "5f0c"
VERDICTS = ("acknowledged", "missing", "forgotten", "waiting")
ACKS = ("late", "duplicate", "unmatched")


@pytest.fixture
def acks():
    return Acks(("top", "side"), 1000, SESSION)


def expect(acks, *seqs, camera="top", verdict="reject", at_ms=0, trigger_id=None):
    for seq in seqs:
        acks.expect(camera, seq, trigger_id, verdict, int(at_ms * MS))


def hear(acks, seq=None, *, at_ms=5, camera="top", session=SESSION, action="reject", **others):
    ack = Ack.model_validate({"camera": camera, "session": session, "seq": seq, "action": action, **others})
    return acks.hear(ack, int(at_ms * MS))


def counts(acks, *keys):
    return tuple(acks.counts[key] for key in keys)


def told(acks, camera="top"):
    return [(finding.code, finding.data()) for finding in acks.take(camera)]


def test_a_verdict_that_is_acknowledged_in_time_is_matched_and_nothing_is_told(acks):
    expect(acks, 1)
    assert hear(acks, 1) == "matched"
    acks.tick(5000 * MS)
    assert counts(acks, *VERDICTS) == (1, 0, 0, 0)
    assert (told(acks), acks.missing_now) == ([], ())


def test_verdicts_without_an_ack_are_missing_as_one_range_per_camera(acks):
    expect(acks, 4, 5, 6, at_ms=0)
    expect(acks, 9, camera="side", at_ms=900)
    hear(acks, 5)
    acks.tick(1500 * MS)
    assert counts(acks, *VERDICTS) == (1, 2, 0, 1)
    assert told(acks) == [("acks_missing", {"camera": "top", "first_seq": 4, "last_seq": 6, "count": 2})]
    assert told(acks) == told(acks, "side") == []


def test_an_ack_that_was_received_in_time_counts_though_it_is_heard_after_the_limit(acks):
    expect(acks, 1)
    acks.tick(1050 * MS)
    assert hear(acks, 1, at_ms=999) == "matched"


def test_an_ack_that_is_received_too_late_is_late_and_its_verdict_missing_whoever_sees_it_first(acks):
    expect(acks, 1, 2)
    assert hear(acks, 1, at_ms=1001) == "late"
    acks.tick(1200 * MS)
    assert hear(acks, 2, at_ms=1201) == "late"
    assert counts(acks, "missing", "late", "acknowledged") == (2, 2, 0)
    span = {"camera": "top", "first_seq": 1, "last_seq": 2, "count": 2}
    assert told(acks) == [("acks_missing", span), ("acks_late", span)]


def test_a_second_ack_is_a_duplicate_and_is_not_compared(acks):
    expect(acks, 1)
    assert [hear(acks, 1), hear(acks, 1, action="pass")] == ["matched", "duplicate"]
    assert counts(acks, "acknowledged", "duplicate", "contradicts") == (1, 1, 0)


@pytest.mark.parametrize(
    "others",
    [
        {"session": "another"},
        {"seq": 2},
        {"camera": "none"},
        {"camera": "side"},
        {"session": None, "trigger_id": "unknown"},
        {"trigger_id": "that of another part"},
        {"session": None, "seq": 2, "trigger_id": "t1"},
    ],
)
def test_an_ack_that_names_no_verdict_of_this_session_is_unmatched(acks, others):
    expect(acks, 1, trigger_id="t1")
    assert hear(acks, **{"seq": 1, **others}) == "unmatched"
    assert counts(acks, "unmatched", "acknowledged", "waiting") == (1, 0, 1)


def test_a_verdict_is_also_found_by_its_trigger(acks):
    expect(acks, 1, trigger_id="t1")
    assert hear(acks, session=None, trigger_id="t1") == "matched"
    assert hear(acks, 1, trigger_id="t1") == "duplicate"


def test_what_was_told_as_unsent_is_not_missing_but_may_be_acknowledged(acks):
    expect(acks, 1, 2)
    acks.forget("top", 1)
    acks.forget("top", 2)
    acks.forget("top", 3)
    acks.tick(5000 * MS)
    assert counts(acks, *VERDICTS) == (0, 0, 2, 0)
    assert hear(acks, 2, at_ms=7000) == "matched"
    assert counts(acks, *VERDICTS) == (1, 0, 1, 0)
    assert (told(acks), acks.missing_now) == ([], ())


def test_what_is_known_to_be_acknowledged_is_not_forgotten(acks):
    expect(acks, 1)
    hear(acks, 1)
    acks.forget("top", 1)
    assert counts(acks, *VERDICTS) == (1, 0, 0, 0)


@pytest.mark.parametrize("verdict", ["reject", "unknown"])
def test_an_arm_that_did_nothing_about_a_verdict_is_told_with_its_reasons(acks, verdict):
    expect(acks, 1, 2, 3, verdict=verdict)
    for seq, why in ((1, "stale"), (2, "late_pulse"), (3, "stale")):
        assert hear(acks, seq, action="none", why=why) == "matched"
    assert counts(acks, "acknowledged", "not_done", "not_done.stale", "not_done.late_pulse") == (3, 3, 2, 1)
    assert told(acks) == [
        ("verdicts_not_done", {"camera": "top", "first_seq": 1, "last_seq": 3, "count": 2, "why": "stale"}),
        ("verdicts_not_done", {"camera": "top", "first_seq": 2, "last_seq": 2, "count": 1, "why": "late_pulse"}),
    ]


def test_an_arm_that_does_nothing_about_a_pass_did_as_it_says(acks):
    expect(acks, 1, verdict="pass")
    hear(acks, 1, action="none", why="stale")
    assert counts(acks, "acknowledged", "not_done", "contradicts") == (1, 0, 0)


@pytest.mark.parametrize(
    ("verdict", "action", "contradicts"),
    [
        ("pass", "pass", 0),
        ("pass", "reject", 1),
        ("pass", "stop", 1),
        ("reject", "reject", 0),
        ("reject", "pass", 1),
        ("reject", "stop", 0),
        ("unknown", "reject", 0),
        ("unknown", "pass", 0),
        ("unknown", "stop", 0),
    ],
)
def test_what_the_arm_did_is_compared_with_the_verdict(acks, verdict, action, contradicts):
    expect(acks, 1, verdict=verdict)
    hear(acks, 1, action=action)
    assert counts(acks, "contradicts", "not_done") == (contradicts, 0)
    facts = {"camera": "top", "first_seq": 1, "last_seq": 1, "count": 1, "verdict": verdict, "action": action}
    assert told(acks) == [("verdicts_contradicted", facts)] * contradicts


def test_what_a_late_ack_says_the_arm_did_counts_too(acks):
    expect(acks, 1)
    hear(acks, 1, at_ms=2000, action="none", why="stale")
    assert counts(acks, "late", "not_done") == (1, 1)


def test_the_reasons_of_arms_are_bounded_in_number_and_size(acks):
    expect(acks, *range(1, 101))
    for seq in range(1, 101):
        hear(acks, seq, action="none", why=f"{seq:02}" + "ä" * 60)
    kinds = {key: count for key, count in acks.counts.items() if key.startswith("not_done.")}
    assert len(kinds) == MOST_WHYS + 1
    assert kinds["not_done.other"] == 100 - MOST_WHYS
    assert max(len(key.encode()) for key in kinds) <= 64


def test_a_camera_is_without_acks_while_the_newest_that_was_due_has_none(acks):
    expect(acks, 1, at_ms=0)
    acks.tick(1200 * MS)
    assert acks.missing_now == ("top",)
    expect(acks, 2, at_ms=1300)
    assert acks.missing_now == ("top",)
    hear(acks, 2, at_ms=1310)
    assert acks.missing_now == ()


def test_a_late_ack_of_an_older_verdict_is_no_recovery_and_that_of_the_newest_is(acks):
    expect(acks, 1, 2)
    acks.tick(1200 * MS)
    hear(acks, 1, at_ms=1300)
    assert acks.missing_now == ("top",)
    hear(acks, 2, at_ms=1300)
    assert acks.missing_now == ()


def test_a_verdict_whose_ack_is_missing_while_a_newer_one_has_its_ack_is_told_and_no_more(acks):
    expect(acks, 1, 2)
    hear(acks, 2)
    acks.tick(1200 * MS)
    assert acks.missing_now == ()
    assert counts(acks, "acknowledged", "missing") == (1, 1)


def test_the_limit_may_change_for_what_waits(acks):
    expect(acks, 1)
    acks.within_ms = 100
    acks.tick(250 * MS)
    assert counts(acks, "missing", "waiting") == (1, 0)


def test_the_way_there_and_back_is_measured(acks):
    assert acks.round_trip() is None
    expect(acks, *range(1, 101))
    for seq in range(1, 101):
        hear(acks, seq, at_ms=seq)
    trip = acks.round_trip()
    assert (trip.p50, trip.p99, trip.max) == pytest.approx((50.5, 99.01, 100))


def test_every_verdict_and_every_ack_ends_as_one_thing_whatever_comes(acks):
    expect(acks, *range(1, 301))
    outcomes = [hear(acks, seq) for seq in range(2, 303, 3)]
    for seq in range(3, 301, 3):
        acks.forget("top", seq)
    outcomes += [hear(acks, seq) for seq in range(3, 301, 7)]
    acks.tick(1200 * MS)
    outcomes += [hear(acks, seq, at_ms=1500) for seq in range(1, 301, 5)]
    assert sum(counts(acks, *VERDICTS)) == 300
    for outcome in ACKS:
        assert acks.counts[outcome] == outcomes.count(outcome)
    assert len(outcomes) == sum(counts(acks, *ACKS)) + outcomes.count("matched")


def test_memory_is_bounded_when_acks_come_and_when_none_do():
    acks = Acks(("top",), 600_000, SESSION)
    for seq in range(1, 50_001):
        acks.expect("top", seq, f"t{seq}", "pass", seq)
    known = acks._cameras["top"]
    assert (len(known.open), len(known.settled), len(known.triggers)) == (20_000, KEPT, 20_000 + KEPT)
    for seq in range(30_001, 50_001):
        hear(acks, seq, action="pass")
    assert (len(known.open), len(known.settled), len(known.triggers)) == (0, KEPT, KEPT)
    assert sum(counts(acks, *VERDICTS)) == 50_000


def test_an_ack_of_what_is_not_remembered_any_more_is_unmatched(acks):
    expect(acks, *range(1, KEPT + 3))
    for seq in range(1, KEPT + 3):
        hear(acks, seq)
    assert [hear(acks, 1), hear(acks, KEPT)] == ["unmatched", "duplicate"]


def test_threads_that_expect_hear_and_look_lose_nothing():
    acks = Acks(("top",), 10, SESSION)
    sent = threading.Event()

    def send():
        for seq in range(1, 3001):
            acks.expect("top", seq, None, "pass", time.monotonic_ns())
        sent.set()

    def listen():
        for seq in range(1, 3001, 2):
            while hear(acks, seq, at_ms=time.monotonic() * 1e3, action="pass") == "unmatched":
                time.sleep(0)

    threads = [threading.Thread(target=send), threading.Thread(target=listen)]
    for thread in threads:
        thread.start()
    while not sent.is_set():
        acks.tick(time.monotonic_ns())
        time.sleep(0.001)
    for thread in threads:
        thread.join()
    acks.tick(time.monotonic_ns() + 1000 * MS)
    assert counts(acks, "waiting", "duplicate") == (0, 0)
    assert sum(counts(acks, *VERDICTS)) == 3000
    assert sum(counts(acks, "acknowledged", "late")) == 1500
