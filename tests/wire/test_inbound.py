import json

import pytest
from pydantic import ValidationError

from edge_agent.wire.inbound import Ack, Trigger


def trigger(**facts):
    return Trigger.model_validate_json(json.dumps({"trigger_id": "4711", **facts}))


def ack(**facts):
    return Ack.model_validate_json(json.dumps({"camera": "top", "action": "reject", **facts}))


def test_a_controller_of_few_words_is_understood():
    assert trigger().trigger_id == "4711"
    assert ack(trigger_id="4711").action == "reject"
    assert ack(session="5f0c", seq=7).seq == 7


def test_what_a_later_release_adds_is_let_through():
    assert trigger(lot="A7", schema="edge-agent/trigger/1").position is None
    assert ack(trigger_id="4711", device="gate", confirmed=True).why is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger_id": ""},
        {"trigger_id": 4711},
        {"trigger_id": "t" * 65},
        {"trigger_id": 'a"b'},
        {"trigger_id": "a\\b"},
        {"trigger_id": "line\n"},
        {"trigger_id": "größe"},
        {"position": "12"},
        {"time": "2026-11-21T09:14:03"},
        {"time": 1763716443},
        {"clock": {"synced": True, "max_error_ms": -1}},
        {"clock": {"synced": "yes"}},
        {"schema": "edge-agent/trigger/2"},
    ],
)
def test_a_trigger_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        trigger(**wrong)


def test_infinity_is_no_position():
    with pytest.raises(ValidationError):
        Trigger.model_validate_json('{"trigger_id": "a", "position": 1e999}')


@pytest.mark.parametrize(
    "wrong",
    [{}, {"seq": 7}, {"session": "5f0c"}, {"trigger_id": "a", "action": "wave"}, {"session": "s", "seq": 0}],
)
def test_an_ack_that_names_no_verdict_or_no_deed_is_refused(wrong):
    with pytest.raises(ValidationError):
        ack(**wrong)
