"""What every rule promises, on every kind: see `edge_agent.core.ports.Rule`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import plugins
from edge_agent.core.parts import MAX_REASONS, combine
from edge_agent.wire.messages import Reason
from tests.builders import make_observation

LABELS = ("crack", "dent", "cap", "screw", "label", "chip")
SETTINGS = {
    "defect": {"reject": LABELS, "min_frames": 2},
    "presence": {"require": LABELS},
    "count": {"label": "screw", "min": 1, "max": 2},
}
FRAMES = st.lists(st.lists(st.tuples(st.sampled_from((*LABELS, "other")), st.floats(0, 1)), max_size=8), max_size=8)


each_kind = pytest.mark.parametrize("kind", plugins.kinds("rules"))


def make_rule(kind):
    module = plugins.load("rules", kind)
    return module.create(module.Config(**SETTINGS[kind]))


def watch(rule, frames):
    for found in frames:
        rule.update(make_observation(*found))
    return rule.decide()


@each_kind
def test_the_kind_in_the_configuration_is_the_name_of_the_file(kind):
    assert plugins.load("rules", kind).Config(**SETTINGS[kind]).kind == kind


@each_kind
def test_a_rule_that_saw_no_frame_has_not_looked(kind):
    decision = make_rule(kind).decide()
    assert (decision.verdict, [reason.code for reason in decision.reasons]) == ("unknown", ["no_frame"])


@each_kind
def test_an_empty_frame_can_be_judged(kind):
    assert watch(make_rule(kind), [[]]).verdict in {"pass", "reject"}


@each_kind
@settings(deadline=None)
@given(frames=FRAMES)
def test_the_same_observations_give_the_same_decision(kind, frames):
    assert watch(make_rule(kind), frames) == watch(make_rule(kind), frames)


@each_kind
@settings(deadline=None)
@given(frames=FRAMES)
def test_to_decide_changes_nothing(kind, frames):
    asked, silent = make_rule(kind), make_rule(kind)
    for found in frames:
        asked.update(make_observation(*found))
        silent.update(make_observation(*found))
        asked.decide()
    assert asked.decide() == silent.decide()


@each_kind
@settings(deadline=None)
@given(frames=FRAMES)
def test_one_part_knows_nothing_of_the_part_before(kind, frames):
    watch(make_rule(kind), [[(label, 0.9) for label in LABELS]] * 3)
    assert watch(make_rule(kind), frames) == watch(make_rule(kind), frames)


@each_kind
@settings(deadline=None)
@given(frames=FRAMES)
def test_the_order_within_a_frame_does_not_change_the_verdict(kind, frames):
    turned = [found[::-1] for found in frames]
    assert watch(make_rule(kind), frames).verdict == watch(make_rule(kind), turned).verdict


@each_kind
@settings(deadline=None)
@given(frames=FRAMES)
def test_reasons_are_bounded_can_be_sent_and_stand_only_where_it_is_no_pass(kind, frames):
    decision = watch(make_rule(kind), frames)
    assert bool(decision.reasons) == (decision.verdict != "pass")
    assert len(decision.reasons) <= len(LABELS)
    assert len(combine([decision]).reasons) <= MAX_REASONS
    for reason in decision.reasons:
        Reason(code=reason.code, rule=reason.rule, label=reason.label, score=reason.score)
        assert (reason.code is not None) == (decision.verdict == "unknown")
