"""An agent that hangs or is killed: what the arm did, and what the outbox kept."""

import signal
import time

import pytest

from tests.system.fault_rig import PARTS_PER_S, running_rig

pytestmark = pytest.mark.system
UNCONFIRMED_S = 0.5  # less than a verdict is valid: the connection is not given up for it yet


@pytest.fixture
def rig(tmp_path):
    with running_rig(tmp_path) as running:
        running.start()
        yield running


def test_a_frozen_agent_is_agent_loss_and_sends_nothing_late_when_it_thaws(rig):
    began_s = time.monotonic()
    rig.agent.send(signal.SIGSTOP)
    rig.loss_seen_s(began_s)
    rig.agent.send(signal.SIGCONT)
    rig.recovered()
    account = rig.settled()
    assert sum(account.unsent.values()) < 3 * PARTS_PER_S


def test_a_killed_agent_is_agent_loss_and_the_next_one_says_how_far_it_was(rig):
    began_s = time.monotonic()
    session = rig.killed()
    rig.loss_seen_s(began_s)
    rig.start_agent()
    rig.recovered()
    account = rig.settled([session])
    assert {ran for ran, _ in account.executed} > {session}
    assert account.events["unclean_end"] == 1
    assert not account.left


def test_what_an_agent_kept_that_was_killed_while_the_broker_was_away_the_next_one_delivers(rig):
    rig.proxy.lose("up")
    time.sleep(UNCONFIRMED_S)
    rig.proxy.refuse()
    rig.proxy.cut()
    rig.keeps_much()
    session, left = rig.killed(), rig.kept()
    rig.proxy.heal()
    rig.start_agent()
    rig.recovered()
    account = rig.settled([session])
    assert [result for result in rig.results() if result in left] == left
    (end,) = rig.events("unclean_end")
    assert end["data"]["last_seq"] >= left[-1]["verdict_seq"]
    assert account.unsent["unconfirmed"] > UNCONFIRMED_S * PARTS_PER_S / 2
    assert not account.left
