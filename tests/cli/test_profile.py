import json

import pytest
from typer.testing import CliRunner

from edge_agent.cli.profile import app
from edge_agent.errors import EX_CONFIG, EX_USAGE, ConfigError, UsageError
from tests.fixtures import SHARED, needs_shared
from tests.hardware.trees import ORIN_NANO_SUPER_MODES, make_power_mode, make_tree, put


@pytest.fixture
def pi(tmp_path):
    return make_tree(tmp_path, "raspberrypi,500", "brcm,bcm2712", model="Raspberry Pi 500 Rev 1.0")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def answer(*words):
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_detect_gives_one_document(pi):
    found = answer("detect", "--root", pi)
    first = {key: found[key] for key in ("board", "soc", "profile", "backend", "supported", "reason")}
    assert first == {
        "board": "Raspberry Pi 500",
        "soc": "bcm2712",
        "profile": "raspberry-pi-5",
        "backend": "tflite",
        "supported": True,
        "reason": "matches the SoC bcm2712",
    }
    assert (found["backends"], found["bits"], found["cores"]) == (["tflite", "onnx"], 64, 4)


@needs_shared
def test_detect_says_of_a_board_that_cannot_be_served_why_and_exits_0():
    found = answer("detect", "--root", SHARED / "fixtures/boards/jetson-xavier-nx")
    assert (found["profile"], found["supported"], found["backend"]) == ("jetson-xavier", False, None)
    assert "Python 3.8" in found["reason"]


def test_detect_gives_a_board_without_a_profile_null(tmp_path):
    found = answer("detect", "--root", tmp_path)
    assert (found["profile"], found["backend"], found["supported"]) == (None, None, False)


def test_detect_tells_the_power_mode_that_is_set_and_the_one_the_profile_counts_on(tmp_path):
    tree = make_tree(tmp_path, "nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234", l4t="36.4.3")
    make_power_mode(tree, "pmode:0001 fmode:quiet", ORIN_NANO_SUPER_MODES)
    found = answer("detect", "--root", tree)
    assert (found["power_mode"], found["expected_power_mode"]) == ("25W", "MAXN_SUPER")
    assert "expected_power_mode" in run("detect", "--root", tree).stdout


def test_detect_gives_a_board_without_power_modes_null(pi):
    found = answer("detect", "--root", pi)
    assert (found["power_mode"], found["expected_power_mode"]) == (None, None)


def test_detect_without_json_is_a_table_for_people(pi):
    result = run("detect", "--root", pi)
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("Raspberry Pi 500", "raspberry-pi-5", "supported", "yes"))


def test_what_a_device_tree_says_is_not_taken_for_markup(tmp_path):
    tree = make_tree(tmp_path, "acme,board", model="Board [/bold] [red]X")
    assert "Board [/bold] [red]X" in run("detect", "--root", tree).stdout


def test_detect_knows_this_machine():
    assert answer("detect")["bits"] in (32, 64)


def test_a_copied_tree_brings_its_sites_profiles(pi):
    put(
        pi,
        "etc/edge-agent/hardware_profiles/ours.toml",
        'description = "x"\nbackends = ["onnx"]\nmatch.socs = ["bcm2712"]',
    )
    assert answer("detect", "--root", pi)["profile"] == "ours"
    assert "ours" in run("list", "--root", pi).stdout


def test_a_broken_site_profile_is_a_configuration_error(pi):
    put(pi, "etc/edge-agent/hardware_profiles/ours.toml", "threads = 0")
    error = run("detect", "--root", pi).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == EX_CONFIG


def test_list_gives_every_profile():
    profiles = {profile["name"]: profile for profile in answer("list")}
    assert profiles["raspberry-pi-4"]["threads"] == 3
    assert profiles["jetson-tx2"]["supported"] is False


def test_list_without_json_says_what_is_not_supported():
    table = run("list").stdout
    assert "raspberry-pi-zero-2w" in table
    assert "not supported" in table


def test_show_gives_all_that_a_profile_says():
    found = answer("show", "jetson-orin-nano")
    limits = {"throttle_c": 99.0, "critical_c": 104.5, "hysteresis_c": 3.0}
    assert found["thermal"] == {**limits, "shed": ["evidence", "build"], "shed_fps": None}
    assert found["match"]["modules"] == ["p3767-0003", "p3767-0004", "p3767-0005"]


def test_show_without_json_is_a_table_for_people():
    assert "throttle_c 80.0, critical_c 85.0" in run("show", "raspberry-pi-4").stdout


def test_show_of_an_unknown_name_is_a_usage_error_with_the_nearest():
    error = run("show", "raspbery-pi-4").exception
    assert isinstance(error, UsageError)
    assert error.exit_code == EX_USAGE
    assert "did you mean 'raspberry-pi-4'" in str(error)


def test_a_root_that_is_not_there_is_a_usage_error(tmp_path):
    assert isinstance(run("detect", "--root", tmp_path / "none").exception, UsageError)


@pytest.mark.parametrize("command", ["detect", "list", "show"])
def test_every_command_shows_an_example(command):
    assert "Example: edge-agent profile" in run(command, "--help").stdout
