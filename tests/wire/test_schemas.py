"""The committed schemas: they are what the code says, old messages fit them, and they only ever gain keys.

`tests/data` has, by release, the schemas of its messages and real messages as they were sent. A release adds a folder to
both, and none is ever changed again. Until it is out, `edge-agent schema --write tests/data/schemas/VERSION` takes its
schemas anew; `config.json` does not belong there.
"""

import copy
import json

import jsonschema_rs
import paho.mqtt.publish
import pytest

from edge_agent.actuator.messages import MODELS, parse
from edge_agent.cli.schema import json_schemas
from edge_agent.wire.inbound import Ack, Trigger
from edge_agent.wire.messages import MESSAGES
from tests.brokers import HOST, Listener, running_broker
from tests.fixtures import REPO
from tests.wire.schemas import PUBLISHED, breaks, misfits, published, violations

WRITE = "`edge-agent schema --write docs/schemas` writes them anew"
OLD_MESSAGES = sorted((REPO / "tests" / "data" / "messages").glob("*/*.json"))
OLD_SCHEMAS = sorted((REPO / "tests" / "data" / "schemas").glob("*/*.json"))
TOP = "factory/leon/bottling/3/capper/vision/cap-01"


def names_of(paths):
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def kind_of(path):
    return path.stem.partition("-")[0]


each_old_message = pytest.mark.parametrize("path", OLD_MESSAGES, ids=names_of(OLD_MESSAGES))
each_schema = pytest.mark.parametrize("path", sorted(PUBLISHED.iterdir()), ids=lambda path: path.stem)


def test_the_committed_schemas_are_those_of_the_code():
    of_code = json_schemas()
    differing = [name for name, document in of_code.items() if published(name) != document]
    assert not differing, f"docs/schemas: {', '.join(differing)} not as the code says; {WRITE}"
    assert {path.name for path in PUBLISHED.iterdir()} == {f"{name}.json" for name in of_code}


@each_schema
def test_a_committed_schema_is_valid_and_has_a_name(path):
    schema = published(path.stem)
    jsonschema_rs.meta.validate(schema)
    assert schema["title"].startswith(f"edge-agent/{path.stem}")
    assert schema["$id"] == "urn:" + schema["title"].replace("/", ":")


def test_every_kind_of_message_has_an_old_one_in_every_release():
    releases = {path.parent.name: set() for path in OLD_SCHEMAS}
    for path in OLD_MESSAGES:
        releases[path.parent.name].add(kind_of(path))
    assert releases == {name: {path.stem for path in OLD_SCHEMAS if path.parent.name == name} for name in releases}
    assert "0.1.0" in releases


@each_old_message
def test_an_old_message_fits_the_schema_of_today(path):
    assert violations(json.loads(path.read_text()), published(kind_of(path))) == []


@each_old_message
def test_an_old_message_can_be_read_by_the_models_of_today(path):
    models = {**MESSAGES, "ack": Ack, "trigger": Trigger}
    assert models[kind_of(path)].model_validate_json(path.read_bytes())


@pytest.mark.parametrize(
    "path", read_by_arm := [path for path in OLD_MESSAGES if kind_of(path) in MODELS], ids=names_of(read_by_arm)
)
def test_an_old_message_can_be_read_by_the_arm_of_today(path):
    assert parse(kind_of(path), path.read_bytes()).session


@pytest.mark.parametrize("path", OLD_SCHEMAS, ids=names_of(OLD_SCHEMAS))
def test_the_schemas_of_today_break_nothing_of_an_old_release(path):
    today = published(path.stem)
    assert today is not None, f"{path.stem}: is gone"
    assert breaks(json.loads(path.read_text()), today) == []


def changed(change):
    """The schema of the verdict before and after a change."""
    old = published("verdict")
    new = copy.deepcopy(old)
    change(new, new["properties"])
    return breaks(old, new)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, p: p.pop("fire_at"), ["$.fire_at: is gone"]),
        (lambda s, p: s["$defs"]["Clock"]["properties"].pop("synced"), ["$.clock.synced: is gone"]),
        (lambda s, p: s["required"].remove("camera"), ["$.camera: need not be there any more"]),
        (lambda s, p: s["required"].append("fire_at"), ["$.fire_at: must be there now"]),
        (lambda s, p: p["seq"].update(type="string"), ["$.seq type: 'integer' became 'string'"]),
        (lambda s, p: p["seq"].update(minimum=2), ["$.seq minimum: 1 became 2"]),
        (lambda s, p: p["seq"].update(maximum=9), ["$.seq maximum: None became 9"]),
        (lambda s, p: p["camera"].update(maxLength=32), ["$.camera maxLength: 64 became 32"]),
        (lambda s, p: p["schema"].update(const="x"), ["$.schema const: 'edge-agent/verdict/1' became 'x'"]),
        (
            lambda s, p: p["verdict"]["enum"].remove("unknown"),
            ["$.verdict enum: ['pass', 'reject', 'unknown'] became ['pass', 'reject']"],
        ),
        (
            lambda s, p: p["position"]["anyOf"][0].update(type="string"),
            ["$.position anyOf type: 'number' became 'string'"],
        ),
        (
            lambda s, p: p["position"]["anyOf"].pop(),
            ["$.position anyOf: [{'type': 'number'}, {'type': 'null'}] became [{'type': 'number'}]"],
        ),
        (
            lambda s, p: p["verdict"]["enum"].append("rework"),
            ["$.verdict enum: ['pass', 'reject', 'unknown'] became ['pass', 'reject', 'rework', 'unknown']"],
        ),
    ],
)
def test_what_breaks_a_reader_or_an_old_message_is_found(change, words):
    assert changed(change) == words


@pytest.mark.parametrize(
    "change",
    [
        lambda s, p: p.update(later={"type": "integer"}),
        lambda s, p: s["$defs"]["Clock"]["properties"].update(later={"type": "integer"}),
        lambda s, p: p["verdict"]["enum"].reverse(),
        lambda s, p: s["required"].reverse(),
        lambda s, p: p["seq"].update(title="Number", description="From one.", default=1),
        lambda s, p: s["$defs"].update(Watch=s["$defs"].pop("Clock")) or p["clock"].update({"$ref": "#/$defs/Watch"}),
    ],
    ids=["key", "inner key", "order of words", "order of keys", "explanation", "name of a definition"],
)
def test_what_breaks_nobody_is_let_through(change):
    assert changed(change) == []


def test_a_message_that_fits_has_no_misfit():
    payload = (REPO / "tests" / "data" / "messages" / "0.1.0" / "verdict-reject.json").read_bytes()
    assert misfits(f"{TOP}/verdict/top", payload) == []


@pytest.mark.parametrize(
    ("topic", "payload", "words"),
    [
        (f"{TOP}/state", b'{"schema": "edge-agent/state/1"}', '$: "device" is a required property'),
        (f"{TOP}/state", b'{"seq": 0}', "$.seq: 0 is less than the minimum of 1"),
        (f"{TOP}/state", b'{"at": "yesterday"}', '$.at: "yesterday" is not a "date-time"'),
        (f"{TOP}/verdict/top", b'{"clock": {"synced": 3}}', '$.clock.synced: 3 is not of type "boolean"'),
        (f"{TOP}/state", b"\xff", "is no JSON"),
        (f"{TOP}/state", rb'{"device": "\ud800"}', "surrogates not allowed"),
        (f"{TOP}/trigger/top", b'{"trigger_id": "7", "position": NaN}', "NaN is no number of JSON"),
        (f"{TOP}/picture", b"{}", "there is no such topic"),
        (f"{TOP}/config", b"{}", "there is no such topic"),
        (f"{TOP}/verdict", b"{}", "there is no such topic"),
        (f"{TOP}/state/top", b"{}", "there is no such topic"),
        (TOP, b"{}", "there is no such topic"),
    ],
)
def test_a_message_that_does_not_fit_is_told(topic, payload, words):
    assert any(words in told for told in misfits(topic, payload))


def test_a_listener_fails_the_test_for_what_others_said_and_not_for_its_own_words(tmp_path):
    with running_broker(tmp_path) as broker:
        with Listener(broker.port) as listener:
            listener.publish(f"{TOP}/state", b"rubbish of the test")
            listener.publish("elsewhere", b"rubbish")
            listener.wait_for(lambda heard: heard.topic == "elsewhere")
        listener = Listener(broker.port)
        paho.mqtt.publish.single(f"{TOP}/state", b"rubbish of others", hostname=HOST, port=broker.port)
        listener.wait_for(lambda heard: heard.topic == f"{TOP}/state")
        with pytest.raises(pytest.fail.Exception, match="state: b'rubbish of others' is no JSON"):
            listener.close()
