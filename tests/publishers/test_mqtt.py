"""`mqtt`, on a real mosquitto and real sockets."""

import contextlib
import gc
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt
import pytest
from pydantic import ValidationError

from edge_agent.core import ports
from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.errors import ConfigError, PublisherLostError
from edge_agent.publishers import mqtt
from edge_agent.publishers.mqtt import connection
from tests.brokers import Broker, Heard, Listener, free_port, needs, running_broker
from tests.certificates import CLIENT, Authority

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


def test_bytes_that_the_other_side_does_not_confirm_end_the_connection_by_the_kernel_too(broker):
    publisher = mqtt.create(config_of(broker), "a")
    assert publisher._wire._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2000
    publisher.close()


def test_a_message_that_lay_there_while_nobody_looked_says_for_how_long_it_may_have(broker):
    publisher = mqtt.create(config_of(broker), "a", subscriptions=["trigger"])
    with Listener(broker.port) as listener:
        prompt = []
        for _ in range(10):  # a busy machine may hold this one up, too
            publisher.poll(0.01)
            listener.publish("trigger", b"prompt", wait=False)
            prompt += poll_for(publisher, 1)
        time.sleep(0.5)
        listener.publish("trigger", b"late")
        (late,) = poll_for(publisher, 1)
    assert min(heard.waited_ns for heard in prompt) == 0
    assert 500e6 < late.waited_ns < 20e9
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
    publisher = mqtt.create(config_of(broker), "a")
    took_s = []
    for token in range(5):
        receipts: list[Receipt] = []
        thread = threading.Thread(target=lambda receipts=receipts: receipts.append(receipt_of(publisher)))
        thread.start()
        began_s = time.monotonic()
        publisher.send(Message("heartbeat", b"{}", token=token))
        thread.join(20)
        took_s.append(time.monotonic() - began_s)
        assert receipts == [Receipt(token, 0)]
    publisher.close()
    assert min(took_s) < 0.1


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
    reason = poll_until_lost(publisher)
    assert re.search("the connection broke: (the other side closed it|Connection reset by peer)", reason)
    with pytest.raises(PublisherLostError, match=r"the other side closed it|Connection reset by peer"):
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


@pytest.mark.parametrize("keepalive_s", [1, 3600])
def test_a_broker_that_answers_nothing_is_noticed_within_two_seconds_whatever_the_keepalive(broker, keepalive_s):
    publisher = mqtt.create(config_of(broker, keepalive_s=keepalive_s), "a")
    began_s = time.monotonic()
    broker.freeze()
    reason = poll_until_lost(publisher)
    assert 1 < time.monotonic() - began_s < 4  # 1.25 to 1.75 s, and room for a busy machine
    assert "the broker does not answer (for 1.25 s)" in reason
    publisher.close()


def test_a_broker_that_answers_nothing_is_noticed_though_messages_go_out_all_the_time(broker):
    publisher = mqtt.create(config_of(broker), "a")
    broker.freeze()
    began_s = time.monotonic()
    reason = lost_by(lambda: (publisher.send(Message("heartbeat", b"{}")), publisher.poll(0.1)))
    assert time.monotonic() - began_s < 4
    assert "the broker does not answer" in reason
    publisher.close()


def test_a_slow_broker_keeps_its_connection_though_it_pauses(broker):
    publisher = mqtt.create(config_of(broker, keepalive_s=1), "a")
    for _ in range(2):
        broker.freeze()
        thaw = threading.Timer(0.5, broker.thaw)
        thaw.start()
        publisher.send(Message("verdict", b"{}", qos=1, token=1))
        assert receipt_of(publisher).accepted
        thaw.join()
    publisher.close()


def test_an_owner_that_was_away_for_longer_than_the_limit_finds_its_connection_standing(broker):
    publisher = mqtt.create(config_of(broker), "a")
    publisher.poll(1)  # a ping goes out
    time.sleep(2.2)
    publisher.send(Message("verdict", b"{}", qos=1, token=1))
    assert receipt_of(publisher).accepted
    publisher.close()


def test_a_second_client_of_the_same_name_takes_the_connection_over(broker):
    first = mqtt.create(config_of(broker), "a")
    second = mqtt.create(config_of(broker), "a")
    poll_until_lost(first)
    second.close()
    first.close()


def test_a_takeover_that_the_broker_names_is_told_in_words():
    with speaking(CONNACK + packet(0xE0, b"\x8e\x07\x1f\0\x04gone")) as port:
        publisher = mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "ea-cap-01-line")
        reason = poll_until_lost(publisher)
        publisher.close()
    assert reason.endswith("another client uses the id ea-cap-01-line: two devices with the same [device] id?")


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


# --- what comes in --------------------------------------------------------------------------------------------------

CONNACK = b"\x20\x03\0\0\0"
PUBACK, PUBLISH, SUBSCRIBE, SUBACK = 0x40, 0x30, 0x80, 0x90


def packet(command: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([command, len(body)]) + body


def publish(topic: bytes, payload: bytes, mid: int = 0, properties: bytes = b"") -> bytes:
    """QoS 1 where there is a `mid`."""
    words = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"")
    return packet(PUBLISH | (2 if mid else 0), words + bytes([len(properties)]) + properties + payload)


@contextlib.contextmanager
def speaking(words: bytes, heard: bytearray | None = None, then: bytes = b"") -> Iterator[int]:
    """The port of a broker that says these words first, and `then` to a verdict, and keeps what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(words)
                with contextlib.suppress(ConnectionError):
                    while data := sock.recv(1000):
                        if b"verdict" in data:
                            sock.sendall(then)
                        if heard is not None:
                            heard.extend(data)

        thread = threading.Thread(target=talk)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def poll_for(publisher: Publisher, count: int, kind: type = ports.Heard) -> list:
    """The first so many of that kind."""
    came = []
    until_s = time.monotonic() + 20
    while len(came) < count:
        assert time.monotonic() < until_s
        came += [item for item in publisher.poll(0.2) if isinstance(item, kind)]
    return came


@pytest.fixture(params=["plain", "tls"])
def any_broker(request, tmp_path, authority):
    """Without TLS and with it: a broker, and settings of a client of it."""
    if request.param == "plain":
        with running_broker(tmp_path) as broker:
            yield broker, config_of(broker)
    else:
        inner = f"listener {free_port()} 127.0.0.1\n"  # for those who publish
        with tls_broker(tmp_path, authority, "IP:127.0.0.1", inner) as broker:
            secure = config_of(broker, tls={"ca": authority.ca})
            broker.port = int(inner.split()[1])
            yield broker, secure


def test_a_message_on_a_subscription_is_heard_with_its_expiry_and_the_time_it_came(any_broker):
    broker, config = any_broker
    publisher = mqtt.create(config, "a", None, ["trigger/top", "ack"])
    assert publisher.refused == {}
    talker = mqtt.create(config_of(broker), "b")
    before_ns = time.monotonic_ns()
    talker.send(Message("trigger/top", b'{"trigger_id":"1"}', qos=1, expiry_s=5))
    talker.send(Message("trigger/side", b"{}", qos=1, expiry_s=5))
    talker.send(Message("ack", b"", qos=1))
    first, second = poll_for(publisher, 2)
    after_ns = time.monotonic_ns()
    talker.close()
    publisher.close()
    assert (first.topic, first.payload, first.retained) == ("trigger/top", b'{"trigger_id":"1"}', False)
    assert first.expiry_s in (4, 5)
    assert (second.topic, second.payload, second.expiry_s) == ("ack", b"", None)
    assert before_ns < first.received_ns <= second.received_ns < after_ns


def test_what_was_retained_before_is_not_heard_and_what_is_published_so_says_it(broker):
    talker = mqtt.create(config_of(broker), "b")
    talker.send(Message("trigger/top", b"old", qos=1, retain=True, token=1))
    receipt_of(talker)
    publisher = mqtt.create(config_of(broker), "a", None, ["trigger/top"])
    talker.send(Message("trigger/top", b"new", qos=1, retain=True))
    (heard,) = poll_for(publisher, 1)
    talker.close()
    publisher.close()
    assert (heard.payload, heard.retained) == (b"new", True)


def test_what_one_publishes_itself_is_not_heard(broker):
    publisher = mqtt.create(config_of(broker), "a", None, ["ack"])
    publisher.send(Message("ack", b"mine", qos=1, token=1))
    receipt_of(publisher)
    with Listener(broker.port) as listener:
        listener.publish("ack", b"theirs")
    (heard,) = poll_for(publisher, 1)
    publisher.close()
    assert heard.payload == b"theirs"


def test_a_subscription_that_the_broker_refuses_is_told_and_the_connection_stands(tmp_path):
    found = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if found is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    rules = {
        "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": False},
        "anonymousGroup": "all",
        "groups": [{"groupname": "all", "roles": [{"rolename": "arm"}]}],
        "roles": [
            {"rolename": "arm", "acls": [{"acltype": "subscribeLiteral", "topic": "ack", "priority": 0, "allow": True}]}
        ],
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    lines = f"plugin {found}\nplugin_opt_config_file {tmp_path}/rules.json\nallow_anonymous true"
    with running_broker(tmp_path, lines) as broker:
        publisher = mqtt.create(config_of(broker), "a", None, ["trigger/top", "ack"])
        assert publisher.refused == {"trigger/top": "Not authorized (0x87)"}
        talker = mqtt.create(config_of(broker), "b")
        talker.send(Message("ack", b"{}", qos=1))
        (heard,) = poll_for(publisher, 1)
        talker.close()
        publisher.close()
    assert heard.topic == "ack"


def test_a_broker_that_does_not_answer_a_subscription_is_a_lost_connection(monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.8)
    with speaking(CONNACK) as port, pytest.raises(PublisherLostError, match="no answer to SUBSCRIBE"):
        mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "a", None, ["ack"])


def test_messages_that_come_with_the_answers_are_kept_for_the_first_poll():
    words = CONNACK + packet(SUBACK, b"\0\x01\0\x01") + publish(b"ack", b"1") + publish(b"ack", b"2")
    with speaking(words) as port:
        publisher = mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "a", None, ["ack"])
        assert [heard.payload for heard in poll_for(publisher, 2)] == [b"1", b"2"]
        publisher.close()


def test_receipts_and_messages_come_in_the_order_in_which_they_arrived_and_are_confirmed_in_one_go():
    then = publish(b"ack", b"1", 7) + packet(PUBACK, b"\0\x01\x10\0") + publish(b"ack", b"2", 8)
    confirmed = bytearray()
    with speaking(CONNACK, confirmed, then) as port:
        publisher = mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "a")
        publisher.send(Message("verdict", b"{}", qos=1, token=5))
        came = []
        while len(came) < 3:
            came += publisher.poll(0.2)
        publisher.close()
    assert [item.payload if isinstance(item, ports.Heard) else item.token for item in came] == [b"1", 5, b"2"]
    assert packet(PUBACK, b"\0\x07") + packet(PUBACK, b"\0\x08") in confirmed


def test_a_topic_that_is_not_utf_8_harms_nothing():
    words = CONNACK + publish(b"\xff\xfe", b"x", 7) + publish(b"ack", b"{}", 8)
    with speaking(words) as port:
        publisher = mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "a")
        assert [heard.topic for heard in poll_for(publisher, 2)] == ["(a topic that is not UTF-8)", "ack"]
        publisher.close()


def test_a_poll_hands_on_a_flood_by_batches_and_nothing_of_it_is_lost(any_broker):
    broker, config = any_broker
    publisher = mqtt.create(config, "a", None, ["trigger/top"])
    talker = mqtt.create(config_of(broker), "b")
    room = threading.Semaphore(20)  # the broker's own limit for one that sends

    def talk() -> None:
        for number in range(2000):
            room.acquire()
            talker.send(Message("trigger/top", b"%d" % number, qos=1, expiry_s=5, token=number))

    def listen() -> None:
        confirmed = 0
        while confirmed < 2000:
            for _ in talker.poll(0.2):
                confirmed += 1
                room.release()

    threads = [threading.Thread(target=turn, daemon=True) for turn in (talk, listen)]
    for thread in threads:
        thread.start()
    heard = []
    until_s = time.monotonic() + 30
    while len(heard) < 2000 and time.monotonic() < until_s:
        batch = publisher.poll(0.5)
        assert len(batch) <= connection.BATCH
        heard += batch
    for thread in threads:
        thread.join(10)
    talker.close()
    publisher.close()
    assert [int(item.payload) for item in heard] == list(range(2000))


def test_a_message_that_is_larger_than_anything_of_use_stays_at_the_broker(broker):
    publisher = mqtt.create(config_of(broker), "a", None, ["ack"])
    with Listener(broker.port) as listener:
        listener.publish("ack", b"x" * 70_000)
        listener.publish("ack", b"small")
    (heard,) = poll_for(publisher, 1)
    publisher.close()
    assert heard.payload == b"small"


def test_a_verdict_goes_out_within_milliseconds_though_messages_flood_in(broker):
    publisher = mqtt.create(config_of(broker), "a", None, ["trigger/top"])
    talker = mqtt.create(config_of(broker), "b")
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            for _ in range(100):
                talker.send(Message("trigger/top", b"{}"))
            talker.poll(0.001)

    def poll() -> None:
        while not ended.is_set():
            publisher.poll(0.2)

    threads = [threading.Thread(target=turn) for turn in (flood, poll)]
    for thread in threads:
        thread.start()
    took_s = []
    for _ in range(40):
        time.sleep(0.01)
        began_s = time.monotonic()
        publisher.send(Message("verdict", b"{}", qos=1))
        took_s.append(time.monotonic() - began_s)
    ended.set()
    for thread in threads:
        thread.join(10)
    talker.close(abort=True)
    publisher.close(abort=True)
    assert sorted(took_s)[20] < 0.05


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
        other = Authority(tmp_path / "other")
        with pytest.raises(PublisherLostError, match="its certificate was refused"):
            mqtt.create(config_of(broker, tls={"ca": other.ca}), "a")


def test_tls_does_not_fall_back_to_plain_text(broker, authority):
    with pytest.raises(PublisherLostError):
        mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")


def test_a_client_certificate_opens_a_broker_that_asks_for_one(tmp_path, authority):
    cert, key = authority.certify("agent", CLIENT)
    key.chmod(0o600)
    with tls_broker(tmp_path, authority, "IP:127.0.0.1", "require_certificate true") as broker:
        tls = {"ca": authority.ca, "cert": cert, "key": key}
        mqtt.create(config_of(broker, tls=tls), "a").close()
        with pytest.raises(PublisherLostError):
            mqtt.create(config_of(broker, tls={"ca": authority.ca}), "a")


def test_tls_files_that_cannot_be_used_are_refused(tmp_path, authority):
    cert, key = authority.certify("agent", CLIENT)
    other_cert, _ = authority.certify("other", CLIENT)
    garbage = secret(tmp_path / "garbage", "no certificate")
    for tls, problem in [
        ({"ca": tmp_path / "none"}, "mqtt.tls.ca: cannot use .*none: No such file"),
        ({"ca": garbage}, "mqtt.tls.ca: cannot use .*garbage"),
        ({"ca": authority.ca, "cert": garbage, "key": key}, "mqtt.tls.cert: cannot use .*garbage"),
        ({"ca": authority.ca, "cert": other_cert, "key": key}, "the key does not belong"),
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
