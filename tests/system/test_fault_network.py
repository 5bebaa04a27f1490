"""Faults of the network between agent and broker: what the arm did, and what the outbox kept."""

import time

import pytest

from tests.system.fault_rig import AT_START, PARTS_PER_S, running_rig

pytestmark = pytest.mark.system


@pytest.fixture
def rig(tmp_path):
    with running_rig(tmp_path) as running:
        running.start()
        yield running


def test_a_reset_connection_costs_the_verdicts_until_the_next_one_and_no_result(rig):
    rig.proxy.cut()
    rig.recovered()
    account = rig.settled()
    assert set(account.unsent) <= {"no_connection", "unconfirmed", "stale"}
    assert sum(account.missed.values()) <= sum(account.unsent.values())


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_black_hole_is_agent_loss_and_the_agent_finds_out_by_itself(rig, way):
    began_s = time.monotonic()
    rig.proxy.lose(way)
    rig.loss_seen_s(began_s)
    rig.keeps_much()
    rig.proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["unconfirmed"] > 0
    assert account.unsent["no_connection"] > 0
    assert not account.left


def test_a_stalled_connection_is_given_up_and_none_of_its_verdicts_is_sent_again(rig):
    began_s = time.monotonic()
    rig.proxy.hold("up", "down")
    rig.loss_seen_s(began_s)
    rig.proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["unconfirmed"] > 0
    assert account.unsent["no_connection"] > 0


def test_what_a_stalled_connection_brings_late_the_arm_does_not_act_on(rig):
    began_s = time.monotonic()
    rig.arm_proxy.hold("down")
    rig.loss_seen_s(began_s)
    rig.arm_proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.dropped["stale"] > PARTS_PER_S / 2
    assert sum(account.unsent.values()) <= AT_START


def test_on_a_slow_network_verdicts_come_in_time_or_not_at_all(rig):
    rig.proxy.slow(delay_s=0.1, bytes_per_s=100_000)
    rig.recovered()  # slower, and still well
    rig.proxy.slow(delay_s=0.1, bytes_per_s=6_000)  # a third of what the verdicts take
    rig.keeps_much()
    rig.proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["unconfirmed"] > 0
