"""The connection of the real `edge-agent reject-arm`: brokers that are away, hang, talk nonsense or come back."""

import json
import socket
import time
from contextlib import contextmanager

import pytest

from tests.brokers import free_port, running_broker
from tests.processes import STOP_S
from tests.system.arms import Agent, Arm, config, ready, running_arm

pytestmark = pytest.mark.system


@contextmanager
def started_arm(folder, text):
    """One that need not be connected."""
    arm = Arm(folder, text, "--json")
    try:
        arm.wait_for(code="agent_lost", why="start")
        yield arm
    finally:
        arm.end()


class At:
    """Where a broker is, or should be."""

    def __init__(self, port):
        self.port = port


def test_it_waits_for_a_broker_that_is_not_there_yet_and_says_so_once(tmp_path):
    with running_broker(tmp_path) as broker:
        broker.stop()
        with started_arm(tmp_path, config(broker)) as arm:
            arm.wait_for_log(f"127.0.0.1:{broker.port}: Connection refused")
            time.sleep(1.5)  # another try
            broker.start()
            arm.wait_for_log("arm_connected")
            assert arm.log.count("arm_disconnected") == 1
            arm.stop()


def test_a_host_that_is_no_name_is_told_and_the_arm_stays(tmp_path):
    with started_arm(tmp_path, config(At(1883)).replace("127.0.0.1", "a..b")) as arm:
        arm.wait_for_log("arm_disconnected")
        assert "a..b:1883" in arm.log
        assert "Traceback" not in arm.log
        arm.stop()


def test_tls_that_fails_is_told_with_the_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with started_arm(tmp_path, config(At(port), mqtt="[mqtt.tls]")) as arm:
            server.accept()[0].close()
            arm.wait_for_log("arm_disconnected")
            assert f"127.0.0.1:{port}: " in arm.log
            arm.stop()


def test_it_stops_in_time_while_a_connection_hangs(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        with socket.create_connection(address), started_arm(tmp_path, config(At(address[1]))) as arm:  # no room for it
            time.sleep(0.3)
            asked_s = time.monotonic()
            arm.stop()
            assert time.monotonic() - asked_s < STOP_S


def test_a_broker_that_talks_nonsense_is_left_and_tried_again(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server, started_arm(tmp_path, config(At(port))) as arm:
        for nonsense in (b"\xff" * 64, b"\x20\x03\x00", b"\x30\x02\xff\xff"):
            server.settimeout(20)
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(nonsense)
        server.accept()[0].close()
        assert "Traceback" not in arm.log
        arm.stop()


def test_an_ack_that_did_not_get_through_is_not_sent_by_the_next_connection(tmp_path, broker, listener):
    agent = Agent(listener)
    with running_arm(tmp_path, config(broker, output='kind = "simulated"\ndelay_ms = 500')) as arm:
        ready(arm, agent)
        agent.verdict("reject", valid_ms=2000)
        broker.freeze()
        arm.wait_for(seq=1, action="reject")
        broker.kill()
        broker.start()
        listener.wait_until_back()
        deadline_s = time.monotonic() + 20
        while not listener.on("/ack") and time.monotonic() < deadline_s:
            agent.heartbeat()
            agent.verdict("pass")
            time.sleep(0.1)
        arm.stop()
    first = json.loads(listener.on("/ack")[0].payload)
    assert first["seq"] > 1
