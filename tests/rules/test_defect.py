import pytest
from pydantic import ValidationError

from edge_agent.core.parts import Decision, Reason
from edge_agent.rules import defect
from tests.builders import make_observation


def decide(*frames, **settings):
    rule = defect.create(defect.Config(reject=("crack", "dent"), **settings))
    for found in frames:
        rule.update(make_observation(*found))
    return rule.decide()


def test_a_defect_seen_once_rejects():
    assert decide([("crack", 0.9)], []) == Decision("reject", (Reason("defect", "crack", 0.9),))


def test_a_part_without_defects_passes():
    assert decide([("cap", 0.9)], []) == Decision("pass")


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.5, "reject"), (0.4999, "unknown"), (0.35, "unknown"), (0.3499, "pass"), (0.0, "pass")]
)
def test_a_score_on_the_edge_of_a_band_belongs_to_the_band_above(score, verdict):
    assert decide([("crack", score)], min_score=0.5, unsure_score=0.35).verdict == verdict


def test_an_unsure_defect_says_that_the_confidence_was_low():
    assert decide([("crack", 0.4)]).reasons == (Reason("defect", "crack", 0.4, "low_confidence"),)


def test_with_equal_thresholds_nothing_is_unsure():
    assert decide([("crack", 0.49)], min_score=0.5, unsure_score=0.5).verdict == "pass"


def test_the_reason_has_the_best_score_of_all_frames():
    assert decide([("crack", 0.6)], [("crack", 0.8), ("crack", 0.7)], [("crack", 0.5)]).reasons[0].score == 0.8


def test_a_sure_defect_outweighs_an_unsure_one():
    assert decide([("dent", 0.4), ("crack", 0.6)]).reasons == (Reason("defect", "crack", 0.6),)


def test_a_defect_in_too_few_frames_is_unsure():
    assert decide([("crack", 0.9)], [], [], min_frames=2).verdict == "unknown"


def test_a_defect_in_enough_frames_rejects_though_they_do_not_follow_each_other():
    assert decide([("crack", 0.9)], [], [("crack", 0.6)], min_frames=2).verdict == "reject"


def test_two_of_a_label_in_one_frame_are_one_frame():
    assert decide([("crack", 0.9), ("crack", 0.9)], [], min_frames=2).verdict == "unknown"


def test_frames_of_different_defects_do_not_add_up():
    assert decide([("crack", 0.9)], [("dent", 0.9)], min_frames=2).verdict == "unknown"


def test_a_part_with_fewer_frames_needs_the_defect_in_all_of_them():
    assert decide([("crack", 0.9)], min_frames=5).verdict == "reject"
    assert decide([("crack", 0.9)], [], min_frames=5).verdict == "unknown"


def test_the_rule_may_have_a_name_of_its_own():
    assert decide([("crack", 0.9)], name="cracks").reasons[0].rule == "cracks"


@pytest.mark.parametrize("wrong", [{"reject": ()}, {"unsure_score": 0.6}, {"min_score": 1.1}, {"min_frames": 0}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        defect.Config(**{"reject": ("crack",), **wrong})
