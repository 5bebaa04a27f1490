from tests.builders import make_observation


def test_an_observation_has_its_scores_by_label_the_lowest_first():
    seen = make_observation(("cap", 0.9), ("crack", 0.4), ("cap", 0.3), ("cap", 0.5))
    assert seen.scores == {"cap": [0.3, 0.5, 0.9], "crack": [0.4]}


def test_an_observation_of_nothing_has_no_scores():
    assert make_observation().scores == {}
