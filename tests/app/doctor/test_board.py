"""Boards that are out of order, as their copied `/proc`, `/sys` and `/etc` show them."""

import pytest

from tests.app.doctor.patients import board, finding
from tests.fixtures import SHARED, needs_shared
from tests.hardware.trees import ARM32, ORIN_NANO_SUPER_MODES, make_cooling, make_power_mode, make_tree, make_zone, put

PI_5 = ("raspberrypi,5-model-b", "brcm,bcm2712")
ORIN_NANO = ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234")
XAVIER = ("nvidia,p3509-0000+p3668-0000", "nvidia,tegra194")
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
ROOMY = "MemTotal:        4000000 kB\nMemAvailable:    3000000 kB\n"


@pytest.fixture
def pi(tmp_path):
    """A Raspberry Pi 5 that is well."""
    root = make_tree(tmp_path / "pi", *PI_5, model="Raspberry Pi 5 Model B Rev 1.0")
    put(root, FIRMWARE, "0\n")
    put(root, "proc/meminfo", ROOMY)
    make_zone(root, 0, "cpu-thermal", "52000")
    return root


@pytest.fixture
def orin(tmp_path):
    """A Jetson Orin Nano in its profile's power mode."""
    root = make_tree(tmp_path / "orin", *ORIN_NANO, l4t="36.4.3")
    make_power_mode(root, "pmode:0002 fmode:quiet", ORIN_NANO_SUPER_MODES)
    return root


@pytest.mark.parametrize("name", ["board", "userland", "power-supply", "throttling", "temperature", "memory"])
def test_a_board_that_is_well_passes(pi, name):
    assert finding(board(pi), name).level == "ok"


def test_under_voltage_now_is_a_failure_of_the_supply(pi):
    put(pi, FIRMWARE, "50005\n")
    found = finding(board(pi), "power-supply")
    assert (found.level, "too low now" in found.evidence) == ("fail", True)
    assert found.fix.startswith("use the board's own power supply")


def test_under_voltage_since_the_start_is_to_be_looked_at(pi):
    put(pi, FIRMWARE, "50000\n")
    found = finding(board(pi), "power-supply")
    assert (found.level, "since the last start" in found.evidence) == ("warn", True)
    assert found.fix.startswith("use the board's own power supply")


def test_throttling_without_under_voltage_wants_cooling(pi):
    put(pi, FIRMWARE, "8\n")
    found = finding(board(pi), "throttling")
    assert (found.level, found.evidence) == ("fail", "the board slows itself down now: soft_temperature_limit")
    assert found.fix.startswith("cool the board")


def test_throttling_with_under_voltage_wants_a_supply(pi):
    put(pi, FIRMWARE, "50005\n")
    found = finding(board(pi), "throttling")
    assert (found.level, found.fix.startswith("use the board's own power supply")) == ("fail", True)


def test_a_jetson_that_the_kernel_holds_back_is_found(orin):
    make_cooling(orin, 0, "cpu-throttle-alert", "1")
    assert finding(board(orin), "throttling").level == "fail"


def test_a_hot_board_is_found_against_its_profile(pi):
    make_zone(pi, 0, "cpu-thermal", "84500")
    found = finding(board(pi), "temperature")
    assert (found.level, found.evidence) == ("fail", "84 °C: from 80 °C on the board slows itself down")
    assert found.fix.startswith("cool the board")


def test_a_board_that_is_nearly_hot_is_to_be_looked_at(pi):
    make_zone(pi, 0, "cpu-thermal", "77000")
    assert finding(board(pi), "temperature").level == "warn"


def test_a_jetson_in_its_profiles_power_mode_passes(orin):
    assert finding(board(orin), "power-mode").level == "ok"


def test_a_jetson_in_another_power_mode_is_told_the_command(orin):
    make_power_mode(orin, "pmode:0000 fmode:quiet", ORIN_NANO_SUPER_MODES)
    found = finding(board(orin), "power-mode")
    assert (found.level, found.fix) == ("warn", "sudo nvpmodel -m 2")
    assert "15W" in found.evidence


def test_a_32_bit_kernel_is_found(tmp_path):
    root = make_tree(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711", features=ARM32)
    found = finding(board(root), "userland")
    assert (found.level, found.evidence) == ("fail", "the system is 32-bit")
    assert found.fix.startswith("install a 64-bit system")


def test_a_32_bit_raspberry_pi_os_on_a_64_bit_kernel_is_found(pi):
    put(pi, "etc/os-release", "ID=raspbian\n")
    assert finding(board(pi), "userland").level == "fail"
    assert finding(board(pi), "board").level == "ok"


def test_a_board_that_cannot_be_served_is_told_what_would_work(tmp_path):
    found = finding(board(make_tree(tmp_path, *XAVIER, l4t="35.4.1")), "board")
    assert (found.level, "Python 3.8" in found.evidence) == ("fail", True)
    assert "Orin" in found.fix


def test_a_jetpack_that_is_too_old_is_told_which_to_flash(tmp_path):
    found = finding(board(make_tree(tmp_path, *ORIN_NANO, l4t="35.4.1")), "board")
    assert (found.level, found.fix) == ("fail", "flash JetPack 6 or later")


def test_too_little_memory_is_found(pi):
    put(pi, "proc/meminfo", "MemTotal:        4000000 kB\nMemAvailable:    102400 kB\n")
    found = finding(board(pi), "memory")
    assert (found.level, found.evidence.startswith("100 MB are free")) == ("fail", True)
    assert "ps -eo rss" in found.fix


def test_programs_that_the_kernel_ended_are_counted(pi):
    put(pi, "proc/vmstat", "nr_free_pages 100\noom_kill 3\n")
    found = finding(board(pi), "memory")
    assert (found.level, "ended 3 programs" in found.evidence) == ("warn", True)


@needs_shared
@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("jetson-xavier-nx", {"board"}),
        ("raspberry-pi-4-4gb", {"power-supply", "throttling", "temperature"}),
        ("raspberry-pi-5-8gb", set()),
        ("jetson-orin-nano-8gb", set()),
    ],
)
def test_the_faults_of_copied_boards_are_found(name, faults):
    context = board(SHARED / "fixtures" / "boards" / name)
    checks = ("board", "userland", "power-supply", "throttling", "temperature", "power-mode")
    assert {check for check in checks if finding(context, check).level == "fail"} == faults
