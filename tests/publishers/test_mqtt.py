"""`mqtt`, on a real mosquitto and real sockets."""

import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt
import pytest
from pydantic import ValidationError

from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.errors import ConfigError, PublisherLostError
from edge_agent.publishers import mqtt
from tests.brokers import Broker, Heard, Listener, needs, running_broker

WILL = Message("state", b'{"state":"offline"}', qos=1, retain=True)


@pytest.fixture
def broker(tmp_path):
    with running_broker(tmp_path) as broker:
        yield broker


def config_of(broker: Broker, **settings) -> mqtt.Config:
    return mqtt.Config(**{"host": broker.host, "port": broker.port, **settings})


def receipt_of(publisher: Publisher) -> Receipt:
    for _ in range(50):
        for receipt in publisher.poll(0.2):
            return receipt
    pytest.fail("no receipt came")


def poll_until_lost(publisher: Publisher) -> str:
    return lost_by(lambda: publisher.poll(0.2))


def lost_by(attempt: Callable[[], object]) -> str:
    """Tries until the connection is known to be lost: why."""
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        try:
            attempt()
        except PublisherLostError as err:
            return str(err)
    pytest.fail("the loss was not noticed")


def is_last(heard: Heard) -> bool:
    return heard.topic == "last"


# --- what arrives ---------------------------------------------------------------------------------------------------


def test_expiry_and_content_type_reach_the_subscriber(broker):
    with Listener(broker.port) as listener:
        publisher = mqtt.create(config_of(broker), "a")
        publisher.send(Message("verdict", b"{}", qos=1, expiry_s=30))
        publisher.send(Message("state", b"{}", qos=1))
        verdict = listener.wait_for(lambda heard: heard.topic == "verdict")
        state = listener.wait_for(lambda heard: heard.topic == "state")
        publisher.close()
    assert (verdict.qos, verdict.retain, verdict.content_type, verdict.payload_format) == (
        1,
        False,
        "application/json",
        1,
    )
    assert verdict.expiry_s in (29, 30)
    assert state.expiry_s is None


def test_a_retained_message_reaches_a_subscriber_that_comes_later(broker):
    publisher = mqtt.create(config_of(broker), "a")
    publisher.send(Message("state", b'{"n":1}', qos=1, retain=True, token=1))
    receipt_of(publisher)
    publisher.close()
    with Listener(broker.port) as listener:
        assert listener.wait_for(lambda heard: heard.retain).json == {"n": 1}


def test_small_messages_are_not_held_back_by_the_kernel(broker):
    publisher = mqtt.create(config_of(broker), "a")
    assert publisher._wire._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    publisher.close()


def test_what_a_full_socket_left_over_is_written_whole_by_poll(tmp_path):
    payloads = [bytes([65 + n]) * 500_000 for n in range(20)]
    with running_broker(tmp_path, "max_queued_messages 0") as broker, Listener(broker.port) as listener:
        publisher = mqtt.create(config_of(broker, keepalive_s=60), "a")
        broker.freeze()
        for payload in payloads:
            publisher.send(Message("big", payload))
        publisher.send(Message("last", b"", token=1))
        assert not publisher.poll(0)
        broker.thaw()
        assert receipt_of(publisher) == Receipt(1, 0)
        listener.wait_for(is_last)
        publisher.close()
        assert [heard.payload for heard in listener.on("big")] == payloads


# --- receipts -------------------------------------------------------------------------------------------------------


def test_a_message_that_nobody_subscribed_to_says_so(broker):
    publisher = mqtt.create(config_of(broker), "a")
    publisher.send(Message("verdict", b"{}", qos=1, token=5))
    receipt = receipt_of(publisher)
    publisher.close()
    assert (receipt.token, receipt.code, receipt.accepted, receipt.nobody_listens) == (5, 0x10, True, True)


def test_a_message_that_the_acl_forbids_is_not_accepted(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite allowed/#\n")
    with running_broker(tmp_path, f"acl_file {acl}\nallow_anonymous true") as broker:
        publisher = mqtt.create(config_of(broker), "a")
        publisher.send(Message("forbidden", b"{}", qos=1, token=5))
        receipt = receipt_of(publisher)
        publisher.close()
    assert (receipt.code, receipt.accepted) == (0x87, False)


def test_the_receipt_of_a_written_message_wakes_a_waiting_poll(broker):
    publisher = mqtt.create(config_of(broker, keepalive_s=3600), "a")
    receipts: list[Receipt] = []
    thread = threading.Thread(target=lambda: receipts.extend(publisher.poll(600)))
    thread.start()
    publisher.send(Message("heartbeat", b"{}", token=3))
    thread.join(20)
    publisher.close()
    assert receipts == [Receipt(3, 0)]


def test_no_more_is_sent_than_the_broker_takes_unconfirmed(tmp_path):
    with running_broker(tmp_path, "max_inflight_messages 3") as broker:
        publisher = mqtt.create(config_of(broker), "a")
        broker.freeze()
        for _ in range(3):
            publisher.send(Message("verdict", b"{}", qos=1))
        with pytest.raises(PublisherLostError, match="3 messages wait for the broker"):
            publisher.send(Message("verdict", b"{}", qos=1))
        publisher.close(abort=True)


# --- the end of a connection ----------------------------------------------------------------------------------------


def test_an_abort_makes_the_broker_send_the_will(broker):
    with Listener(broker.port) as listener:
        publisher = mqtt.create(config_of(broker), "a", WILL)
        publisher.close(abort=True)
        assert listener.wait_for(lambda heard: heard.topic == "state").json == {"state": "offline"}


def test_a_killed_process_makes_the_broker_send_the_will(broker):
    program = (
        "import sys; from edge_agent.publishers import mqtt; from edge_agent.core.ports import Message\n"
        f"p = mqtt.create(mqtt.Config(host={broker.host!r}, port={broker.port}), 'a', Message('state', b'{{}}', qos=1))\n"
        "print(flush=True)\n"
        "while True: p.poll(1)"
    )
    with Listener(broker.port) as listener:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        process.stdout.readline()
        process.kill()
        process.communicate()
        listener.wait_for(lambda heard: heard.topic == "state")


def test_a_clean_close_sends_no_will(broker):
    with Listener(broker.port) as listener:
        mqtt.create(config_of(broker), "a", WILL).close()
        listener.publish("last")
        listener.wait_for(is_last)
        assert not listener.on("state")


def test_a_clean_close_lets_out_what_was_sent_though_acknowledgements_lie_unread(tmp_path):
    with running_broker(tmp_path, "max_queued_messages 0") as broker, Listener(broker.port) as listener:
        publisher = mqtt.create(config_of(broker), "a", WILL)
        for _ in range(10):
            publisher.send(Message("big", b"x" * 300_000, qos=1))
        publisher.close()
        listener.wait_for_count(lambda heard: heard.topic == "big", 10)
        assert not listener.on("state")


def test_a_clean_close_gives_up_on_a_frozen_broker(broker):
    publisher = mqtt.create(config_of(broker), "a")
    broker.freeze()
    closing = threading.Thread(target=publisher.close)
    closing.start()
    closing.join(15)
    assert not closing.is_alive()


def test_a_broker_that_stops_is_noticed_by_poll_and_by_send(broker):
    publisher = mqtt.create(config_of(broker), "a")
    broker.stop()
    assert "the connection broke: the other side closed it" in poll_until_lost(publisher)
    with pytest.raises(PublisherLostError, match="the other side closed it"):
        publisher.send(Message("a", b"{}"))
    publisher.close()


def test_the_reason_that_the_broker_gives_for_a_disconnect_is_passed_on(tmp_path):
    with running_broker(tmp_path, "retain_available false") as broker:
        publisher = mqtt.create(config_of(broker), "a")
        publisher.send(Message("state", b"{}", qos=1, retain=True))
        reason = poll_until_lost(publisher)
        publisher.close()
    given = "Normal disconnection (0x00)" if paho.mqtt.__version__ < "2.2" else "Retain not supported (0x9a)"
    assert reason.endswith(f"the broker ended the connection: {given}")  # paho 2.1 loses a reason without properties


def test_a_broker_that_is_killed_is_noticed_by_poll(broker):
    publisher = mqtt.create(config_of(broker), "a")
    broker.kill()
    assert "the connection broke: " in poll_until_lost(publisher)
    publisher.close()


def test_a_broker_that_is_killed_is_noticed_by_send(broker):
    publisher = mqtt.create(config_of(broker), "a")
    broker.kill()
    assert "the connection broke: " in lost_by(lambda: publisher.send(Message("a", b"{}")))
    publisher.close()


def test_a_black_hole_is_noticed_after_two_keepalives(broker):
    publisher = mqtt.create(config_of(broker, keepalive_s=1), "a")
    broker.freeze()
    began_s = time.monotonic()
    reason = poll_until_lost(publisher)
    assert time.monotonic() - began_s < 4  # 2 s, and room for a busy machine
    assert "the broker does not answer" in reason
    publisher.close()


def test_a_black_hole_is_noticed_though_messages_go_out_all_the_time(broker):
    publisher = mqtt.create(config_of(broker, keepalive_s=1), "a")
    broker.freeze()
    began_s = time.monotonic()
    reason = lost_by(lambda: (publisher.send(Message("heartbeat", b"{}")), publisher.poll(0.1)))
    assert time.monotonic() - began_s < 4
    assert "the broker does not answer" in reason
    publisher.close()


def test_a_second_client_of_the_same_name_takes_the_connection_over(broker):
    first = mqtt.create(config_of(broker), "a")
    second = mqtt.create(config_of(broker), "a")
    poll_until_lost(first)
    second.close()
    first.close()


def test_connections_that_fail_or_end_leave_no_descriptor_open(broker):
    def count() -> int:
        gc.collect()  # what other tests have left behind goes now, and not in between
        return len(list(Path("/proc/self/fd").iterdir()))

    mqtt.create(config_of(broker), "a").close()
    before = count()
    for abort in (True, False):
        mqtt.create(config_of(broker), "a").close(abort=abort)
    broker.kill()
    with pytest.raises(PublisherLostError, match="Connection refused"):
        mqtt.create(config_of(broker), "a")
    assert count() <= before


def test_a_listener_that_speaks_no_mqtt_is_a_lost_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
                sock.recv(1000)

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(PublisherLostError):
            mqtt.create(mqtt.Config(host="127.0.0.1", port=server.getsockname()[1]), "a")
        thread.join(10)


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    """A broker that knows `agent` with the password `correct`."""
    passwords = tmp_path / "passwords"
    subprocess.run(
        [needs("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, "agent", "correct"],
        check=True,
        capture_output=True,
    )
    with running_broker(tmp_path, f"password_file {passwords}") as broker:
        yield broker


def secret(path: Path, text: str = "correct\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_password_is_read_anew_for_every_connection(guarded, tmp_path):
    file = secret(tmp_path / "password")
    config = config_of(guarded, username="agent", password_file=file)
    mqtt.create(config, "a").close()
    secret(file, "wrong")
    with pytest.raises(
        PublisherLostError, match=r"refused the connection: Not authorized \(0x87\); check username"
    ) as lost:
        mqtt.create(config, "a")
    assert "wrong" not in str(lost.value)


def test_a_bare_name_is_a_systemd_credential(guarded, tmp_path, monkeypatch):
    secret(tmp_path / "mqtt-password", mode=0o440)  # systemd makes them so, and guards the folder
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    mqtt.create(config_of(guarded, username="agent", password_file=Path("mqtt-password")), "a").close()


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("correct", 0o644, "mode 0644.*chmod 600"),
        ("correct", 0o640, "mode 0640.*chmod 600"),
        ("\n", 0o600, "is empty"),
        ("\udcff", 0o600, "cannot read"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_refused(tmp_path, text, mode, problem):
    file = tmp_path / "password"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    file.chmod(mode)
    with pytest.raises(ConfigError, match=problem):
        mqtt.verify(mqtt.Config(host="nowhere.invalid", username="agent", password_file=file))


def test_a_password_file_that_is_missing_is_refused(tmp_path):
    config = mqtt.Config(host="nowhere.invalid", username="agent", password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match=r"mqtt.password_file: cannot read .*none: No such file"):
        mqtt.verify(config)


# --- TLS ------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of our own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._openssl = folder, needs("openssl", "openssl")
        self.ca = folder / "ca.pem"
        self._run("req", "-x509", *self._key("ca"), "-out", self.ca, "-days", "2", "-subj", "/CN=test authority")

    def certify(self, name: str, extensions: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key, request, ext = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        ext.write_text(extensions)
        self._run("req", *self._key(name), "-out", request, "-subj", f"/CN={name}")
        authority = ("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        self._run("x509", "-req", "-in", request, *authority, "-out", cert, "-days", "2", "-extfile", ext)
        return cert, key

    def _key(self, name: str) -> tuple[object, ...]:
        return (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            self.folder / f"{name}.key",
        )

    def _run(self, *arguments: object) -> None:
        subprocess.run([self._openssl, *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_broker(folder: Path, authority: Authority, names: str, more: str = ""):
    cert, key = authority.certify("server", f"subjectAltName={names}")
    return running_broker(
        folder, f"cafile {authority.ca}\ncertfile {cert}\nkeyfile {key}\n{more}\nallow_anonymous true"
    )


def test_a_message_goes_over_tls_and_large_ones_too(tmp_path, authority):
    with tls_broker(tmp_path, authority, "IP:127.0.0.1") as broker:
        publisher = mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")
        for token, size in enumerate((10, 3_000_000)):
            publisher.send(Message("a", b"x" * size, qos=1, token=token))
            assert receipt_of(publisher) == Receipt(token, 0x10)
        publisher.close()


def test_a_certificate_for_another_host_is_refused(tmp_path, authority):
    refused = pytest.raises(PublisherLostError, match="its certificate was refused: IP address mismatch")
    with tls_broker(tmp_path, authority, "DNS:other.example") as broker, refused:
        mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path, authority):
    with tls_broker(tmp_path, authority, "IP:127.0.0.1") as broker:
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other")
        with pytest.raises(PublisherLostError, match="its certificate was refused"):
            mqtt.create(config_of(broker, tls={"ca": other.ca}), "a")


def test_tls_does_not_fall_back_to_plain_text(broker, authority):
    with pytest.raises(PublisherLostError):
        mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")


def test_a_client_certificate_opens_a_broker_that_asks_for_one(tmp_path, authority):
    cert, key = authority.certify("agent", "extendedKeyUsage=clientAuth")
    key.chmod(0o600)
    with tls_broker(tmp_path, authority, "IP:127.0.0.1", "require_certificate true") as broker:
        tls = {"ca": authority.ca, "cert": cert, "key": key}
        mqtt.create(config_of(broker, tls=tls), "a").close()
        with pytest.raises(PublisherLostError):
            mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")


def test_tls_files_that_cannot_be_used_are_refused(tmp_path, authority):
    cert, key = authority.certify("agent", "extendedKeyUsage=clientAuth")
    other_cert, _ = authority.certify("other", "extendedKeyUsage=clientAuth")
    garbage = secret(tmp_path / "garbage", "no certificate")
    for tls, problem in [
        ({"ca": tmp_path / "none"}, "mqtt.tls.ca: cannot use .*none: No such file"),
        ({"ca": garbage}, "mqtt.tls.ca: cannot use .*garbage"),
        ({"ca": authority.ca, "cert": garbage, "key": key}, "mqtt.tls.cert: cannot use .*garbage"),
        ({"ca": authority.ca, "cert": other_cert, "key": key}, "KEY_VALUES_MISMATCH"),
    ]:
        key.chmod(0o600)
        with pytest.raises(ConfigError, match=problem):
            mqtt.verify(mqtt.Config(host="nowhere.invalid", tls=tls))
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"mqtt.tls.key: .*mode 0644"):
        mqtt.verify(mqtt.Config(host="nowhere.invalid", tls={"ca": authority.ca, "cert": cert, "key": key}))


# --- configuration --------------------------------------------------------------------------------------------------


def test_the_port_follows_tls_unless_it_is_set():
    assert mqtt.Config(host="a").port == mqtt.Config(host="fe80::1").port == 1883
    assert mqtt.Config(host="a", tls={}).port == 8883
    assert mqtt.Config(host="a", tls={}, port=1).port == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"prefix": "a//b"}, "must be topic levels"),
        ({"prefix": "a/+"}, "must be topic levels"),
        ({"prefix": "$SYS"}, "must be topic levels"),
        ({"host": "mqtt://a"}, "without scheme"),
        ({"password_file": "x"}, "without username"),
        ({"tls": {"key": "x"}}, "without cert"),
        ({"tls": {"insecure": True}}, "Extra inputs"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        mqtt.Config(**{"host": "a", **settings})


@pytest.mark.parametrize("host", ["mqtt://broker", "broker:1883", "[fe80::1]:1883", "a broker"])
def test_a_host_with_a_scheme_a_port_or_spaces_is_refused(host):
    with pytest.raises(ValueError, match="must be a name or an address, without scheme, port or spaces"):
        mqtt.Config(host=host)
