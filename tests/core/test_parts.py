import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.parts import MAX_REASONS, Decision, Ledger, Reason, combine
from tests.builders import MS


def ledger(deadline_ms=100, valid_ms=600):
    return Ledger(deadline_ms, valid_ms)


def test_parts_are_numbered_per_camera_from_one():
    parts = ledger()
    ids = [parts.open(camera, 0).id for camera in ("top", "side", "top")]
    assert ids == ["top-1", "side-1", "top-2"]


def test_deadline_and_validity_count_from_capture():
    part = ledger(deadline_ms=150, valid_ms=600).open("top", 7 * MS)
    assert (part.deadline_ns, part.valid_until_ns) == (157 * MS, 607 * MS)


def test_a_part_keeps_what_came_with_its_trigger():
    part = ledger().open("top", 0, trigger_id="t9", position=1.5)
    assert (part.trigger_id, part.position) == ("t9", 1.5)


def test_new_limits_are_for_new_parts():
    parts = ledger(deadline_ms=100)
    before = parts.open("top", 0)
    parts.set_limits(200, 900)
    after = parts.open("top", 0)
    assert (before.deadline_ns, after.deadline_ns, after.valid_until_ns) == (100 * MS, 200 * MS, 900 * MS)


def test_a_part_is_closed_once():
    parts = ledger()
    part = parts.open("top", 0)
    assert [parts.close(part), parts.close(part)] == [True, False]
    assert (parts.opened, parts.closed) == (1, 1)


def test_parts_expire_at_their_deadline_and_not_before():
    parts = ledger(deadline_ms=100)
    part = parts.open("top", 0)
    assert parts.expire(100 * MS - 1) == []
    assert parts.expire(100 * MS) == [part]
    assert parts.expire(100 * MS) == []
    assert not parts.close(part)


def test_the_most_overdue_part_is_reported_first():
    parts = ledger(deadline_ms=100)
    late, later, _ = (parts.open("top", captured_ms * MS) for captured_ms in (5, 1, 50))
    assert parts.expire(120 * MS) == [later, late]


def test_the_next_deadline_is_the_earliest_of_the_open_parts():
    parts = ledger(deadline_ms=100)
    assert parts.next_deadline_ns() is None
    second, first = parts.open("top", 9 * MS), parts.open("side", 3 * MS)
    assert parts.next_deadline_ns() == first.deadline_ns
    parts.close(first)
    assert parts.next_deadline_ns() == second.deadline_ns
    parts.close_all()
    assert parts.next_deadline_ns() is None


def test_closing_all_gives_what_was_open():
    parts = ledger()
    done, *left = (parts.open("top", i) for i in range(3))
    parts.close(done)
    assert parts.close_all() == left
    assert parts.close_all() == []
    assert parts.opened == parts.closed == 3


def test_a_ledger_that_is_shut_opens_no_more():
    parts = ledger()
    part = parts.open("top", 0)
    assert parts.shut() == [part]
    late = parts.open("top", 1)
    assert not parts.close(late)
    assert parts.opened == parts.closed == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["open", "close", "close_again", "expire", "close_all"]), max_size=60), st.data())
def test_opened_is_closed_plus_open_after_every_step(steps, data):
    parts, everything, closed, now_ns = ledger(deadline_ms=5), [], [], 0
    for step in steps:
        now_ns += MS
        if step == "open":
            everything.append(parts.open(data.draw(st.sampled_from(["a", "b"])), now_ns))
        elif step == "close" and everything:
            part = data.draw(st.sampled_from(everything))
            closed += [part] if parts.close(part) else []
        elif step == "close_again" and closed:
            assert not parts.close(data.draw(st.sampled_from(closed)))
        elif step == "expire":
            closed += parts.expire(now_ns)
        elif step == "close_all":
            closed += parts.close_all()
        assert parts.opened == len(everything)
        assert parts.closed == len(closed) == len({part.id for part in closed})
    closed += parts.close_all()
    assert {part.id for part in closed} == {part.id for part in everything}
    assert parts.opened == parts.closed


def check_balance(parts):
    with parts._lock:
        assert parts.opened == parts.closed + len(parts._open)


@pytest.mark.parametrize("seed", range(5))
def test_racing_threads_close_each_part_exactly_once(seed):
    parts, opened, closed, failures = ledger(deadline_ms=1), [], [], []
    start, done, dice = threading.Barrier(6), threading.Event(), random.Random(seed)

    def race(action):
        try:
            start.wait(10)
            while not done.is_set():
                action()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failures.append(error)

    def open_them():
        opened.extend(parts.open(f"camera{number % 3}", number * 1000) for number in range(2000))
        done.set()

    def close_one():  # twice such a closer, as the pipeline would
        part = dice.choice(opened[-50:] or [None])
        closed.extend([part] if part and parts.close(part) else [])

    actions = [
        open_them,
        close_one,
        close_one,
        lambda: closed.extend(parts.expire(opened[-1].since_ns if opened else 0)),
        lambda: closed.extend(parts.close_all()),
        lambda: check_balance(parts),
    ]
    threads = [threading.Thread(target=race, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    closed += parts.close_all()
    assert sorted(part.id for part in closed) == sorted(part.id for part in opened)
    assert parts.opened == parts.closed == 2000


def test_reject_outweighs_unknown_outweighs_pass():
    reject, unknown, good = Decision("reject"), Decision.unknown("low_confidence"), Decision("pass")
    assert combine([good, unknown, reject]).verdict == "reject"
    assert combine([good, unknown, good]) == unknown
    assert combine([good, good]) == good


def test_without_rules_nothing_objects():
    assert combine([]) == Decision("pass")


def test_only_the_reasons_of_the_winning_word_are_given_best_score_first():
    decisions = [
        Decision("unknown", (Reason("a", "dent", 0.99, "low_confidence"),)),
        Decision("reject", (Reason("b", "crack", 0.6), Reason("b", "chip", 0.8))),
        Decision("reject", (Reason("c", "cap"),)),
    ]
    assert [reason.label for reason in combine(decisions).reasons] == ["cap", "chip", "crack"]


WORDS = st.sampled_from(["pass", "reject", "unknown"])
REASONS = st.builds(Reason, st.just("r"), st.sampled_from("abc"), st.none() | st.floats(0, 1))
DECISIONS = st.builds(Decision, WORDS, st.lists(REASONS, max_size=6).map(tuple))


@settings(deadline=None)
@given(st.lists(DECISIONS, max_size=8))
def test_a_combination_never_has_more_than_four_reasons(decisions):
    combined = combine(decisions)
    given_reasons = [r for d in decisions if d.verdict == combined.verdict for r in d.reasons]
    assert len(combined.reasons) == min(MAX_REASONS, len(given_reasons))


@settings(deadline=None)
@given(st.lists(DECISIONS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_rules_does_not_change_the_verdict(decisions, random):
    shuffled = random.sample(decisions, len(decisions))
    assert combine(shuffled).verdict == combine(decisions).verdict
