"""The Node-RED flow: its function node, run by node, finds the same as the judge in the same messages."""

import json
import re
import subprocess
from dataclasses import replace

import pytest

from edge_agent.actuator import report
from edge_agent.actuator.judge import Alarm, Ruling
from edge_agent.wire.answers import Ack
from tests.actuator.letters import Sender, judge
from tests.brokers import needs
from tests.fixtures import REPO

FLOW = json.loads((REPO / "examples" / "node-red-reject-arm.json").read_text())
BY_NAME = {node["name"]: node for node in FLOW if node.get("name")}
ROOT = "factory/leon/bottling/3/capper/vision/demo-01"
RUN = """
const [code, messages] = JSON.parse(require("fs").readFileSync(0));
const memory = {};
const context = { get: (key) => memory[key], set: (key, value) => { memory[key] = value; } };
let now = 0;
const perf_hooks = { performance: { now: () => now } };
const judge = new Function("msg", "context", "perf_hooks", code);
console.log(JSON.stringify(messages.map(([at, msg]) => { now = at; return judge(msg, context, perf_hooks); })));
"""


def ran(messages, **constants):
    """What the function node returns for each message: pulses, levels, acks, findings. The constants are set first."""
    node = needs("node", "nodejs")
    code = BY_NAME["judge"]["func"]
    for name, value in constants.items():
        code, count = re.subn(rf"(?m)^const {name} = [^;]+;", f"const {name} = {json.dumps(value)};", code)
        assert count == 1
    told = subprocess.run([node, "-e", RUN], input=json.dumps([code, messages]), stdout=-1, check=True, text=True)
    return json.loads(told.stdout)


def as_message(letter):
    topic = f"{ROOT}/{letter.name}" + (f"/{letter.camera}" if letter.camera else "")
    message = {"topic": topic, "payload": letter.payload.decode(errors="replace"), "retain": letter.retained}
    return [letter.received_ms, message]


def the_same(found):
    """A finding of either, in the words of both; times to the microsecond."""
    if isinstance(found, Alarm):
        return ("alarm", found.code, found.action, found.why)
    if isinstance(found, Ruling):
        found = {key: getattr(found, key) for key in Ruling.__dataclass_fields__}
    if found["kind"] == "alarm":
        return ("alarm", found["code"], found["action"], found["why"])
    keys = ("kind", "action", "why", "camera", "session", "seq", "part_id", "verdict")
    times = [round(value, 3) if (value := found.get(key)) is not None else None for key in ("age_ms", "remaining_ms")]
    return (*(found.get(key) for key in keys), *times, found.get("count") or 1)


def busy_line():
    """Every trap: late, twice, unknown, retained, broken, gaps, a restart, silence, states, births that differ."""
    one, two = Sender("s1"), Sender("s2", ahead_ms=12.5)
    late = one.verdict(2000, seq=3, took_ms=700)
    twice = one.verdict(2800)
    return [
        one.birth(900, "pass", "stop", retained=True),
        one.state(910, "running", retained=True),
        one.heartbeat(915, retained=True),
        one.verdict(920),
        *(one.heartbeat(1000 + n * 250, last={"top": 1}) for n in range(5)),
        one.verdict(2100, "pass", seq=2, took_ms=3),
        late,
        twice,
        twice,
        one.verdict(2900, "unknown", seq=9),
        one.verdict(2950, camera="side", seq=1),
        one.verdict(2960, camera="side", seq=4, took_ms=40),
        one.heartbeat(3000, last={"top": 12, "side": 4}),
        one.heartbeat(3250, last={"top": 12, "side": 4}),
        one.state(3300, "error"),
        one.verdict(3350, seq=14),
        one.state(3400, "degraded"),
        one.verdict(3450, seq=15),
        one.heartbeat(3200, took_ms=300),
        one.birth(3600, "stop", "reject"),
        one.verdict(8000, seq=17),
        one.heartbeat(5000, took_ms=4000),
        two.heartbeat(9000, last={"top": 3}),
        two.verdict(9100, seq=5),
        one.state(9200, "offline"),
        two.verdict(9300, seq=6, took_ms=598),
        two.heartbeat(9900),
        two.heartbeat(14_000, last={"top": 9}),
        two.verdict(14_100, seq=11),
        two.state(14_200, "error"),
        two.verdict(14_250, seq=14),
        *(two.heartbeat(20_000 + n * 250, last={"top": 16 + 2 * (n > 0)}) for n in range(4)),
    ]


def broken(letters):
    """The same with a letter after each that is none, or not quite."""
    wrong = [("seq", 0), ("verdict", "maybe"), ("sent_mono_ms", -1), ("session", ""), ("state", "asleep")]
    for number, letter in enumerate(letters):
        yield letter
        key, value = wrong[number % len(wrong)]
        text = json.dumps({**json.loads(letter.payload), key: value, "on_unknown": "x"})
        payload = [b"", b"[]", text.encode(), letter.payload[:-1]][number % 4]
        yield replace(letter, payload=payload)


@pytest.mark.parametrize(("on_unknown", "on_agent_loss", "delay_ms"), [("reject", "stop", 0), ("stop", "pass", 580)])
def test_the_flow_finds_what_the_judge_finds(on_unknown, on_agent_loss, delay_ms):
    letters = list(broken(busy_line()))
    messages, expected = [[0, {"topic": "tick"}]], []
    arm = judge(on_unknown, on_agent_loss, delay_ms)
    expected.append([the_same(it) for it in [*arm.begin(0), *arm.tick(0)]])
    for letter in letters:
        if letter.received_ms - messages[-1][0] > 600:
            at_ms = letter.received_ms - 1
            messages.append([at_ms, {"topic": "tick"}])
            expected.append([the_same(it) for it in arm.tick(at_ms)])
        messages.append(as_message(letter))
        expected.append([the_same(it) for it in arm.hear(letter)])
    returned = ran(messages, ON_UNKNOWN=on_unknown, ON_AGENT_LOSS=on_agent_loss, DELAY_MS=delay_ms)
    assert [[the_same(it["payload"]) for it in found] for *_, found in returned] == expected
    whys = {words[2] for findings in expected for words in findings if words[0] != "alarm"}
    assert whys >= {
        "verdict",
        "on_unknown",
        "stale",
        "duplicate",
        "retained",
        "malformed",
        "no_heartbeat",
        "agent_lost",
    }


def test_the_acks_of_the_flow_are_those_of_the_arm():
    returned = ran([as_message(letter) for letter in busy_line()])
    acks = [ack for _, _, acks, _ in returned for ack in acks]
    assert len(acks) >= 8
    for ack in acks:
        assert Ack.model_validate(ack["payload"]).device == "demo-01"
        assert (ack["topic"], ack["qos"], ack["retain"]) == (f"{ROOT}/ack", 1, False)
        assert ack["payload"]["why"] not in report.UNANSWERED


def test_a_stop_of_the_flow_stays_until_the_reset_and_the_one_at_the_start_until_the_first_heartbeat():
    agent = Sender()
    messages = [[0, {"topic": "tick"}], as_message(agent.heartbeat(1000)), [4000, {"topic": "tick"}]]
    messages += [as_message(agent.heartbeat(5000)), [5100, {"topic": "reset"}]]
    levels = [[(it["topic"], it["payload"]) for it in levels] for _, levels, _, _ in ran(messages)]
    stops = [[on for topic, on in each if topic == "stop"] for each in levels]
    assert stops == [[True], [False], [True], [], [False]]


def test_a_pulse_of_the_flow_knows_its_delay_and_its_end():
    agent = Sender()
    returned = ran([as_message(agent.heartbeat(1000)), as_message(agent.verdict(1100))], DELAY_MS=200)
    [pulse] = returned[1][0]
    assert (pulse["payload"], pulse["delay"]) == (True, 200)
    assert pulse["expires_ms"] == pytest.approx(1700.5, abs=0.2)


def test_a_pulse_of_the_flow_for_a_gap_ends_when_it_should_be_over():
    agent = Sender()
    returned = ran([as_message(agent.heartbeat(1000)), as_message(agent.verdict(1100, "pass", seq=2))], DELAY_MS=200)
    [pulse] = returned[1][0]
    assert pulse["expires_ms"] == pytest.approx(1400.5, abs=0.2)


def test_every_wire_of_the_flow_leads_to_a_node_and_every_node_has_its_broker():
    ids = {node["id"] for node in FLOW}
    assert len(ids) == len(FLOW)
    assert {wire for node in FLOW for port in node.get("wires", []) for wire in port} <= ids
    assert {node["broker"] for node in FLOW if node["type"].startswith("mqtt ")} <= ids


def test_the_flow_subscribes_to_what_the_arm_subscribes_to():
    from edge_agent.actuator.client import TOPICS

    subscribed = {
        node["topic"].removeprefix(f"{ROOT}/"): int(node["qos"]) for node in FLOW if node["type"] == "mqtt in"
    }
    assert subscribed == TOPICS
