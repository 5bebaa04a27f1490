"""Too many verdicts of one word, one after the other."""

import pytest

from edge_agent.runtime.streaks import Streaks


@pytest.fixture
def streaks():
    return Streaks(("top", "side"), unknown_in_row=3, reject_in_row=4)


def add(streaks, words, *, camera="top", first_seq=1):
    for seq, word in enumerate(words, first_seq):
        streaks.add(camera, {"p": "pass", "r": "reject", "u": "unknown"}[word], seq)


def over(streaks):
    return {camera: (streak.verdict, streak.count, streak.first_seq) for camera, streak in streaks.over.items()}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("uu", {}),
        ("uuu", {"top": ("unknown", 3, 1)}),
        ("puuuuu", {"top": ("unknown", 5, 2)}),
        ("rrr", {}),
        ("rrrr", {"top": ("reject", 4, 1)}),
        ("uurruu", {}),
        ("uuup", {}),
        ("uuurrrr", {"top": ("reject", 4, 4)}),
        ("uuurrr", {}),
        ("pppppppppp", {}),
    ],
)
def test_so_many_of_one_word_in_a_row_are_too_many_until_another_word_comes(streaks, words, found):
    add(streaks, words)
    assert over(streaks) == found


def test_each_camera_counts_for_itself(streaks):
    add(streaks, "uu", camera="top")
    add(streaks, "uu", camera="side")
    assert over(streaks) == {}
    add(streaks, "u", camera="side", first_seq=3)
    assert over(streaks) == {"side": ("unknown", 3, 1)}


def test_zero_is_never():
    streaks = Streaks(("top",), unknown_in_row=0, reject_in_row=0)
    add(streaks, "u" * 1000 + "r" * 1000)
    assert over(streaks) == {}


def test_limits_change_at_once_for_what_is_in_a_row(streaks):
    add(streaks, "uuuu")
    streaks.set_limits(unknown_in_row=10, reject_in_row=4)
    assert over(streaks) == {}
    streaks.set_limits(unknown_in_row=4, reject_in_row=4)
    assert over(streaks) == {"top": ("unknown", 4, 1)}


def test_a_streak_that_ended_is_still_known_with_its_length(streaks):
    add(streaks, "uuuuup")
    (streak,) = streaks.last()
    assert (streak.count, streak.first_seq, streak.times, streak.is_over_limit) == (5, 1, 1, False)
    add(streaks, "uurrrru", first_seq=7)
    (streak,) = streaks.last()
    assert (streak.verdict, streak.count, streak.first_seq, streak.times) == ("reject", 4, 9, 2)
