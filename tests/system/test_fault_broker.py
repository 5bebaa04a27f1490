"""A broker that is away, comes back, hangs or refuses: what the arm did, and what the outbox kept."""

import time

import pytest

from tests.system.fault_rig import PARTS_PER_S, running_rig

pytestmark = pytest.mark.system


@pytest.fixture
def rig(tmp_path):
    with running_rig(tmp_path) as running:
        running.start()
        yield running


def test_an_agent_that_starts_without_a_broker_keeps_all_results_and_delivers_them(tmp_path):
    with running_rig(tmp_path) as rig:
        rig.broker.kill()
        rig.start_both()
        rig.keeps_much()
        rig.broker_returns()
        rig.recovered()
        account = rig.settled()
    assert account.unsent["no_connection"] > PARTS_PER_S
    assert not account.left


PERSISTENT = "persistence true\npersistence_location {}/\n"


@pytest.mark.parametrize(("way", "config"), [("kill", ""), ("stop", PERSISTENT)], ids=["and-forgets", "and-remembers"])
def test_a_broker_that_is_away_is_agent_loss_and_every_result_waits_for_it(tmp_path, way, config):
    with running_rig(tmp_path, config.format(tmp_path)) as rig:
        rig.start()
        began_s = time.monotonic()
        getattr(rig.broker, way)()
        rig.loss_seen_s(began_s)
        rig.keeps_much()
        rig.broker_returns()
        rig.recovered()
        account = rig.settled()
    assert account.unsent["no_connection"] > PARTS_PER_S
    assert account.missed["gap_while_lost"] > PARTS_PER_S
    assert not account.left


def test_a_frozen_broker_is_agent_loss_and_nothing_that_it_held_is_acted_on_late(rig):
    began_s = time.monotonic()
    rig.broker.freeze()
    rig.loss_seen_s(began_s)
    rig.keeps_much()
    rig.broker.thaw()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["unconfirmed"] > 0
    assert account.unsent["no_connection"] > 0


def test_a_slow_broker_costs_only_what_it_is_late_for(rig):
    for _ in range(10):
        rig.broker.freeze()
        time.sleep(0.2)
        rig.broker.thaw()
        time.sleep(0.02)
    rig.recovered()
    account = rig.settled()
    assert len(account.executed) > account.parts / 2
