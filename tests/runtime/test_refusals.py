from hypothesis import given
from hypothesis import strategies as st

from edge_agent.runtime.refusals import MOST_GROUPS, OTHERS, Refusals, printable


def test_refusals_of_one_kind_are_one_group_with_the_first_as_its_example():
    refusals = Refusals()
    for payload in (b"one", b"two"):
        refusals.add("malformed", "trigger/top", payload)
    refusals.add("malformed", "trigger/side", b"three")
    refusals.add("flood", "trigger/top", b"four")
    assert [refusal.data() for refusal in refusals.take()] == [
        {"outcome": "malformed", "topic": "trigger/top", "count": 2, "example": "one", "why": ""},
        {"outcome": "malformed", "topic": "trigger/side", "count": 1, "example": "three", "why": ""},
        {"outcome": "flood", "topic": "trigger/top", "count": 1, "example": "four", "why": ""},
    ]
    assert refusals.take() == []


def test_topics_without_number_share_a_group():
    refusals = Refusals()
    for number in range(1000):
        refusals.add("unknown_topic", f"made/up/{number}" + 70_000 * "x", b"")
    groups = refusals.take()
    assert len(groups) == MOST_GROUPS + 1
    assert (groups[-1].topic, groups[-1].count) == (OTHERS, 1000 - MOST_GROUPS)
    assert max(len(group.topic) for group in groups) == 200


@given(st.binary(max_size=300))
def test_an_example_is_printable_ascii_of_bounded_length(payload):
    text = printable(payload, 100)
    assert len(text) <= 100
    assert text.isascii()
    assert text.isprintable()


def test_an_example_shows_what_cannot_be_printed():
    assert printable(b'{"a":\n\0\xff"\xc3\x9f"}', 100) == '{"a":\\x0a\\x00\\xff"\\xc3\\x9f"}'
