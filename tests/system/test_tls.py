"""The agent and a broker with TLS: certificates that are right, wrong, and replaced while it runs."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess

import pytest

from tests.brokers import HOST, Listener, free_port, running_broker
from tests.certificates import CLIENT, Authority
from tests.system.agents import config_text, replay, running_agent
from tests.system.arms import EXAMPLE, Arm
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_outbox import is_event
from tests.system.test_run import RELAXED, is_verdict, wait_for_log

pytestmark = pytest.mark.system
HERE = f"IP:{HOST}"
NOTHING_NEWER = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = old
[old]
MaxProtocol = TLSv1.1
CipherString = DEFAULT@SECLEVEL=0
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def serving(cert, key, more=""):
    """The options of a listener with TLS."""
    return f"certfile {cert}\nkeyfile {key}\n{more}\n"


def beside_an_ear(port, options):
    """The broker's first listener is the test's own, without TLS; a second one, on `port`, has these options."""
    return f"allow_anonymous true\nlistener {port} {HOST}\n{options}"


def agent_config(folder, port, ca, *, cert=None, key=None):
    """An agent at 10 parts a second."""
    model = recording(folder / "one.npz")
    text = config_text(model=model, cameras=replay(PHOTOS, fps=10), port=port, verdict=RELAXED)
    own = f'cert = "{cert}"\nkey = "{key}"\n' if cert else ""
    return f'{text}\n[mqtt.tls]\nca = "{ca}"\n{own}'


def assert_every_part_is_accounted_for(listener):
    """Each part has a verdict that was heard, or that an event reports as unsent."""
    heard = {message.json["seq"] for message in listener.on("verdict/top")}
    events = [message.json["data"] for message in listener.on("/event") if is_event("verdicts_unsent")(message)]
    unsent = {seq for data in events for seq in range(data["first_seq"], data["last_seq"] + 1)}
    assert heard | unsent >= set(range(1, max(heard) + 1))


def assert_no_result_is_missing(listener):
    numbers = list(dict.fromkeys(message.json["seq"] for message in listener.on("result/top")))
    assert numbers == list(range(1, len(numbers) + 1))


def names_of_connections(broker):
    """The user name of each connection of the agent's line, in order."""
    lines = [line for line in broker.log.splitlines() if "New client connected" in line and "ea-test-01-line" in line]
    return [line.partition("u'")[2].partition("'")[0] for line in lines]


# --- what works -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_mutual", [False, True], ids=["tls", "mutual"])
def test_verdicts_and_results_go_over_tls(tmp_path, authority, is_mutual):
    cert, key = authority.certify("agent", CLIENT)
    mutual = f"cafile {authority.ca}\nrequire_certificate true" if is_mutual else ""
    options = serving(*authority.certify("server", f"subjectAltName={HERE}"), mutual)
    port = free_port()
    with (
        running_broker(tmp_path, beside_an_ear(port, options)) as broker,
        Listener(broker.port, "factory/#") as listener,
    ):
        own = {"cert": cert, "key": key} if is_mutual else {}
        with running_agent(tmp_path, agent_config(tmp_path, port, authority.ca, **own)) as agent:
            listener.wait_for_count(is_verdict(), 3, timeout=20)
            listener.wait_for_count(lambda heard: heard.topic.endswith("result/top"), 3)
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0


# --- what does not --------------------------------------------------------------------------------------------------


def unknown_authority(folder, _authority):
    return serving(*Authority(folder / "other").certify("server", f"subjectAltName={HERE}"))


def another_host(_folder, authority):
    return serving(*authority.certify("server", "subjectAltName=DNS:other.example"))


def expired(_folder, authority):
    return serving(*authority.certify("server", f"subjectAltName={HERE}", days=-1))


def plain_text(_folder, _authority):
    return ""


def wants_a_certificate(_folder, authority):
    mutual = f"cafile {authority.ca}\nrequire_certificate true"
    return serving(*authority.certify("server", f"subjectAltName={HERE}"), mutual)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (unknown_authority, "its certificate was refused"),
        (another_host, "its certificate was refused: IP address mismatch"),
        (expired, "its certificate was refused: certificate has expired"),
        (plain_text, "Connection reset by peer"),
        (wants_a_certificate, "wants a certificate"),
    ],
    ids=["unknown authority", "another host", "expired", "plain text", "wants a certificate"],
)
def test_a_wrong_broker_is_told_never_trusted_and_taken_once_it_is_right(tmp_path, authority, wrong, reason):
    port = free_port()
    with (
        running_broker(tmp_path, beside_an_ear(port, wrong(tmp_path, authority))) as broker,
        running_agent(tmp_path, agent_config(tmp_path, port, authority.ca)) as agent,
    ):
        wait_for_log(agent, '"link_retry"')
        assert re.search(f'"link_retry".*({reason})', agent.log())
        assert '"link_up"' not in agent.log()
        assert "New client connected" not in broker.log
        broker.stop()
        options = serving(*authority.certify("server", f"subjectAltName={HERE}"))
        broker.configure(beside_an_ear(port, options))
        broker.start()
        with Listener(broker.port, "factory/#") as listener:
            listener.wait_for_count(is_verdict(), 3, timeout=20)
            listener.wait_for(is_event("verdicts_unsent"))
            agent.send(signal.SIGTERM)
            assert agent.ended() == 0
            listener.hear_out()
    assert_every_part_is_accounted_for(listener)
    assert_no_result_is_missing(listener)


def test_a_broker_that_speaks_nothing_newer_than_tls_1_1_is_refused(tmp_path, authority, monkeypatch):
    (tmp_path / "openssl.cnf").write_text(NOTHING_NEWER)
    options = serving(
        *authority.certify("server", f"subjectAltName={HERE}"), "tls_version tlsv1.1\nciphers ALL@SECLEVEL=0"
    )
    port = free_port()
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as environment:
            environment.setenv("OPENSSL_CONF", str(tmp_path / "openssl.cnf"))
            broker = stack.enter_context(running_broker(tmp_path, beside_an_ear(port, options)))
        words = ["openssl", "s_client", "-tls1_1", "-cipher", "ALL@SECLEVEL=0", "-connect", f"{HOST}:{port}"]
        said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
        assert "Protocol  : TLSv1.1" in said
        agent = stack.enter_context(running_agent(tmp_path, agent_config(tmp_path, port, authority.ca)))
        wait_for_log(agent, "PROTOCOL")
        assert '"link_up"' not in agent.log()
        assert "New client connected" not in broker.log


def test_the_arm_does_not_trust_a_wrong_broker_either(tmp_path, authority):
    port = free_port()
    with running_broker(tmp_path, beside_an_ear(port, unknown_authority(tmp_path, authority))) as broker:
        text = EXAMPLE.replace("port = 1883", f'port = {port}\n[mqtt.tls]\nca = "{authority.ca}"')
        arm = Arm(tmp_path, text.replace("localhost", HOST))
        try:
            arm.wait_for_log("its certificate was refused")
        finally:
            arm.end()
        assert "New client connected" not in broker.log


def test_nothing_is_said_in_plain_text_to_whoever_listens_there(tmp_path, authority):
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(20)
        config = agent_config(tmp_path, server.getsockname()[1], authority.ca)
        with running_agent(tmp_path, config):
            heard = []
            for _ in range(4):  # both connections, twice
                connection, _ = server.accept()
                with connection:
                    heard.append(connection.recv(65536))
                    connection.sendall(b"\x20\x03\x00\x00\x00")  # a CONNACK: welcome
    assert all(said.startswith(b"\x16\x03") for said in heard)  # a TLS handshake
    assert all(b"MQTT" not in said and b"test-01" not in said for said in heard)


# --- rotation -------------------------------------------------------------------------------------------------------


def install(certified, folder):
    """A certificate and its key under the names that the configuration has."""
    cert, key = certified
    shutil.copy(cert, folder / "own.pem")
    (folder / "own.key").touch(0o600)
    shutil.copy(key, folder / "own.key")
    (folder / "own.key").chmod(0o600)


@pytest.fixture
def rotating(tmp_path, authority):
    """A broker that takes client certificates of two authorities and tells who came; an ear; an agent on it."""
    new = Authority(tmp_path / "new")
    (tmp_path / "both.pem").write_text(authority.ca.read_text() + new.ca.read_text())
    cert, key = authority.certify("server", f"subjectAltName={HERE}")
    shutil.copy(cert, tmp_path / "server.pem")
    shutil.copy(key, tmp_path / "server.key")
    shutil.copy(authority.ca, tmp_path / "ca.pem")
    install(authority.certify("before", CLIENT), tmp_path)
    more = f"cafile {tmp_path}/both.pem\nrequire_certificate true\nuse_identity_as_username true"
    options = serving(tmp_path / "server.pem", tmp_path / "server.key", more)
    port = free_port()
    config = agent_config(tmp_path, port, tmp_path / "ca.pem", cert=tmp_path / "own.pem", key=tmp_path / "own.key")
    with (
        running_broker(tmp_path, beside_an_ear(port, options)) as broker,
        Listener(broker.port, "factory/#") as listener,
        running_agent(tmp_path, config) as agent,
    ):
        listener.wait_for_count(is_verdict(), 2, timeout=20)
        yield broker, listener, agent, new


def test_certificates_of_broker_and_agent_are_replaced_while_it_runs(tmp_path, rotating):
    broker, listener, agent, new = rotating
    cert, key = new.certify("server", f"subjectAltName={HERE}")
    shutil.copy(cert, tmp_path / "server.pem")
    shutil.copy(key, tmp_path / "server.key")
    broker.reload()
    shutil.copy(new.ca, tmp_path / "ca.pem")
    install(new.certify("after", CLIENT), tmp_path)
    agent.send(signal.SIGHUP)
    listener.wait_for(is_event("reloaded"))
    wait_for_log(agent, '"link": "line", "connection": 2')
    wait_for_log(agent, '"link": "records", "connection": 2')
    since = len(listener.on("verdict/top"))
    listener.wait_for_count(is_verdict(), since + 5)
    agent.send(signal.SIGTERM)
    assert agent.ended() == 0
    listener.hear_out()
    assert names_of_connections(broker) == ["before", "after"]
    assert_every_part_is_accounted_for(listener)
    assert_no_result_is_missing(listener)


def test_certificates_that_cannot_be_used_are_refused_and_what_runs_goes_on(tmp_path, rotating):
    broker, listener, agent, new = rotating
    good = (tmp_path / "own.pem").read_bytes()
    others = new.certify("after", CLIENT)[0].read_bytes()
    for number, (bad, words) in enumerate([(others, "the key does not belong"), (b"no certificate", "cannot use")], 1):
        (tmp_path / "own.pem").write_bytes(bad)
        agent.send(signal.SIGHUP)
        refused = listener.wait_for_count(is_event("reload_refused"), number)
        assert "mqtt.tls.cert: cannot use" in refused[-1].json["message"]
        assert words in agent.log()
    since = len(listener.on("verdict/top"))
    listener.wait_for_count(is_verdict(), since + 5)
    (tmp_path / "own.pem").write_bytes(good)
    agent.send(signal.SIGHUP)
    listener.wait_for(is_event("reloaded"))
    seqs = [heard.json["seq"] for heard in listener.on("verdict/top")]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert names_of_connections(broker) == ["before"]
