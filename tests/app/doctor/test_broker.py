"""Brokers that are not there, silent, not to be trusted, or do not let one say what one has to: a real mosquitto."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from edge_agent.app.status import Report
from tests.app.doctor.patients import as_root, finding, installation, simple
from tests.brokers import HOST, Listener, free_port, needs, running_broker
from tests.certificates import Authority
from tests.fixtures import REPO
from tests.system.agents import ROOT

HERE = f"IP:{HOST}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def at(folder, port, mqtt="", **options):
    """An installation whose broker is at this port; `mqtt` are more lines of its table."""
    return installation(folder, simple(folder, port=port, more=mqtt), **options)


def levels(context, *names):
    return [finding(context, name).level for name in names]


# --- reached --------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_well_and_somebody_who_listens_pass(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port, "factory/#") as listener:
        context = at(tmp_path, broker.port)
        names = ("broker-name", "broker-port", "broker-login", "broker-acl", "subscribers", "one-agent")
        assert levels(context, *names) == ["ok"] * 6
        told = listener.wait_for(lambda heard: heard.topic == f"{ROOT}/state")
    assert (told.json["state"], [heard.topic for heard in listener.heard]) == ("offline", [f"{ROOT}/state"])
    assert "ea-test-01-doctor" in broker.log
    assert "ea-test-01-line" not in broker.log


def test_a_port_on_which_nobody_listens_is_found(tmp_path):
    context = at(tmp_path, free_port())
    found = finding(context, "broker-port")
    assert (found.level, found.fix) == ("fail", "sudo systemctl start mosquitto")
    assert finding(context, "broker-login").evidence == "see broker-port"


def test_a_host_name_without_an_address_is_found(tmp_path):
    text = simple(tmp_path).replace('host = "127.0.0.1"', 'host = "broker.invalid"')
    found = finding(installation(tmp_path, text), "broker-name")
    assert (found.level, found.evidence.startswith("broker.invalid has no address")) == ("fail", True)
    assert found.fix.startswith(f"write the broker's address at {tmp_path}/agent.toml:")


@as_root
def test_a_name_server_that_does_not_answer_is_found(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.7.7.7\n")
    config = tmp_path / "agent.toml"
    config.write_text(simple(tmp_path).replace('host = "127.0.0.1"', 'host = "broker.example"'))
    script = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && shift && exec "$@"'
    look = [sys.executable, "-m", "tests.app.doctor.examined", config, "broker-name"]
    command = ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path / "resolv.conf", *look]
    with socket.socket(type=socket.SOCK_DGRAM) as mute:
        mute.bind(("127.7.7.7", 53))
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPO)
    if done.returncode:
        pytest.skip(f"no other resolv.conf can be mounted here: {done.stderr[-200:]}")
    found = json.loads(done.stdout)
    assert (found["level"], "no name server answers within 3 s" in found["evidence"]) == ("fail", True)
    assert found["fix"].startswith(f"write the broker's address at {config}:")


def test_a_broker_that_is_silent_is_found(tmp_path):
    with running_broker(tmp_path) as broker:
        broker.freeze()
        found = finding(at(tmp_path, broker.port), "broker-login")
        broker.thaw()
    assert (found.level, "has not answered for 3 s" in found.evidence) == ("fail", True)
    assert found.fix == "start the broker anew: sudo systemctl restart mosquitto"


def test_something_else_than_a_broker_is_found(tmp_path):
    with closing(socket.create_server((HOST, 0))) as server:
        context = at(tmp_path, server.getsockname()[1])
        server.settimeout(5)

        def hang_up():
            for _ in range(2):
                with server.accept()[0] as met:
                    met.settimeout(2)
                    met.recv(100)

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = finding(context, "broker-login")
        thread.join()
    assert (found.level, "to the broker's listener for MQTT 5; one that wants TLS" in found.fix) == ("fail", True)


# --- trusted --------------------------------------------------------------------------------------------------------


def with_tls(folder, options, ca, host=HOST):
    port = free_port()
    with running_broker(folder, f"allow_anonymous true\nlistener {port} {HOST}\n{options}"):
        text = simple(folder, port=port, more=f'\n[mqtt.tls]\nca = "{ca}"\n').replace(f'"{HOST}"', f'"{host}"')
        return finding(installation(folder, text), "broker-tls")


def serving(pair):
    return f"certfile {pair[0]}\nkeyfile {pair[1]}\n"


def test_a_good_certificate_passes(tmp_path, authority):
    found = with_tls(tmp_path, serving(authority.certify("long", f"subjectAltName={HERE}", days=90)), authority.ca)
    assert (found.level, found.evidence) == ("ok", "the broker's certificate is good for 90 days")


def test_a_certificate_that_expires_soon_is_to_be_looked_at(tmp_path, authority):
    found = with_tls(tmp_path, serving(authority.certify("soon", f"subjectAltName={HERE}", days=2)), authority.ca)
    assert (found.level, found.evidence) == ("warn", "the broker's certificate expires in 2 days")


def test_a_certificate_of_another_authority_is_found(tmp_path, authority):
    pair = Authority(tmp_path / "other").certify("server", f"subjectAltName={HERE}")
    found = with_tls(tmp_path, serving(pair), authority.ca)
    assert (found.level, found.fix.startswith(f"set `ca` at {tmp_path}/agent.toml:")) == ("fail", True)


def test_an_expired_certificate_is_found(tmp_path, authority):
    found = with_tls(tmp_path, serving(authority.certify("old", f"subjectAltName={HERE}", days=-1)), authority.ca)
    assert (found.level, "expired" in found.evidence) == ("fail", True)
    assert found.fix == "renew the broker's certificate, on the broker"


def test_a_certificate_for_another_host_names_the_hosts_that_it_is_for(tmp_path, authority):
    pair = authority.certify("elsewhere", "subjectAltName=DNS:broker.plant.example")
    found = with_tls(tmp_path, serving(pair), authority.ca)
    assert (found.level, found.fix.startswith("set `host` at ")) == ("fail", True)
    assert found.fix.endswith("to a name that the certificate has (broker.plant.example)")


def test_a_listener_without_tls_is_found(tmp_path, authority):
    found = with_tls(tmp_path, "", authority.ca)
    assert (found.level, found.fix.endswith("to the broker's listener with TLS, mostly 8883")) == ("fail", True)


def test_a_broker_that_wants_a_certificate_of_ours_is_found(tmp_path, authority):
    mutual = f"cafile {authority.ca}\nrequire_certificate true\n"
    pair = authority.certify("mutual", f"subjectAltName={HERE}", days=90)
    found = with_tls(tmp_path, serving(pair) + mutual, authority.ca)
    assert (found.level, found.fix.startswith("set `cert` and `key` in [mqtt.tls]")) == ("fail", True)


# --- let in ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    """A broker with an account `cap`, whose password is `word`, and an ACL that lets it write what the text says."""
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    passwords.touch(0o600)
    subprocess.run(
        [needs("mosquitto_passwd", "mosquitto"), "-b", passwords, "cap", "word"], check=True, capture_output=True
    )

    def make(*allowed):
        acl.write_text("\n".join(["user cap", *(f"topic {words}" for words in allowed)]) + "\n")
        return running_broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}")

    return make


def as_cap(folder, word="word"):
    secret = folder / "cap.password"
    secret.touch(0o600)
    secret.write_text(word)
    return f'username = "cap"\npassword_file = "{secret}"\n'


def test_a_wrong_password_is_found(tmp_path, guarded):
    with guarded("readwrite #") as broker:
        found = finding(at(tmp_path, broker.port, as_cap(tmp_path, "worm")), "broker-login")
    assert (found.level, "Not authorized (0x87)" in found.evidence) == ("fail", True)
    assert found.fix.startswith(f"write the password of cap into {tmp_path}/cap.password")


def test_no_account_where_one_is_wanted_is_found(tmp_path, guarded):
    with guarded("readwrite #") as broker:
        found = finding(at(tmp_path, broker.port), "broker-login")
    assert (found.level, found.fix.startswith("set `username` and `password_file` in [mqtt]")) == ("fail", True)


def test_an_acl_that_refuses_the_state_is_found(tmp_path, guarded):
    with guarded("write factory/other/#") as broker:
        found = finding(at(tmp_path, broker.port, as_cap(tmp_path)), "broker-acl")
    assert (found.level, "(0x87)" in found.evidence) == ("fail", True)
    assert found.fix == (
        f"write below `user cap` in the broker's ACL: topic write {ROOT}/state; then sudo systemctl reload mosquitto"
    )


def test_an_acl_that_refuses_verdicts_is_found_where_they_are_tried(tmp_path, guarded):
    with guarded(f"write {ROOT}/state") as broker:
        assert finding(at(tmp_path, broker.port, as_cap(tmp_path)), "broker-acl").level == "ok"
        found = finding(at(tmp_path, broker.port, as_cap(tmp_path), probe_verdicts=True), "broker-acl")
    assert (found.level, f"topic write {ROOT}/verdict/top;" in found.fix) == ("fail", True)


# --- heard ----------------------------------------------------------------------------------------------------------


def test_nobody_who_subscribes_is_found(tmp_path):
    with running_broker(tmp_path) as broker:
        found = finding(at(tmp_path, broker.port), "subscribers")
    assert (found.level, f"nobody subscribes to {ROOT}/state (0x10)" in found.evidence) == ("warn", True)
    assert found.fix == f"start the arm or gateway, and have it subscribe to {ROOT}/verdict/top"


def test_nobody_who_subscribes_to_verdicts_is_found_where_they_are_tried(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port, f"{ROOT}/state"):
        found = finding(at(tmp_path, broker.port, probe_verdicts=True), "subscribers")
    assert (found.level, f"{ROOT}/verdict/top (0x10)" in found.evidence) == ("fail", True)


def test_what_the_running_agent_has_met_is_believed(tmp_path):
    with running_broker(tmp_path) as broker:
        context = at(tmp_path, broker.port)
        facts = {"age_s": 0.1, "reasons": ["records_refused", "no_arm", "connection_unstable:line"], "session": "s"}
        context.status = Report(context.instance, "up", "degraded", 1, facts=facts)
        assert levels(context, "broker-acl", "subscribers", "one-agent") == ["fail"] * 3
    assert "Received PUBLISH" not in broker.log


def test_what_the_running_agent_publishes_is_allowed_topic_by_topic_as_in_the_example_for_mosquitto(tmp_path):
    with running_broker(tmp_path) as broker:
        context = at(tmp_path, broker.port, 'username = "cap"\n')
        facts = {"age_s": 0.1, "reasons": ["verdicts_refused"], "session": "s"}
        context.status = Report(context.instance, "up", "degraded", 1, facts=facts)
        fix = finding(context, "broker-acl").fix
    agents = (REPO / "examples/mosquitto/acl").read_text().split("# The agent:")[1].split("\n\n")[0]
    lines = {line for line in agents.splitlines() if line.startswith("topic write ")}
    root = "factory/leon/bottling/3/capper/vision/demo-01"
    assert set(re.findall(r"topic write [^,;]+", fix)) == {line.replace(root, ROOT) for line in lines}
    assert fix.startswith("write below `user cap` in the broker's ACL, a line each: topic write ")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"links": {"line": False, "records": True}}, "the broker is not connected"),
        ({"reasons": ["verdicts_refused", "no_arm"]}, "the broker does not take verdicts"),
    ],
)
def test_who_subscribes_is_not_said_where_no_verdict_gets_through(tmp_path, more, why):
    with running_broker(tmp_path) as broker:
        context = at(tmp_path, broker.port)
        facts = {"age_s": 0.1, "reasons": ["no_arm"], "session": "s", **more}
        context.status = Report(context.instance, "up", "degraded", 1, facts=facts)
        found = finding(context, "subscribers")
    assert (found.level, why in found.evidence) == ("skip", True)


def test_an_agent_without_a_connection_is_found(tmp_path):
    with running_broker(tmp_path) as broker:
        context = at(tmp_path, broker.port)
        facts = {"age_s": 0.1, "reasons": [], "session": "s", "links": {"line": False, "records": True}}
        context.status = Report(context.instance, "up", "running", 0, facts=facts)
        found = finding(context, "broker-link")
    assert (found.level, found.evidence) == ("fail", "the agent has no connection: line")
    assert found.fix == "edge-agent logs --event 'link_*' -n 5"


def test_a_second_agent_with_the_same_id_is_found_and_nothing_is_said(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port, "factory/#") as listener:
        context = at(tmp_path, broker.port)
        beat = {"schema": "edge-agent/heartbeat/1", "device": "test-01", "session": "another0session", "seq": 1}

        stop = threading.Event()

        def speak():
            while not stop.wait(0.1):
                listener.publish(f"{ROOT}/heartbeat", json.dumps(beat).encode(), wait=False)

        other = threading.Thread(target=speak)
        other.start()
        found = finding(context, "one-agent")
        stop.set()
        other.join()
    assert (found.level, "session another0" in found.evidence) == ("fail", True)
    assert found.fix.startswith("give one of the two another `id` in [device]")
    assert not [heard for heard in listener.heard if heard.topic.endswith("/state")]


def test_a_state_that_the_broker_keeps_stays_as_it_was(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port, "factory/#") as listener:
        kept = {"schema": "edge-agent/state/1", "device": "test-01", "session": "5f0c", "seq": 7, "state": "offline"}
        payload = json.dumps({**kept, "at": "2026-11-21T08:00:00.101Z", "reasons": ["connection_lost"]}).encode()
        listener.publish(f"{ROOT}/state", payload, retain=True)
        assert finding(at(tmp_path, broker.port), "broker-acl").level == "ok"
        said = listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/state", 2)
    assert {heard.payload for heard in said} == {payload}


def test_an_agent_elsewhere_that_sends_no_heartbeat_is_not_said_to_be_offline(tmp_path):
    with running_broker(tmp_path) as broker, Listener(broker.port, "factory/#") as listener:
        payload = json.dumps({"schema": "edge-agent/state/1", "session": "5f0c", "state": "starting"}).encode()
        listener.publish(f"{ROOT}/state", payload, retain=True)
        context = at(tmp_path, broker.port, probe_verdicts=True)
        assert levels(context, "broker-acl", "subscribers", "one-agent") == ["skip"] * 3
        assert "keeps test-01 as `starting`" in finding(context, "one-agent").evidence
    assert [heard.payload for heard in listener.heard] == [payload]


def test_nothing_stays_on_the_broker(tmp_path):
    with running_broker(tmp_path) as broker:
        assert finding(at(tmp_path, broker.port), "broker-acl").level == "ok"
        with Listener(broker.port, "factory/#") as listener:
            time.sleep(0.2)
    assert listener.heard == []
