"""The broker of examples/mosquitto: with its files, word for word, everybody can do what they must and nothing else."""

import json
import re
import signal
import subprocess
from contextlib import ExitStack, closing

import pytest

from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError
from edge_agent.publishers import mqtt
from tests.brokers import HOST, Listener, free_port, needs, running_broker
from tests.fixtures import REPO
from tests.processes import ended
from tests.system.agents import config_text, replay, running_agent
from tests.system.arms import ROOT, config, running_arm
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_run import RELAXED

pytestmark = pytest.mark.system
EXAMPLE = REPO / "examples" / "mosquitto"
USERS = ("demo-01", "demo-01-arm", "demo-01-trigger", "back-office")
NOT_AUTHORISED = 0x87


class Plant:
    """The example's files in a folder, with certificates and passwords made as docs/security.md says.

    `port` is the example's own listener, with mutual TLS. A broker's first one has no TLS, and the same passwords and ACL.
    """

    def __init__(self, folder, certificates):
        self.folder, self.port, self._certificates = folder, free_port(), certificates
        self.acl = folder / "acl"
        self.acl.write_text((EXAMPLE / "acl").read_text())
        self._passwords = folder / "passwords"
        self._passwords.touch(0o600)
        for user in USERS:
            self.know(user)
        text = (EXAMPLE / "mosquitto.conf").read_text().replace("/etc/mosquitto/certs", str(certificates))
        self.config = text.replace("/etc/mosquitto", str(folder)).replace(
            "listener 8883", f"listener {self.port} {HOST}"
        )

    def know(self, user):
        """An account more; each has its name as its password."""
        program = needs("mosquitto_passwd", "mosquitto")
        subprocess.run([program, "-b", self._passwords, user, f"{user}-word"], check=True, capture_output=True)

    def mqtt(self, user):
        """The lines of [mqtt] for whoever comes with TLS."""
        own = self._certificates / user
        tls = f'[mqtt.tls]\nca = "{self._certificates}/ca.pem"\ncert = "{own}.pem"\nkey = "{own}.key"\n'
        return f'username = "{user}"\npassword_file = "{self.secret(user)}"\n{tls}'

    def secret(self, user):
        path = self.folder / f"{user}.password"
        path.write_text(f"{user}-word")
        path.chmod(0o600)
        return path

    def says(self, broker, user, topic, payload=b"{}"):
        """What the broker answers to that user's message."""
        who = {"username": user, "password_file": self.secret(user)}
        table = mqtt.Config(host=HOST, port=broker.port, **who)
        with closing(mqtt.create(table, f"test-{user}")) as publisher:
            publisher.send(Message(topic, payload, qos=1, expiry_s=5, token=1))
            while not (receipts := publisher.poll(1)):
                pass
            return receipts[0].code


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder in which the documentation's commands were run, for a broker at this address."""
    needs("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")
    commands = re.search(r"(?s)```sh\n(.*?)```", (REPO / "docs" / "security.md").read_text())[1]
    there = commands.replace("DNS:broker.example.com", f"IP:{HOST}")
    subprocess.run(["bash", "-e", "-c", there], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def plant(tmp_path, certificates):
    return Plant(tmp_path, certificates)


@pytest.fixture
def broker(tmp_path, plant):
    with running_broker(tmp_path, plant.config) as running:
        yield running


def hears(broker, user, topics="#"):
    return Listener(broker.port, topics, username=user, password=f"{user}-word")


def denied(broker):
    return [line for line in broker.log.splitlines() if "Denied" in line]


# --- what must work -------------------------------------------------------------------------------------------------


def test_agent_arm_triggers_and_back_office_work_with_their_own_accounts(tmp_path, plant, broker):
    cameras = replay(PHOTOS, fps=10, trigger='kind = "mqtt"\nwindow_ms = 2000')
    text = config_text(model=recording(tmp_path / "one.npz"), cameras=cameras, port=plant.port, verdict=RELAXED)
    agent_text = f"{text.replace('test-01', 'demo-01')}{plant.mqtt('demo-01')}\n[ack]\n"
    trigger = b'{"schema": "edge-agent/trigger/1", "trigger_id": "t-1"}'
    with (
        hears(broker, "back-office") as office,
        running_agent(tmp_path, agent_text) as agent,
        running_arm(tmp_path, config(plant, mqtt=plant.mqtt("demo-01-arm"))) as arm,
    ):
        arm.wait_for(code="agent_back", timeout=20)
        assert plant.says(broker, "demo-01-trigger", f"{ROOT}/trigger/top", trigger) != NOT_AUTHORISED
        arm.wait_for(kind="verdict", action="pass", timeout=20)
        for kind in ("state", "birth", "heartbeat", "verdict/top", "result/top", "health", "ack"):
            office.wait_for(lambda heard, kind=kind: heard.topic == f"{ROOT}/{kind}", timeout=20)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert office.on("verdict/top")[0].json["trigger_id"] == "t-1"
    trail = (tmp_path / "state" / "edge-agent" / "demo-01" / "audit.jsonl").read_text().splitlines()
    came_in = [(line["topic"].removeprefix(f"{ROOT}/"), line["outcome"]) for line in map(json.loads, trail)]
    assert came_in == [("trigger/top", "accepted"), ("ack", "accepted")]
    assert denied(broker) == []


# --- what must not --------------------------------------------------------------------------------------------------

OWN = {
    "demo-01": ("state", "birth", "heartbeat", "verdict/top", "result/top", "event", "health"),
    "demo-01-arm": ("ack",),
    "demo-01-trigger": ("trigger/top",),
    "back-office": (),
}
EVERYTHING = tuple(dict.fromkeys(topic for topics in OWN.values() for topic in topics))


@pytest.mark.parametrize("user", USERS)
def test_a_user_can_publish_its_own_messages_and_no_others(plant, broker, user):
    foreign = ROOT.replace("demo-01", "demo-02")
    for topic in EVERYTHING:
        allowed = topic in OWN[user]
        assert (plant.says(broker, user, f"{ROOT}/{topic}") != NOT_AUTHORISED) == allowed, topic
        assert plant.says(broker, user, f"{foreign}/{topic}") == NOT_AUTHORISED, topic
    for topic in ("factory", f"{ROOT}/cmd", f"{ROOT}/verdict", "$SYS/broker/uptime"):
        assert plant.says(broker, user, topic) == NOT_AUTHORISED, topic


HEARD = {
    "demo-01": {"trigger/top", "ack"},
    "demo-01-arm": {"state", "birth", "heartbeat", "verdict/top"},
    "demo-01-trigger": set(),
    "back-office": set(EVERYTHING),
}


def test_a_user_hears_what_it_needs_and_of_its_own_device_alone(plant, broker):
    mine = plant.acl.read_text()
    plant.acl.write_text(mine + mine.replace("demo-01", "demo-02"))  # as for a second device
    others = {user.replace("demo-01", "demo-02"): topics for user, topics in HEARD.items()}
    for user in others:
        plant.know(user)
    broker.reload()
    roots = {"demo-01": ROOT, "demo-02": ROOT.replace("demo-01", "demo-02")}
    with ExitStack() as stack:
        listeners = {user: stack.enter_context(hears(broker, user)) for user in (*HEARD, *others)}
        for listener in (*listeners.values(), *listeners.values()):  # the second time, what was said before is heard
            for root in roots.values():
                for topic in EVERYTHING:
                    listener.publish(f"{root}/{topic}")
        for user, listener in listeners.items():
            devices = roots if user == "back-office" else [user[:7]]
            expected = {f"{roots[device]}/{topic}" for device in devices for topic in {**HEARD, **others}[user]}
            told = lambda listener=listener: {heard.topic for heard in listener.heard}  # noqa: E731
            assert ended(lambda told=told, expected=expected: told() >= expected), user
            assert told() == expected, user


def test_a_client_without_a_name_or_with_a_wrong_password_is_not_let_in(plant, broker):
    for who in ({}, {"username": "demo-01"}, {"username": "demo-01-arm", "password_file": plant.secret("demo-01")}):
        with pytest.raises(PublisherLostError, match="the broker refused the connection: Not authorized"):
            mqtt.create(mqtt.Config(host=HOST, port=broker.port, **who), "stranger")
    with pytest.raises(PublisherLostError):
        mqtt.create(mqtt.Config(host=HOST, port=plant.port), "stranger")
