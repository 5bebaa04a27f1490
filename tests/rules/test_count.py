import pytest
from pydantic import ValidationError

from edge_agent.core.parts import Decision, Reason
from edge_agent.rules import count
from tests.builders import make_observation

SURE, UNSURE, FAINT = 0.9, 0.4, 0.1


def decide(*frames, **settings):
    """Each frame is the scores of the screws in it."""
    rule = count.create(count.Config(label="screw", **settings))
    for scores in frames:
        rule.update(make_observation(*(("screw", score) for score in scores), ("cap", 0.9)))
    return rule.decide()


@pytest.mark.parametrize(
    ("found", "verdict"), [(1, "reject"), (2, "pass"), (3, "pass"), (4, "pass"), (5, "reject"), (0, "reject")]
)
def test_both_bounds_are_allowed(found, verdict):
    assert decide([SURE] * found, min=2, max=4).verdict == verdict


def test_without_max_there_may_be_any_number():
    assert decide([SURE] * 50, min=2) == Decision("pass")


def test_max_of_zero_means_none_at_all():
    assert decide([], max=0).verdict == "pass"
    assert decide([SURE], max=0).verdict == "reject"


@pytest.mark.parametrize(
    ("sure", "unsure", "verdict"),
    [
        (1, 0, "reject"),
        (1, 1, "unknown"),  # the unsure one may be the second screw
        (2, 2, "pass"),  # right with and without the unsure ones
        (3, 2, "unknown"),  # the unsure ones may be too many
        (0, 1, "reject"),  # even with it there are too few
        (5, 3, "reject"),  # too many without them
        (0, 9, "unknown"),  # somewhere between are the right numbers
    ],
)
def test_unsure_ones_make_it_unknown_only_where_they_decide(sure, unsure, verdict):
    assert decide([SURE] * sure + [UNSURE] * unsure, min=2, max=4).verdict == verdict


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.5, "pass"), (0.4999, "unknown"), (0.35, "unknown"), (0.3499, "reject")]
)
def test_a_score_on_the_edge_of_a_band_belongs_to_the_band_above(score, verdict):
    assert decide([score], min=1, min_score=0.5, unsure_score=0.35).verdict == verdict


def test_faint_ones_do_not_count():
    assert decide([SURE, SURE, FAINT, FAINT, FAINT], min=2, max=2).verdict == "pass"


def test_the_most_frequent_count_of_the_frames_stands():
    assert decide([SURE], [SURE] * 2, [SURE] * 2, [SURE] * 3, min=2, max=2).verdict == "pass"


def test_of_counts_that_are_as_frequent_the_first_stands():
    assert decide([SURE] * 2, [SURE] * 3, min=2, max=2).verdict == "pass"
    assert decide([SURE] * 3, [SURE] * 2, min=2, max=2).verdict == "reject"


def test_the_reason_names_what_was_counted():
    assert decide([], min=1).reasons == (Reason("count", "screw"),)
    assert decide([UNSURE], min=1).reasons == (Reason("count", "screw", None, "low_confidence"),)


@pytest.mark.parametrize("wrong", [{"min": 3, "max": 2}, {"unsure_score": 0.6}, {"min": -1}, {"labels": "screw"}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        count.Config(**{"label": "screw", **wrong})
