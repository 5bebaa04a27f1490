"""The judge, on messages of agents whose clocks, sessions and delays are known."""

import json
import re
import statistics
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.actuator.judge import CLOCK_DRIFT, LOST_MS, SESSIONS_MOST, Letter, Ruling
from edge_agent.actuator.messages import MODELS, parse
from tests.actuator.letters import VALID_MS, Sender, alarms, hear, judge, rulings
from tests.fixtures import REPO

ACTED = [("verdict", "reject", "verdict")]


@pytest.fixture
def agent():
    return Sender()


@pytest.fixture
def arm(agent):
    """A judge that has heard a heartbeat of the agent."""
    arm = judge()
    arm.hear(agent.heartbeat(1000))
    return arm


# --- age ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_ms", [0, 88e6, 1e12])
def test_age_does_not_depend_on_what_the_two_clocks_show(ahead_ms):
    agent, arm = Sender(ahead_ms=ahead_ms), judge()
    arm.hear(agent.heartbeat(1000, took_ms=0.5))
    [late] = arm.hear(agent.verdict(1100, took_ms=200.5))
    assert late.age_ms == pytest.approx(200, abs=0.2)
    assert late.remaining_ms == pytest.approx(VALID_MS - 200, abs=0.2)
    assert late.action == "reject"


@pytest.mark.parametrize(("took_ms", "found"), [(599, ("reject", "verdict")), (602, ("none", "stale"))])
def test_a_verdict_that_lost_more_than_its_validity_on_the_way_is_stale(agent, arm, took_ms, found):
    hear(arm, *(agent.heartbeat(1000 + n * 250) for n in range(1, 7)))
    [ruling] = arm.hear(agent.verdict(2000, took_ms=took_ms))
    assert (ruling.action, ruling.why) == found


def test_a_faster_message_makes_all_later_ones_older(agent):
    arm = judge()
    arm.hear(agent.heartbeat(1000, took_ms=300))
    [before] = rulings_of(arm.hear(agent.verdict(1200, took_ms=300)))
    arm.hear(agent.heartbeat(1500, took_ms=1))
    [after] = rulings_of(arm.hear(agent.verdict(1600, took_ms=300)))
    assert before.age_ms == pytest.approx(0, abs=0.2)
    assert after.age_ms == pytest.approx(299, abs=0.2)


def test_a_new_session_starts_anew(agent, arm):
    arm.hear(agent.verdict(1100))
    restarted = Sender("s2", ahead_ms=-500)
    [back] = rulings_of(hear(arm, restarted.heartbeat(1200), restarted.verdict(1300)))
    assert (back.seq, back.action, back.age_ms) == (1, "reject", pytest.approx(0, abs=0.1))


def test_clocks_that_run_apart_for_a_day_make_nothing_stale(agent):
    arm = judge()
    apart = 100e-6  # two crystals of 50 ppm each
    for second in range(0, 86_400, 60):
        agent.ahead_ms = 88e6 - second * 1000 * apart
        arm.hear(agent.heartbeat(second * 1000, last={}))
    [ruling] = rulings_of(arm.hear(agent.verdict(86_340_500)))
    assert ruling.age_ms == pytest.approx(0, abs=1)
    assert not arm.is_lost


def test_what_is_forgiven_for_clocks_that_run_apart_is_little(agent, arm):
    hear(arm, *(agent.heartbeat(1000 + n * 250, took_ms=0.5 + 200 * (n > 0)) for n in range(41)))
    [ruling] = rulings_of(arm.hear(agent.verdict(11_300, took_ms=200.5)))
    assert ruling.age_ms == pytest.approx(200, abs=10_500 * CLOCK_DRIFT)


def test_a_verdict_that_ends_before_its_pulse_is_dropped(agent):
    arm = judge(delay_ms=VALID_MS)
    arm.hear(agent.heartbeat(1000))
    assert rulings(arm.hear(agent.verdict(1100))) == [("verdict", "none", "too_late")]
    assert rulings(arm.hear(agent.verdict(1200, "pass"))) == [("verdict", "pass", "verdict")]


# --- what is dropped ------------------------------------------------------------------------------------------------


def test_a_verdict_that_comes_twice_is_acted_on_once(agent, arm):
    letter = agent.verdict(1100)
    again = replace(letter, received_ms=letter.received_ms + 5)
    assert rulings(hear(arm, letter, again)) == [*ACTED, ("verdict", "none", "duplicate")]


def test_the_same_number_of_another_camera_or_session_is_another_verdict(agent, arm):
    other = Sender("s2")
    found = hear(arm, agent.verdict(1100), agent.verdict(1101, seq=1, camera="side"))
    found += hear(arm, other.heartbeat(1102), other.verdict(1103))
    assert rulings(found) == ACTED * 3


@pytest.mark.parametrize("name", ["verdict", "heartbeat"])
def test_what_the_broker_had_kept_is_dropped(agent, name):
    arm = judge()
    send = getattr(agent, name)
    assert rulings(arm.hear(send(1000, retained=True))) == [(name, "none", "retained")]
    assert arm.is_lost


def test_a_verdict_before_any_heartbeat_of_its_session_is_dropped(agent, arm):
    assert rulings(arm.hear(Sender("other").verdict(1100))) == [("verdict", "none", "no_heartbeat")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema":"edge-agent/verdict/2"}',
        b'{"seq":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "null", "list", "no UTF-8", "deep", "another schema", "digits"],
)
@pytest.mark.parametrize("name", MODELS)
def test_a_message_that_is_none_is_dropped_by_its_name(arm, name, payload):
    found = arm.hear(Letter(name, "top" if name == "verdict" else None, payload, retained=False, received_ms=1100))
    assert rulings(found) == [(name, "none", "malformed")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": 0},
        {"seq": "1"},
        {"seq": 1 << 60},
        {"verdict": "maybe"},
        {"sent_mono_ms": 1e300},
        {"sent_mono_ms": -1},
        {"sent_mono_ms": None},
        {"at": "2026-11-21T09:14:03"},
        {"valid_until": "soon"},
        {"session": ""},
        {"session": "x" * 65},
        {"camera": "side"},
        {"part_id": 7},
    ],
    ids=str,
)
def test_a_verdict_with_a_wrong_field_is_dropped(agent, arm, wrong):
    letter = agent.verdict(1100)
    fields = {**json.loads(letter.payload), **wrong}
    found = arm.hear(replace(letter, payload=json.dumps(fields).encode()))
    assert rulings(found) == [("verdict", "none", "malformed")]


@given(st.binary(max_size=200), st.sampled_from(sorted(MODELS)))
def test_no_bytes_whatever_make_it_fail(payload, name):
    assert rulings(judge().hear(Letter(name, "top", payload, False, 5.0))) == [(name, "none", "malformed")]


def test_every_example_of_the_documentation_is_understood():
    text = (REPO / "docs" / "messages.md").read_text()
    read = 0
    for block in re.findall(r"(?s)```json\n(.*?)```", text):
        name = json.loads(block)["schema"].split("/")[1]
        if name in MODELS:
            assert parse(name, block.encode()).session
            read += 1
    assert read >= 5


def test_more_sessions_than_are_remembered_cost_the_silent_ones(agent, arm):
    hear(arm, *(Sender(f"x{n}").heartbeat(1100 + n) for n in range(SESSIONS_MOST)))
    assert rulings(arm.hear(agent.verdict(1200))) == [("verdict", "none", "no_heartbeat")]


# --- unknown, and gaps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["reject", "pass", "stop"])
def test_unknown_gets_what_the_arm_itself_was_told(agent, policy):
    arm = judge(on_unknown=policy)
    arm.hear(agent.heartbeat(1000))
    assert rulings(arm.hear(agent.verdict(1100, "unknown"))) == [("verdict", policy, "on_unknown")]


@pytest.mark.parametrize("policy", ["reject", "pass", "stop"])
def test_a_gap_counts_as_unknown_parts(agent, policy):
    arm = judge(on_unknown=policy)
    hear(arm, agent.heartbeat(1000), agent.verdict(1100, seq=1))
    gap, verdict = rulings_of(arm.hear(agent.verdict(1200, "pass", seq=5)))
    assert (gap.kind, gap.action, gap.why, gap.seq, gap.count) == ("gap", policy, "gap", 2, 3)
    assert (verdict.seq, verdict.action) == (5, "pass")


def test_verdicts_from_before_the_arm_came_are_not_missing(agent, arm):
    agent.seq = 1833
    arm = judge()
    hear(arm, agent.heartbeat(1000))
    assert rulings(arm.hear(agent.verdict(1100))) == ACTED


def test_a_verdict_that_the_first_heartbeat_overtook_is_acted_on(agent):
    arm = judge()
    agent.seq = 6
    hear(arm, agent.heartbeat(1000))
    assert rulings(arm.hear(agent.verdict(999, seq=6, took_ms=5))) == ACTED


def test_a_gap_at_the_end_is_found_by_the_second_heartbeat_that_names_it(agent, arm):
    arm.hear(agent.verdict(1100, seq=1))
    first = rulings_of(arm.hear(agent.heartbeat(1250, last={"top": 3})))
    [gap] = rulings_of(arm.hear(agent.heartbeat(1500, last={"top": 3})))
    assert first == []
    assert (gap.action, gap.seq, gap.count, gap.camera) == ("reject", 2, 2, "top")
    assert rulings_of(arm.hear(agent.heartbeat(1750, last={"top": 3}))) == []


def test_a_verdict_just_behind_the_heartbeat_that_names_it_is_no_gap(agent, arm):
    found = hear(arm, agent.heartbeat(1250, last={"top": 1}), agent.verdict(1251, seq=1), agent.heartbeat(1500))
    assert rulings(found) == ACTED


def test_heartbeats_out_of_a_stall_say_nothing_of_verdicts_that_stand_behind_them(agent, arm):
    waiting = [agent.verdict(1100, took_ms=400), agent.verdict(1350, took_ms=151)]
    beats = [agent.heartbeat(1250, took_ms=249), agent.heartbeat(1500, took_ms=0.5)]
    assert [ruling.why for ruling in hear(arm, *beats, *waiting)] == ["verdict", "verdict"]
    assert hear(arm, agent.heartbeat(1750), agent.heartbeat(2000)) == []


def test_a_gap_is_found_by_the_heartbeats_after_a_stall(agent, arm):
    agent.verdict(1100)
    hear(arm, agent.heartbeat(1250, took_ms=249), agent.heartbeat(1500, took_ms=0.5))
    [gap] = hear(arm, agent.heartbeat(1750))
    assert (gap.kind, gap.seq) == ("gap", 1)


def test_a_verdict_behind_its_own_gap_is_not_acted_on_again(agent, arm):
    hear(arm, agent.verdict(1100, seq=3))
    assert rulings(arm.hear(agent.verdict(1090, seq=2, took_ms=20))) == [("verdict", "none", "duplicate")]


def test_a_gap_from_a_time_of_agent_loss_is_counted_and_no_more(agent, arm):
    arm.hear(agent.verdict(1100, seq=1))
    arm.tick(5000)
    hear(arm, agent.heartbeat(6000, last={"top": 4}))
    assert rulings(arm.hear(agent.verdict(6100, seq=5))) == [("gap", "none", "gap_while_lost"), *ACTED]
    assert rulings(arm.hear(agent.verdict(6200, seq=7))) == [("gap", "reject", "gap"), *ACTED]


def test_parts_that_go_missing_after_a_loss_are_acted_on_also_before_the_next_verdict(agent, arm):
    arm.hear(agent.verdict(1100, seq=1))
    arm.tick(5000)
    beats = [agent.heartbeat(6000 + n * 250, last={"top": last}) for n, last in enumerate([3, 5, 5, 5])]
    found = rulings_of(hear(arm, *beats))
    assert [(it.action, it.why, it.seq, it.count) for it in found] == [
        ("none", "gap_while_lost", 2, 2),
        ("reject", "gap", 4, 2),
    ]


def test_a_gap_among_verdicts_that_come_while_the_agent_is_lost_is_counted_and_no_more(agent, arm):
    hear(arm, agent.verdict(1100, seq=1), agent.state(1200, "error"))
    found = rulings(hear(arm, agent.verdict(1300, seq=2), agent.verdict(1400, seq=5)))
    assert found == [
        ("verdict", "none", "agent_lost"),
        ("gap", "none", "gap_while_lost"),
        ("verdict", "none", "agent_lost"),
    ]


# --- agent loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["reject", "pass", "stop"])
def test_silence_of_one_and_a_half_seconds_is_agent_loss_until_the_next_heartbeat(agent, policy):
    arm = judge(on_agent_loss=policy)
    assert alarms(arm.begin(0)) == [("agent_lost", policy, "start")]
    assert alarms(arm.hear(agent.heartbeat(1000))) == [("agent_back", "none", "heartbeat")]
    assert alarms(arm.tick(1000 + LOST_MS)) == []
    assert alarms(arm.tick(1002 + LOST_MS)) == [("agent_lost", policy, "no_heartbeat")]
    assert alarms(arm.tick(9000)) == []
    assert alarms(arm.hear(agent.heartbeat(9500))) == [("agent_back", "none", "heartbeat")]


@pytest.mark.parametrize("state", ["starting", "error", "offline"])
def test_a_state_in_which_the_agent_cannot_judge_is_agent_loss_at_once(agent, arm, state):
    assert alarms(arm.hear(agent.state(1100, state))) == [("agent_lost", "stop", state)]
    assert rulings(arm.hear(agent.verdict(1110))) == [("verdict", "none", "agent_lost")]
    assert alarms(arm.hear(agent.state(1200, "running"))) == [("agent_back", "none", "heartbeat")]


@pytest.mark.parametrize("state", ["ready", "running", "degraded"])
def test_other_states_are_none(agent, arm, state):
    assert alarms(arm.hear(agent.state(1100, state))) == []
    assert rulings(arm.hear(agent.verdict(1110))) == ACTED


def test_a_retained_running_without_a_heartbeat_is_not_believed(agent):
    arm = judge()
    assert arm.hear(agent.state(1000, "running", retained=True)) == []
    assert arm.is_lost


def test_the_will_of_an_old_session_does_not_stop_the_new_one(agent, arm):
    restarted = Sender("s2")
    hear(arm, restarted.heartbeat(1200))
    assert alarms(arm.hear(agent.state(1300, "offline"))) == []
    assert not arm.is_lost


def test_heartbeats_that_come_late_are_no_sign_of_life(agent, arm):
    arm.tick(6000)
    late = [agent.heartbeat(1250 + n * 250, took_ms=5000) for n in range(4)]
    assert alarms(hear(arm, *late)) == []
    assert arm.is_lost


def test_a_heartbeat_that_comes_twice_is_no_sign_of_life(agent):
    arm = judge()
    beat = agent.heartbeat(1000)
    found = hear(arm, beat, replace(beat, received_ms=2400.0))
    assert rulings(found) == [("heartbeat", "none", "duplicate")]
    assert alarms(arm.tick(2600)) == [("agent_lost", "stop", "no_heartbeat")]


def test_a_verdict_while_the_agent_is_lost_is_not_acted_on(agent, arm):
    assert rulings(arm.hear(agent.verdict(5000))) == [("verdict", "none", "agent_lost")]


# --- birth ----------------------------------------------------------------------------------------------------------


def test_a_difference_to_the_birth_is_an_alarm_once(agent, arm):
    found = hear(arm, agent.birth(1100, "pass", "stop"), agent.birth(1200, "pass", "stop", retained=True))
    words = "on_unknown: the agent recommends pass, this arm does reject"
    assert alarms(found) == [("policy_differs", "none", words)]


def test_a_birth_that_agrees_is_no_alarm_and_a_later_difference_is_one(agent, arm):
    found = hear(arm, agent.birth(1100, "reject", "stop"), agent.birth(1200, "stop", "pass"))
    [(code, _, words)] = alarms(found)
    assert code == "policy_differs"
    assert words.count("recommends") == 2


def test_a_birth_is_compared_once_its_session_shows_a_heartbeat(agent):
    arm = judge()
    assert arm.hear(agent.birth(900, "pass", "pass", retained=True)) == []
    assert [code for code, *_ in alarms(arm.hear(agent.heartbeat(1000)))] == ["policy_differs", "agent_back"]


def test_a_verdict_takes_much_less_than_a_millisecond(agent, arm):
    letters = [agent.verdict(1000 + n * 0.4) for n in range(500)]
    took_ns = []
    for letter in letters:
        began_ns = time.perf_counter_ns()
        [ruling] = arm.hear(letter)
        took_ns.append(time.perf_counter_ns() - began_ns)
        assert ruling.action == "reject"
    assert statistics.median(took_ns) < 500_000  # of a busy machine; 0.03 ms measured on a quiet one


# --- whatever comes -------------------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["heartbeat", "verdict", "state"]),
        st.integers(0, 2),  # session
        st.floats(0, 5000),  # sent
        st.floats(0.1, 3000),  # took
        st.integers(1, 12),  # seq
        st.sampled_from(["top", "side"]),
    ),
    min_size=1,
    max_size=40,
)


@given(MESSAGES, st.floats(0, 400))
def test_whatever_the_order_and_delays_nothing_stale_and_nothing_twice_is_executed(sent, delay_ms):
    arm = judge(delay_ms=delay_ms)
    senders = [Sender(f"s{n}", ahead_ms=n * 1e7) for n in range(3)]
    fastest, done = {}, set()
    for name, session, sent_ms, took_ms, seq, camera in sorted(sent, key=lambda it: it[2] + it[3]):
        sender = senders[session]
        if name == "state":
            arm.hear(sender.state(sent_ms + took_ms, "running"))
            continue
        if name == "heartbeat":
            letter = sender.heartbeat(sent_ms, last={camera: seq}, took_ms=took_ms)
        else:
            letter = sender.verdict(sent_ms, seq=seq, camera=camera, took_ms=took_ms)
        found = rulings_of(arm.hear(letter))
        if name == "heartbeat" or not any(it.why == "no_heartbeat" for it in found):
            fastest[session] = min(fastest.get(session, took_ms), took_ms)
        for ruling in found:
            if ruling.kind == "verdict" and ruling.action != "none":
                assert took_ms + delay_ms < VALID_MS + fastest[session] + 8000 * CLOCK_DRIFT
                assert (session, camera, ruling.seq) not in done
                done.add((session, camera, ruling.seq))


@given(MESSAGES)
def test_each_verdict_gets_exactly_one_ruling(sent):
    arm, senders = judge(), [Sender(f"s{n}") for n in range(3)]
    hear(arm, senders[0].heartbeat(0, took_ms=0), senders[1].heartbeat(0, took_ms=0))
    for _, session, sent_ms, took_ms, seq, camera in sorted(sent, key=lambda it: it[2] + it[3]):
        found = rulings_of(arm.hear(senders[session].verdict(sent_ms, seq=seq, camera=camera, took_ms=took_ms)))
        assert [it.kind for it in found if it.kind == "verdict"] == ["verdict"]
        assert all(it.why for it in found)


def rulings_of(findings):
    return [it for it in findings if isinstance(it, Ruling)]
