"""A disk that fails under the agent's records: what the arm did, and what the outbox kept."""

import contextlib
from pathlib import Path

import pytest

from tests.system.disks import small_disk
from tests.system.fault_rig import running_rig

pytestmark = pytest.mark.system


def fill(path):
    """Takes all that is free on the disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024)):
            pass


def test_a_full_disk_while_the_broker_is_away_costs_no_verdict_afterwards_and_no_result(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    records = f'folder = "{disk}/records"\nmin_free_mb = 0'
    with running_rig(tmp_path, records=records, words=small_disk(disk)) as rig:
        rig.start()
        seen = Path(f"/proc/{rig.agent.process.pid}/root{disk}")
        rig.proxy.refuse()
        rig.proxy.cut()
        fill(seen / "ballast")
        rig.wait(lambda: "outbox_in_memory" in rig.agent.log(), "the disk does not fail")
        rig.proxy.heal()
        rig.recovered()
        rig.wait(lambda: "records_in_memory" in rig.reasons(), "it does not say so")
        (seen / "ballast").unlink()
        rig.wait(lambda: rig.events("records_on_disk"), "it does not go back to the disk")
        account = rig.settled()
    assert account.unsent["no_connection"] > 0
    assert account.events["records_in_memory"] == 1


def test_records_that_are_deleted_while_the_broker_is_away_are_kept_from_memory(tmp_path):
    with running_rig(tmp_path) as rig:
        rig.start()
        rig.proxy.refuse()
        rig.proxy.cut()
        rig.keeps_much()
        (tmp_path / "state" / "edge-agent" / "test-01" / "outbox.db").unlink()
        rig.wait(lambda: "outbox_broken" in rig.agent.log(), "nobody notices")
        rig.proxy.heal()
        rig.recovered()
        account = rig.settled()
    assert account.events["records_broken"] == 1
    assert account.unsent["no_connection"] > 0
