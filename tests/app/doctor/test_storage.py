"""Disks that are full, read-only, worn or broken."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.app.doctor.patients import NOBODY, as_root, board, finding, findings, installation, simple
from tests.fixtures import REPO
from tests.hardware.trees import make_tree, put

EMMC = "sys/class/mmc_host/mmc0/mmc0:0001"


def records(folder):
    return f'[records]\nfolder = "{folder}"\n'


def test_a_disk_with_room_passes(tmp_path):
    context = installation(tmp_path, simple(tmp_path, more=records(tmp_path) + "min_free_mb = 0.1\n"))
    assert finding(context, "disk-space").level == "ok"


def test_a_disk_below_what_is_to_be_left_free_is_found(tmp_path):
    free_mb = shutil.disk_usage(tmp_path).free / (1 << 20)
    context = installation(
        tmp_path, simple(tmp_path, more=records(tmp_path) + f"min_free_mb = {min(2 * free_mb, 1e5)}\n")
    )
    if free_mb > 1e5:
        pytest.skip("the disk is too large to be nearly full")
    found = finding(context, "disk-space")
    assert (found.level, "no record is written" in found.evidence) == ("fail", True)
    assert found.fix.startswith("make room: `sudo du -xh ")


def test_a_disk_that_is_nearly_so_is_to_be_looked_at(tmp_path):
    free_mb = shutil.disk_usage(tmp_path).free / (1 << 20)
    if free_mb > 2e5:
        pytest.skip("the disk is too large to be nearly full")
    more = records(tmp_path) + f"min_free_mb = {free_mb / 2}\n"
    assert finding(installation(tmp_path, simple(tmp_path, more=more)), "disk-space").level == "warn"


def test_a_folder_of_the_agents_own_passes(tmp_path):
    context = installation(tmp_path, simple(tmp_path, more=records(tmp_path)))
    assert finding(context, "state-folder").level in ("ok", "warn")  # warn: where tests run in memory


def test_a_file_where_the_folder_should_be_is_found(tmp_path):
    (tmp_path / "own").touch()
    found = finding(installation(tmp_path, simple(tmp_path, more=records(tmp_path / "own"))), "state-folder")
    assert (found.level, found.fix) == ("fail", f"sudo mv {tmp_path}/own {tmp_path}/own.old")


def looked_at_with(tmp_path, mounts):
    """What is found where this process has `own` mounted otherwise than all others."""
    own, config = tmp_path / "own", tmp_path / "agent.toml"
    own.mkdir()
    config.write_text(simple(tmp_path, more=records(own)))
    script = mounts.replace("OWN", f'"{own}"') + ' && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel lets nobody mount a file system of their own")
    command = [*unshare, sys.executable, "-m", "tests.app.doctor.examined", config, "state-folder"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, cwd=REPO).stdout)


def test_a_read_only_disk_is_found(tmp_path):
    found = looked_at_with(tmp_path, "mount -t tmpfs tmpfs OWN && mount -o remount,ro OWN")
    assert (found["level"], found["fix"]) == ("fail", f"sudo mount -o remount,rw {tmp_path}/own")


def test_a_folder_in_memory_is_to_be_looked_at(tmp_path):
    found = looked_at_with(tmp_path, "mount -t tmpfs tmpfs OWN")
    assert (found["level"], "lost when the power is cut" in found["evidence"]) == ("warn", True)
    assert found["fix"].startswith("set `folder` in [records] to one on a disk")


@as_root
def test_a_folder_of_another_user_is_found(tmp_path):
    context = installation(tmp_path, simple(tmp_path, more=records(tmp_path / "own")))
    (tmp_path / "own").mkdir(mode=0o750)
    context.agent = NOBODY
    found = finding(context, "state-folder")
    assert (found.level, found.fix.startswith("sudo edge-agent doctor, if another user runs it")) == ("fail", True)
    assert found.fix.endswith(f"sudo chown -R nobody: {tmp_path}/own")


def worn(tmp_path, life, end):
    root = make_tree(tmp_path, "raspberrypi,5-compute-module", "brcm,bcm2712")
    put(root, f"{EMMC}/life_time", life)
    put(root, f"{EMMC}/pre_eol_info", end)
    put(root, f"{EMMC}/name", "BJTD4R\n")
    return board(root)


def test_a_young_emmc_passes(tmp_path):
    found = finding(worn(tmp_path, "0x01 0x02\n", "0x01\n"), "disk-wear")
    assert (found.level, found.evidence) == ("ok", "eMMC BJTD4R: 20 % of its life used")


@pytest.mark.parametrize(("life", "end"), [("0x09 0x02\n", "0x01\n"), ("0x01 0x01\n", "0x02\n")])
def test_an_emmc_that_is_nearly_worn_out_is_to_be_looked_at(tmp_path, life, end):
    found = finding(worn(tmp_path, life, end), "disk-wear")
    assert (found.level, found.about, "nearly worn out" in found.evidence) == ("warn", "mmc0:0001", True)


@pytest.mark.parametrize(("life", "end"), [("0x0b 0x02\n", "0x01\n"), ("0x01 0x01\n", "0x03\n")])
def test_an_emmc_that_is_worn_out_is_found(tmp_path, life, end):
    found = finding(worn(tmp_path, life, end), "disk-wear")
    assert (found.level, found.fix.startswith("copy the system to a new eMMC")) == ("fail", True)


def test_an_sd_card_does_not_tell(tmp_path):
    put(tmp_path, "sys/class/mmc_host/mmc0/mmc0:aaaa/name", "SD32G\n")
    assert finding(board(tmp_path), "disk-wear").level == "skip"


def test_errors_of_a_file_system_are_found(tmp_path):
    put(tmp_path, "sys/fs/ext4/mmcblk0p2/errors_count", "7\n")
    put(tmp_path, "sys/fs/ext4/mmcblk0p1/errors_count", "0\n")
    (found,) = findings(board(tmp_path), "disk-errors")
    assert (found.level, found.about, "7 errors" in found.evidence) == ("fail", "mmcblk0p2", True)
    assert found.fix.endswith("sudo touch /forcefsck && sudo reboot")
