"""Another client that takes the agent's client id: what the arm did, and what the outbox kept."""

import contextlib
import time

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.brokers import HOST
from tests.system.fault_rig import AT_START, running_rig

pytestmark = pytest.mark.system
LINE_ID = "ea-test-01-line"
FIGHT_S = 4


@pytest.fixture
def rig(tmp_path):
    with running_rig(tmp_path) as running:
        running.start()
        yield running


@contextlib.contextmanager
def intruder(port, client_id=LINE_ID):
    """A client with the agent's id, that comes back a second after each time it was thrown out; how often it was there."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    visits = []
    client.on_connect = lambda *_: visits.append(time.monotonic())
    client.reconnect_delay_set(1, 1)
    client.connect(HOST, port)
    client.loop_start()
    try:
        yield visits
    finally:
        client.disconnect()
        client.loop_stop()
        client.__del__()  # closes its last sockets now


def test_a_client_that_takes_the_id_and_goes_is_agent_loss_until_the_agent_is_back(rig):
    began_s = time.monotonic()
    with intruder(rig.broker.port) as visits:
        rig.wait(lambda: visits, "the intruder does not come")
        rig.loss_seen_s(began_s)
    rig.recovered()
    account = rig.settled()
    assert 0 < sum(account.unsent.values()) < account.parts


def test_a_client_that_insists_on_the_id_gets_no_endless_fast_fight_and_leaves_the_records_alone(rig):
    connections = rig.agent.log().count('"link_up"')
    began_s = time.monotonic()
    with intruder(rig.broker.port) as visits:
        rig.wait(lambda: time.monotonic() - began_s > FIGHT_S and len(visits) > 1, "the intruder does not come back")
        rig.loss_seen_s(began_s)
        fought = rig.agent.log().count('"link_up"') - connections
        lasted_s = time.monotonic() - began_s
        recorded = len(rig.results())
        rig.wait(lambda: len(rig.results()) > recorded, "the records suffer too")
    print(f"{fought} connections in {lasted_s:.1f} s")  # noqa: T201 - a number for whoever asks with -s
    assert fought <= lasted_s
    rig.recovered()
    account = rig.settled()
    assert account.unsent["no_connection"] > 0
    assert len(account.executed) > 0


def test_a_client_that_takes_the_id_of_the_records_costs_no_result_and_no_verdict(rig):
    with intruder(rig.broker.port, "ea-test-01-records") as visits:
        rig.wait(lambda: visits, "the intruder does not come")
        rig.keeps_much()
    rig.recovered()
    account = rig.settled()
    assert sum(account.unsent.values()) <= AT_START
    assert sum(account.missed.values()) <= AT_START
    assert not account.left
