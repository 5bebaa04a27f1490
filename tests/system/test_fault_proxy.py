"""The proxy that makes networks fail does what it says, seen by a socket and by an MQTT client."""

import socket
import threading
import time

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.brokers import HOST
from tests.processes import ended
from tests.proxies import running_proxy

pytestmark = pytest.mark.system


@pytest.fixture
def server():
    with socket.create_server((HOST, 0)) as listening:
        yield listening


@pytest.fixture
def proxy(server):
    with running_proxy(server.getsockname()[1]) as running:
        yield running


@pytest.fixture
def ends(server, proxy):
    """Both ends of one connection: the client's and the broker's."""
    with socket.create_connection((HOST, proxy.port), 20) as client:
        broker, _ = server.accept()
        with broker:
            broker.settimeout(20)
            yield client, broker


def test_it_passes_on_bytes_both_ways_and_the_end(ends):
    client, broker = ends
    client.sendall(b"to the broker")
    assert broker.recv(100) == b"to the broker"
    broker.sendall(b"\x16\x03\xff, no MQTT")
    assert client.recv(100) == b"\x16\x03\xff, no MQTT"
    client.shutdown(socket.SHUT_WR)
    assert broker.recv(100) == b""


def test_a_cut_resets_both_ends(proxy, ends):
    proxy.cut()
    for end in ends:
        with pytest.raises(ConnectionResetError):
            end.recv(100)


def test_a_way_that_loses_takes_everything_and_stays_a_black_hole(proxy, ends):
    client, broker = ends
    proxy.lose("up")
    client.sendall(b"lost")
    broker.sendall(b"\x40\x02\x00\x01")
    assert client.recv(100) == b"\x40\x02\x00\x01"
    proxy.heal()
    client.sendall(b"lost too")
    broker.settimeout(0.2)
    with pytest.raises(TimeoutError):
        broker.recv(100)


def test_what_was_held_comes_in_order_and_the_reset_behind_it(proxy, ends):
    client, broker = ends
    proxy.hold("up")
    client.sendall(b"one, ")
    client.sendall(b"two")
    time.sleep(0.5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    time.sleep(0.5)
    proxy.heal()
    assert broker.recv(5) + broker.recv(3) == b"one, two"  # it may come in two pieces
    with pytest.raises(ConnectionResetError):
        broker.recv(100)


def test_a_slow_one_keeps_its_delay_and_its_rate(proxy, ends):
    client, broker = ends
    proxy.slow(delay_s=0.2, bytes_per_s=10_000)
    began_s = time.monotonic()
    client.sendall(bytes(4000))
    left = 4000
    while left:
        left -= len(broker.recv(left))
    assert 0.4 < time.monotonic() - began_s < 10


def test_it_refuses_until_it_is_healed(server, proxy):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, proxy.port), 5)
    proxy.heal()
    with socket.create_connection((HOST, proxy.port), 5):
        server.accept()[0].close()


def test_without_a_broker_a_client_is_reset_at_once(server, proxy):
    server.close()
    with pytest.raises(ConnectionResetError), socket.create_connection((HOST, proxy.port), 5) as client:
        client.recv(100)


def test_a_packet_that_has_begun_to_go_on_is_not_changed_and_the_next_one_is(proxy, ends):
    client, broker = ends
    broker.sendall(b"\x40\x02\x00")
    assert client.recv(100) == b"\x40\x02\x00"
    proxy.change_pubacks(0x97)
    broker.sendall(b"\x01\x40\x02\x00")
    assert client.recv(100) == b"\x01"
    broker.sendall(b"\x02")
    assert client.recv(100) == b"\x40\x03\x00\x02\x97"


def test_pubacks_are_swallowed_or_carry_the_reason_asked_for(broker):
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    reasons, subscribed = [], threading.Event()
    client.on_publish = lambda _client, _userdata, _mid, reason, _properties: reasons.append(reason.value)
    client.on_subscribe = lambda *_: subscribed.set()
    with running_proxy(broker.port) as proxy:
        client.connect(HOST, proxy.port)
        client.loop_start()
        try:
            proxy.change_pubacks("swallowed")
            client.publish("a", b"x" * 300, qos=1)
            client.subscribe("b")
            assert subscribed.wait(20)  # it comes behind the PUBACK
            assert broker.log.count("Sending PUBACK") == 1
            assert reasons == []
            proxy.change_pubacks(0x97)
            client.publish("a", b"x" * 300, qos=1)
            assert ended(lambda: reasons)
            assert reasons == [0x97]
        finally:
            client.disconnect()
            client.loop_stop()
