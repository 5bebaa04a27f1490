import pytest
from pydantic import ValidationError

from edge_agent.core.parts import Decision, Reason
from edge_agent.rules import presence
from tests.builders import make_observation


def decide(*frames, require=("cap", "label"), **settings):
    rule = presence.create(presence.Config(require=require, **settings))
    for found in frames:
        rule.update(make_observation(*found))
    return rule.decide()


def test_what_was_seen_in_any_frame_is_there():
    assert decide([("cap", 0.9)], [("label", 0.6)], []) == Decision("pass")


def test_a_label_that_was_never_seen_is_missing_and_has_no_score():
    assert decide([("cap", 0.9)]) == Decision("reject", (Reason("presence", "label"),))


def test_on_an_empty_frame_everything_is_missing():
    assert [reason.label for reason in decide([]).reasons] == ["cap", "label"]


@pytest.mark.parametrize("settings", [{"min_score": 0, "unsure_score": 0}, {"unsure_score": 0}])
def test_a_label_that_was_never_seen_is_missing_even_where_any_score_will_do(settings):
    assert decide([("cap", 0.9)], **settings).verdict == "reject"


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.5, "pass"), (0.4999, "unknown"), (0.35, "unknown"), (0.3499, "reject"), (0.0, "reject")]
)
def test_a_score_on_the_edge_of_a_band_belongs_to_the_band_above(score, verdict):
    assert decide([("cap", score)], require=("cap",), min_score=0.5, unsure_score=0.35).verdict == verdict


def test_what_was_seen_too_faintly_is_missing_with_its_best_score():
    decision = decide([("cap", 0.1)], [("cap", 0.2)], require=("cap",))
    assert decision.reasons == (Reason("presence", "cap", 0.2),)


def test_what_is_missing_outweighs_what_is_unsure():
    assert decide([("cap", 0.4)]) == Decision("reject", (Reason("presence", "label"),))


def test_other_labels_do_not_matter():
    assert decide([("crack", 0.99), ("cap", 0.9), ("label", 0.9)]) == Decision("pass")


@pytest.mark.parametrize("wrong", [{"require": ()}, {"unsure_score": 0.6}, {"min_score": -0.1}, {"reject": ("cap",)}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        presence.Config(**{"require": ("cap",), **wrong})
