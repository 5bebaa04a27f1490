import json
import re
from typing import get_args

import pytest

from edge_agent.config import load
from edge_agent.runtime.unsent import REASONS
from edge_agent.wire.answers import Ack
from edge_agent.wire.inbound import Trigger
from edge_agent.wire.messages import MESSAGES, State, UnknownCode
from edge_agent.wire.topics import Topics
from tests.fixtures import REPO

TEXT = (REPO / "docs" / "messages.md").read_text()
EXAMPLES = [json.loads(block) for block in re.findall(r"(?s)```json\n(.*?)```", TEXT)]


def _name(example):
    return example["schema"].split("/")[1]


def _first_column(after):
    """The words in backticks that begin the rows of the first table after some words."""
    rows = TEXT[TEXT.index(after) :].split("\n\n", 2)[1].split("\n")[2:]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


SENT = [example for example in EXAMPLES if _name(example) != "trigger"]


@pytest.mark.parametrize("example", SENT, ids=[f"{_name(example)} {example['seq']}" for example in SENT])
def test_an_example_is_word_for_word_what_the_agent_would_send(example):
    message = {**MESSAGES, "ack": Ack}[_name(example)].model_validate_json(json.dumps(example))
    assert json.loads(message.payload()) == example


def test_the_example_of_a_trigger_is_accepted_and_has_every_key():
    (example,) = (example for example in EXAMPLES if _name(example) == "trigger")
    heard = Trigger.model_validate_json(json.dumps(example))
    assert heard.model_dump(by_alias=True).keys() == example.keys()


def test_every_message_has_an_example():
    assert {_name(example) for example in EXAMPLES} == {*MESSAGES, "ack", "trigger"}


def test_a_verdict_is_as_small_as_it_says():
    verdicts = [example for example in EXAMPLES if _name(example) == "verdict"]
    assert all(len(json.dumps(verdict, separators=(",", ":"))) < 1024 for verdict in verdicts)


def test_every_topic_stands_in_the_table():
    topics = Topics("p", "s", "a", "l", "c", "d")
    told = {topic.removeprefix(topics.of("")).replace("{camera}", "top") for topic in _first_column("Topics are")}
    assert told == {topic.removeprefix(topics.of("")) for topic in topics.listing(("top",))}


def test_every_state_stands_in_the_table():
    rows = re.findall(r"(?m)^\| `(\w+)` \|[^|]+\|[^|]*\| (?:yes|no) \|", TEXT)
    assert rows == list(get_args(State))


def test_every_code_of_unknown_stands_in_the_table():
    assert set(_first_column("Of `unknown`, `code`\n  says why:")) == set(get_args(UnknownCode))


def test_every_event_that_the_code_knows_stands_in_the_table():
    source = "".join(path.read_text() for path in (REPO / "edge_agent").rglob("*.py"))
    codes = re.findall(r"\.event\(\s*\"(\w+)\"", source)
    rows = re.findall(r"(?m)^\| `(\w+)` \| (?:info|warning|alarm) \|", TEXT)
    assert set(codes) == set(rows)


def test_every_reason_for_an_unsent_verdict_stands_in_the_table():
    source = (REPO / "edge_agent" / "runtime" / "desk.py").read_text()
    reasons = re.findall(r"_undelivered\([^,]+, \"(\w+)\"", source) + re.findall(r"return \"(\w+)\"", source)
    assert set(reasons) == set(REASONS) == set(_first_column("An event gives the range and the\nreason:"))


def test_the_birth_of_the_example_has_the_topics_of_the_camera_example():
    config = load(REPO / "examples" / "usb-camera-line.toml").config
    device = config.device
    topics = Topics(config.mqtt.prefix, device.site, device.area, device.line, device.cell, device.id)
    birth = next(example for example in EXAMPLES if _name(example) == "birth")
    assert birth["topics"] == list(topics.listing(("top",)))


def test_every_reason_of_the_reject_arm_stands_in_its_table():
    source = "".join(path.read_text() for path in (REPO / "edge_agent" / "actuator").glob("*.py"))
    reasons = set(re.findall(r"why=\"(\w+)\"", source)) | set(re.findall(r"_refused\(letter, \"(\w+)\"", source))
    reasons |= {word for line in re.findall(r".*\" if .* else \".*", source) for word in re.findall(r"\"(\w+)\"", line)}
    told = set(_first_column("A dropped message of another kind has a line of that `kind`. `why`:"))
    assert reasons - {"none", "unknown", "pass", "reject", "no_heartbeat"} <= told
    assert told <= reasons | {"no_heartbeat"}
