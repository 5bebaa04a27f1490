"""The real `edge-agent reject-arm`, on a real broker, fed by hand or by a real agent."""

import fcntl
import signal
import subprocess
import sys
import threading
import time

import pytest

from edge_agent.wire.answers import Ack
from tests.brokers import needs, running_broker
from tests.chips import FAKE_GPIOD
from tests.fixtures import REPO
from tests.processes import ended
from tests.system.agents import running_agent
from tests.system.arms import EXAMPLE, ROOT, Agent, config, ready, running_arm

pytestmark = pytest.mark.system
LOSS_S = 2  # what is promised; what the arm may be late on a machine that is busy:
MARGIN_S = 1


def acks(listener):
    return [Ack.model_validate(heard.json) for heard in listener.on("/ack")]


def test_it_acts_on_what_a_real_agent_says(tmp_path, broker, listener):
    text = (REPO / "examples" / "photos.toml").read_text().replace("port = 1883", f"port = {broker.port}")
    text = text.replace("deadline_ms = 500", "deadline_ms = 5000").replace("valid_ms = 2000", "valid_ms = 9000")
    for name in ("models/", "photos"):
        text = text.replace(f'"{name}', f'"{REPO}/examples/{name}')
    with running_arm(tmp_path, config(broker, 'on_agent_loss = "stop"')) as arm:
        with running_agent(tmp_path, text) as agent:
            assert agent.ended(30) == 0
        arm.wait_for(code="agent_lost", why="offline")
        heard = listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/ack", 2)
        summary = arm.stop()
    verdicts = [line for line, _ in arm.lines if line["kind"] == "verdict"]
    assert [(line["verdict"], line["action"], line["why"]) for line in verdicts] == [
        ("pass", "pass", "verdict"),
        ("reject", "reject", "verdict"),
    ]
    assert all(0 <= line["age_ms"] < 1000 and line["remaining_ms"] > 0 for line in verdicts)
    assert summary["counts"] == {
        "acks": 2,
        "alarm.agent_back": 1,
        "alarm.agent_lost": 2,
        "verdict.pass": 1,
        "verdict.reject": 1,
    }
    assert (heard[0].qos, heard[0].retain, heard[0].expiry_s in (9, 10)) == (1, False, True)
    said = [heard.json for heard in listener.on("verdict/top")]
    assert [(ack.session, ack.camera, ack.seq, ack.action) for ack in acks(listener)] == [
        (verdict["session"], "top", verdict["seq"], verdict["verdict"]) for verdict in said
    ]


def test_every_trap_is_dropped_and_counted(tmp_path, broker, listener):
    agent = Agent(listener)
    agent.verdict("reject", retain=True)
    with running_arm(tmp_path, config(broker)) as arm:
        arm.wait_for(why="retained")
        Agent(listener, "stranger").verdict("reject")
        ready(arm, agent)
        agent.verdict("reject", valid_ms=-1)
        agent.verdict("reject")
        agent.verdict("reject", seq=3)
        agent.heartbeat()
        agent.verdict("unknown", seq=6)
        for payload in (b"", b"\xff", b"[" * 50_000, b'{"schema":"edge-agent/verdict/9"}'):
            listener.publish(f"{ROOT}/verdict/top", payload)
            listener.publish(f"{ROOT}/heartbeat", payload)
        agent.heartbeat()  # all this may have taken longer than an agent may be silent
        agent.verdict("pass", seq=7)
        arm.wait_for(seq=7)
        summary = arm.stop()
    counts = {key: n for key, n in summary["counts"].items() if not key.startswith(("alarm", "ack"))}
    assert counts == {
        "dropped.heartbeat.malformed": 4,
        "dropped.verdict.duplicate": 1,
        "dropped.verdict.malformed": 4,
        "dropped.verdict.no_heartbeat": 1,
        "dropped.verdict.retained": 1,
        "dropped.verdict.stale": 1,
        "missing.reject": 2,
        "verdict.pass": 1,
        "verdict.reject": 2,
    }
    assert [(ack.seq, ack.action, ack.why) for ack in acks(listener)] == [
        (1, "none", "no_heartbeat"),
        (2, "none", "stale"),
        (3, "reject", "verdict"),
        (6, "reject", "on_unknown"),
        (7, "pass", "verdict"),
    ]


def test_acks_can_be_switched_off(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, "ack = false")) as arm:
        ready(arm, agent)
        agent.verdict("reject")
        arm.wait_for(seq=1)
        arm.stop()
    listener.hear_out()
    assert listener.on("/ack") == []


def test_a_killed_broker_is_agent_loss_within_two_seconds_and_the_arm_comes_back_with_it(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, 'on_agent_loss = "reject"')) as arm:
        ready(arm, agent)
        died_s = time.monotonic()
        broker.kill()
        line, _ = arm.wait_for(code="agent_lost", why="no_heartbeat", action="reject")
        assert line["at_mono_ms"] / 1000 - died_s < LOSS_S + MARGIN_S
        broker.start()
        listener.wait_until_back()
        until_s = time.monotonic() + 20
        while (
            len([line for line, _ in arm.lines if line.get("code") == "agent_back"]) < 2 and time.monotonic() < until_s
        ):
            agent.heartbeat()
            time.sleep(0.05)
        agent.verdict("reject")
        arm.wait_for(kind="verdict", action="reject")


def test_an_agent_that_falls_silent_or_says_error_is_noticed(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, 'on_agent_loss = "pass"')) as arm:
        ready(arm, agent)
        said_s = time.monotonic()
        agent.state("error")
        line, _ = arm.wait_for(code="agent_lost", why="error", action="pass")
        assert line["at_mono_ms"] / 1000 - said_s < LOSS_S + MARGIN_S
        agent.state("running")
        last_s = time.monotonic()
        agent.heartbeat()
        line, _ = arm.wait_for(code="agent_lost", why="no_heartbeat")
        assert 1.4 < line["at_mono_ms"] / 1000 - last_s < LOSS_S + MARGIN_S


def test_a_frozen_broker_is_agent_loss_and_what_it_delivers_later_is_stale(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, mqtt="keepalive_s = 60")) as arm:
        ready(arm, agent)
        senders = [
            threading.Thread(target=say) for say in (lambda: agent.verdict("reject", valid_ms=600), agent.heartbeat)
        ]
        broker.freeze()
        for sender in senders:  # each waits until the broker has it
            sender.start()
        arm.wait_for(code="agent_lost", why="no_heartbeat")
        time.sleep(0.7)  # until that heartbeat too is older than 1.5 s
        broker.thaw()
        for sender in senders:
            sender.join()
        line, _ = arm.wait_for(seq=1)
        assert (line["action"], line["why"]) == ("none", "stale")
        assert arm.stop()["counts"]["alarm.agent_back"] == 1


def test_a_stop_stays_until_sigusr1_and_only_once_the_agent_is_well(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, 'on_unknown = "stop"\non_agent_loss = "pass"')) as arm:
        ready(arm, agent)
        agent.verdict("unknown")
        arm.wait_for(action="stop")
        arm.wait_for(code="agent_lost", why="no_heartbeat")
        arm.process.send_signal(signal.SIGUSR1)
        arm.wait_for_log("arm_reset_refused")
        assert '"line": "stop", "on": false' not in arm.log
        agent.heartbeat()
        assert ended(lambda: arm.log.count("arm_agent_back") == 2)
        agent.heartbeat()  # once more: it is to be well when the signal comes
        arm.process.send_signal(signal.SIGUSR1)
        arm.wait_for_log('"line": "stop", "on": false')
        assert arm.stop()["stopped"] is False


def test_a_birth_that_recommends_something_else_is_told_once(tmp_path, broker, listener):
    agent = Agent(listener)
    agent.birth("pass", "stop")
    with running_arm(tmp_path, config(broker, 'on_unknown = "reject"\non_agent_loss = "stop"')) as arm:
        ready(arm, agent)
        agent.birth("pass", "stop")
        arm.wait_for(code="policy_differs", why="on_unknown: the agent recommends pass, this arm does reject")
        agent.verdict("pass")
        arm.wait_for(seq=1)
        assert arm.stop()["counts"]["alarm.policy_differs"] == 1
        assert arm.log.count("the agent recommends") == 1


def test_a_delayed_pulse_comes_on_time_and_holds_nothing_up(tmp_path, broker, listener):
    agent = Agent(listener)
    output = 'kind = "simulated"\ndelay_ms = 600\npulse_ms = 50'
    with running_arm(tmp_path, config(broker, output=output)) as arm:
        ready(arm, agent)
        agent.verdict("reject")
        agent.verdict("pass")
        line, _ = arm.wait_for(seq=1)
        assert [line["seq"] for line, _ in arm.lines if line["kind"] == "verdict"] == [2, 1]
        assert 600 <= line["at_mono_ms"] - line["received_mono_ms"] < 1600  # a busy machine wakes late
        agent.heartbeat()
        agent.verdict("reject", valid_ms=590)
        line, _ = arm.wait_for(seq=3)
        assert (line["action"], line["why"]) == ("none", "too_late")


def test_it_drives_the_lines_of_a_chip(tmp_path, broker, listener):
    agent = Agent(listener)
    output = 'kind = "gpio"\nreject_line = 17\nstop_line = "GPIO27"\npulse_ms = 30'
    changes = tmp_path / "changes"
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "def tell():\n"
        "    rig = sys.modules['gpiod'].RIG if 'gpiod' in sys.modules else None\n"
        f"    rig and open({str(changes)!r}, 'w').write(repr([(o, h) for _, o, h in rig.changes]) + repr(rig.holders))\n"
        "atexit.register(tell)\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}:{FAKE_GPIOD}", "PATH": "/usr/bin"}
    with running_arm(tmp_path, config(broker, 'on_agent_loss = "stop"', output), env=env) as arm:
        ready(arm, agent)
        agent.verdict("reject")
        arm.wait_for(seq=1)
        time.sleep(0.5)  # the pulse is over
        arm.stop()
    off, stop, go, out, back = (17, False), (27, True), (27, False), (17, True), (17, False)
    assert changes.read_text() == repr([off, (27, False), stop, go, out, back]) + "{}"


def test_it_says_who_it_is_to_a_broker_that_asks(tmp_path):
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    program = needs("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-c", "-b", passwords, "arm", "pass-word"], check=True, capture_output=True)
    secret.write_text("pass-word\n")
    secret.chmod(0o600)
    with running_broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}") as broker:
        mqtt = 'username = "arm"\npassword_file = "secret"'
        with running_arm(tmp_path, config(broker, mqtt=mqtt)) as arm:
            arm.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (EXAMPLE.replace("pulse_ms", "puls_ms"), "did you mean 'pulse_ms'?"),
        (
            EXAMPLE.replace("port = 1883", 'port = 1883\nusername = "a"\npassword_file = "none"'),
            "create it with mode 0600",
        ),
        (
            EXAMPLE.replace('kind = "simulated"', 'kind = "gpio"\nreject_line = 1\nstop_line = 2\nchip = "/no"'),
            "gpiod",
        ),
    ],
    ids=["key", "password", "gpio"],
)
def test_a_configuration_that_cannot_be_used_ends_with_78_and_a_sentence(tmp_path, text, words):
    (tmp_path / "arm.toml").write_text(text)
    command = [sys.executable, "-m", "edge_agent", "reject-arm", "--config", tmp_path / "arm.toml"]
    ended = subprocess.run(command, check=False, cwd=REPO, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 78
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sighup_connects_anew_with_the_password_of_now(tmp_path):
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    program = needs("mosquitto_passwd", "mosquitto")

    def agree_on(word):
        passwords.touch()
        subprocess.run([program, "-b", passwords, "arm", word], check=True, capture_output=True)
        secret.write_text(f"{word}\n")
        secret.chmod(0o600)

    agree_on("first")
    with running_broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}") as broker:
        mqtt = 'username = "arm"\npassword_file = "secret"'
        with running_arm(tmp_path, config(broker, mqtt=mqtt)) as arm:
            agree_on("second")
            broker.reload()
            arm.process.send_signal(signal.SIGHUP)
            assert ended(lambda: arm.log.count("arm_connected") == 2)
            arm.stop()
            assert "arm_disconnected" not in arm.log


def test_without_json_nothing_is_printed(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker), "-c", str(tmp_path / "arm.toml")) as arm:
        agent.heartbeat()
        arm.wait_for_log("arm_agent_back")
        assert arm.stop() is None


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "asleep"])
def test_a_reader_that_is_gone_or_sleeps_holds_nothing_up(tmp_path, broker, listener, is_gone):
    agent = Agent(listener)
    (tmp_path / "arm.toml").write_text(config(broker))
    command = [sys.executable, "-m", "edge_agent", "reject-arm", "--config", tmp_path / "arm.toml", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPO)
    try:
        assert b"agent_lost" in process.stdout.readline()
        if is_gone:
            process.stdout.close()
        else:
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # room for a dozen lines
        until_s = time.monotonic() + 20
        while len(acks(listener)) < 40 and time.monotonic() < until_s:
            agent.heartbeat()
            agent.verdict("pass")
        assert len(acks(listener)) >= 40
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
