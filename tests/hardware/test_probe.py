import os
import platform
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware.probe import detect
from tests.fixtures import SHARED, needs_shared
from tests.hardware.trees import ARM32, make_tree, put

FIXTURES = {
    "jetson-agx-orin-64gb": ("Jetson AGX Orin 64GB", "p3701-0005", "tegra234", 12, 62873, "36.3.0", 6),
    "jetson-orin-nano-8gb": ("Jetson Orin Nano 8GB", "p3767-0005", "tegra234", 6, 7577, "36.4.3", 6),
    "jetson-orin-nx-16gb": ("Jetson Orin NX 16GB", "p3767-0000", "tegra234", 8, 15667, "36.4.0", 6),
    "jetson-xavier-nx": ("Jetson Xavier NX 8GB", "p3668-0000", "tegra194", 6, 6860, "35.4.1", 5),
    "pc-x86_64": ("x86_64 computer", None, "x86_64", 2, 23552, None, None),
    "raspberry-pi-3b-plus": ("Raspberry Pi 3B+", None, "bcm2837", 4, 921, None, None),
    "raspberry-pi-4-4gb": ("Raspberry Pi 4", None, "bcm2711", 4, 3788, None, None),
    "raspberry-pi-5-8gb": ("Raspberry Pi 5", None, "bcm2712", 4, 7987, None, None),
}
PIS = [
    ("raspberrypi,5-model-b", "brcm,bcm2712", "Raspberry Pi 5", "bcm2712"),
    ("raspberrypi,500", "brcm,bcm2712", "Raspberry Pi 500", "bcm2712"),
    ("raspberrypi,5-compute-module", "brcm,bcm2712", "Raspberry Pi Compute Module 5", "bcm2712"),
    ("raspberrypi,5-compute-module", "brcm,bcm2712d0", "Raspberry Pi Compute Module 5", "bcm2712"),
    ("raspberrypi,400", "brcm,bcm2711", "Raspberry Pi 400", "bcm2711"),
    ("raspberrypi,4-compute-module", "brcm,bcm2711", "Raspberry Pi Compute Module 4", "bcm2711"),
    ("raspberrypi,model-zero-2-w", "brcm,bcm2837", "Raspberry Pi Zero 2 W", "bcm2837"),
    ("raspberrypi,6-model-z", "brcm,bcm2799", "Raspberry Pi (6-model-z)", "bcm2799"),
]


@needs_shared
@pytest.mark.parametrize("tree", FIXTURES)
def test_every_copied_tree_gives_its_board(tree):
    board = detect(SHARED / "fixtures/boards" / tree)
    found = (board.board, board.module, board.soc, board.cores, board.memory_mb, board.l4t, board.jetpack)
    assert found == FIXTURES[tree]
    assert board.bits == 64


@needs_shared
def test_no_copied_tree_is_left_out():
    assert {path.name for path in (SHARED / "fixtures/boards").iterdir()} == set(FIXTURES)


@pytest.mark.parametrize(("name", "chip", "board", "soc"), PIS)
def test_a_raspberry_pi_is_known_by_its_compatible_entries(tmp_path, name, chip, board, soc):
    found = detect(make_tree(tmp_path, name, chip))
    assert (found.board, found.soc, found.module) == (board, soc, None)


@pytest.mark.parametrize(
    ("first", "module"),
    [
        ("nvidia,p3768-0000+p3767-0005-super", "p3767-0005"),
        ("nvidia,p3449-0000-b00+p3448-0000-b00", "p3448-0000"),
        ("nvidia,p4071-0000+p3834-0008", "p3834-0008"),
        ("acme,carrier+p3767-0001", "p3767-0001"),
        ("nvidia,p3767-0003", "p3767-0003"),
    ],
)
def test_the_module_token_is_found_behind_any_carrier_and_before_any_suffix(tmp_path, first, module):
    assert detect(make_tree(tmp_path, first, "nvidia,tegra234")).module == module


def test_a_carriers_own_token_is_not_taken_for_a_module(tmp_path):
    board = detect(make_tree(tmp_path, "nvidia,p2972-0000", "nvidia,tegra194"))
    assert (board.module, board.soc, board.board) == (None, "tegra194", "Jetson Xavier (tegra194)")


def test_the_model_text_does_not_decide(tmp_path):
    entries = ("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234")
    board = detect(make_tree(tmp_path, *entries, model="NVIDIA Jetson Orin Nano Developer Kit"))
    assert board.board == "Jetson Orin NX 16GB"
    assert board.model == "NVIDIA Jetson Orin Nano Developer Kit"


def test_a_chip_is_found_before_its_familys_alias(tmp_path):
    assert detect(make_tree(tmp_path, "nvidia,p3701-0000", "nvidia,tegra234", "nvidia,tegra23x")).soc == "tegra234"


def test_an_unknown_board_is_called_what_its_model_says(tmp_path):
    board = detect(make_tree(tmp_path, "radxa,rock-5b", "rockchip,rk3588", model="Radxa ROCK 5B"))
    assert (board.board, board.soc, board.arch) == ("Radxa ROCK 5B", "rk3588", "aarch64")


def test_the_device_tree_is_read_from_sys_where_proc_has_none(tmp_path):
    put(tmp_path, "sys/firmware/devicetree/base/compatible", "raspberrypi,400\0brcm,bcm2711\0")
    assert detect(tmp_path).board == "Raspberry Pi 400"


def test_a_link_that_leaves_the_copied_tree_is_not_followed(tmp_path):
    make_tree(tmp_path / "elsewhere", "raspberrypi,400", "brcm,bcm2711")
    tree = tmp_path / "tree"
    put(tree, "sys/firmware/devicetree/base/compatible", "raspberrypi,500\0brcm,bcm2712\0")
    (tree / "proc").mkdir()
    (tree / "proc/device-tree").symlink_to(tmp_path / "elsewhere/proc/device-tree")
    assert detect(tree).board == "Raspberry Pi 500"


def test_a_32_bit_kernel_means_a_32_bit_userland(tmp_path):
    board = detect(make_tree(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711", features=ARM32))
    assert (board.bits, board.arch) == (32, "armv7l")


def test_raspbian_is_a_32_bit_userland_under_whatever_kernel(tmp_path):
    tree = make_tree(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711")
    put(tree, "etc/os-release", 'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nID=raspbian\nID_LIKE=debian\n')
    assert (detect(tree).bits, detect(tree).arch) == (32, "aarch64")


def test_raspberry_pi_os_64_bit_is_debian(tmp_path):
    tree = make_tree(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711")
    put(tree, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    assert detect(tree).bits == 64


@pytest.mark.parametrize(
    ("release", "jetpack"), [("32.7.4", 4), ("35.6.0", 5), ("36.4.7", 6), ("38.2.0", 7), ("39.0", 7), ("77.1", None)]
)
def test_the_l4t_release_tells_the_jetpack(tmp_path, release, jetpack):
    board = detect(make_tree(tmp_path, "nvidia,x+p3767-0000", "nvidia,tegra234", l4t=release))
    assert (board.l4t, board.jetpack) == (release, jetpack)


def test_an_empty_tree_is_an_unknown_board(tmp_path):
    board = detect(tmp_path)
    known = (board.model, board.module, board.soc, board.arch, board.cores, board.memory_mb, board.l4t, board.jetpack)
    assert (board.board, board.compatible, board.cpu_features) == ("unknown board", (), frozenset())
    assert known == (None,) * 8


def test_a_pipe_in_the_place_of_a_file_does_not_block(tmp_path):
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc/cpuinfo")
    assert detect(tmp_path).cores is None


def test_this_machine_is_detected():
    board = detect()
    assert (board.arch, board.bits) == (platform.machine(), struct.calcsize("P") * 8)
    assert board.cores is None or board.cores >= 1


@given(content=st.binary(max_size=200))
def test_no_content_makes_detection_fail(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("tree")
    names = ("proc/device-tree/compatible", "proc/device-tree/model", "proc/cpuinfo", "proc/meminfo")
    for name in (*names, "etc/nv_tegra_release", "etc/os-release"):
        put(root, name, "")
        (root / name).write_bytes(content)
    assert detect(root).board


@given(entries=st.lists(st.sampled_from([entry for pi in PIS for entry in pi[:2]] + ["acme,thing"]), max_size=6))
def test_every_compatible_entry_is_kept_in_order(tmp_path_factory, entries):
    assert detect(make_tree(tmp_path_factory.mktemp("tree"), *entries)).compatible == tuple(entries)
