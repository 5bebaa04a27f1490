"""A broker whose answers fail or refuse: what the arm did, and what the outbox kept."""

import pytest

from tests.system.agents import ROOT
from tests.system.fault_rig import AT_START, PARTS_PER_S, running_rig

pytestmark = pytest.mark.system
ACL = "topic read factory/#\n" + "".join(
    f"topic write {ROOT}/{name}\n" for name in ("state", "birth", "heartbeat", "event", "health", "ack")
)
VERDICTS, RESULTS = f"topic write {ROOT}/verdict/+\n", f"topic write {ROOT}/result/+\n"


@pytest.fixture
def rig(tmp_path):
    with running_rig(tmp_path) as running:
        running.start()
        yield running


@pytest.fixture
def acl(tmp_path):
    """The file that the broker reads."""
    return tmp_path / "acl"


@pytest.fixture
def acl_rig(tmp_path, acl):
    acl.touch()
    with running_rig(tmp_path, f"allow_anonymous true\nacl_file {acl}\n") as running:
        yield running


def test_lost_pubacks_cost_the_connection_and_no_result(rig):
    rig.proxy.change_pubacks("swallowed")
    rig.keeps_much()
    rig.proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["unconfirmed"] > 0
    assert not account.left


def test_verdicts_that_an_acl_refuses_are_an_alarm_and_no_delivery(acl, acl_rig):
    acl.write_text(ACL + RESULTS)
    acl_rig.broker.reload()
    acl_rig.start_both()
    acl_rig.arm.wait_for(kind="gap", why="gap", action="reject", timeout=30)
    acl_rig.wait(lambda: "verdicts_refused" in acl_rig.reasons(), "it does not say that verdicts are refused")
    acl.write_text(ACL + RESULTS + VERDICTS)
    acl_rig.broker.reload()
    acl_rig.recovered()
    acl_rig.wait(lambda: acl_rig.state() == "running", "the alarm does not end")
    account = acl_rig.settled()
    assert account.unsent["refused"] > 0
    assert account.missed["gap"] > 0
    assert not account.left


def test_results_that_an_acl_refuses_wait_while_the_arm_works(acl, acl_rig):
    acl.write_text(ACL + VERDICTS)
    acl_rig.broker.reload()
    acl_rig.start_both()
    acl_rig.wait(lambda: len(acl_rig.acted()) > 2 * PARTS_PER_S, "the arm does not work")
    assert len(acl_rig.kept()) > PARTS_PER_S
    assert not acl_rig.results()
    acl.write_text(ACL + VERDICTS + RESULTS)
    acl_rig.broker.reload()
    acl_rig.recovered()
    account = acl_rig.settled()
    assert account.events["records_refused"] == account.events["records_accepted"] == 1
    assert sum(account.unsent.values()) <= AT_START
    assert not account.left


def test_a_quota_is_no_delivery_and_the_records_wait_until_it_ends(rig):
    rig.proxy.change_pubacks(0x97)
    rig.keeps_much()
    rig.proxy.heal()
    rig.recovered()
    account = rig.settled()
    assert account.unsent["refused"] > PARTS_PER_S
    assert account.events["records_refused"] > 0
    assert not account.left
