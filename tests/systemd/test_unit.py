"""The unit and its drop-ins: what systemd itself says of them, and that their times and codes are the agent's."""

import configparser
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.app import places
from edge_agent.errors import EX_CONFIG
from edge_agent.hardware.profile import REALTIME_MOST
from edge_agent.models.sealed import check_folder
from edge_agent.runtime import agent
from tests.fixtures import REPO

UNITS = REPO / "systemd"
DROP_INS = UNITS / "edge-agent@.service.d"
BOARDS = (None, "10-jetson", "10-raspberry-pi")
COMBINATIONS = list(itertools.product(BOARDS, (None, "20-offline"), (None, "30-realtime")))
SCORE_MOST, SCORE_MOST_ON_PI, SCORE_OF_REALTIME = 2.5, 2.0, 0.1
STOP_MOST_S = 5  # what the agent takes to stop, at most

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def scores_files() -> bool:
    """Whether systemd can score a unit that is not loaded: from version 250 on."""
    if shutil.which("systemd-analyze") is None:
        return False
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1].partition(".")[0].partition("~")[0]) >= 250


class Settings(configparser.RawConfigParser):
    """A unit file: keys keep their case, and of a repeated one the last counts."""

    def optionxform(self, optionstr):
        return optionstr


def settings_of(path: Path) -> Settings:
    settings = Settings(strict=False, interpolation=None, comment_prefixes=("#",))
    settings.read_string(path.read_text())
    return settings


@pytest.fixture(scope="module")
def service():
    return settings_of(UNITS / "edge-agent@.service")["Service"]


def written(folder: Path, drop_ins, program: Path = Path("/opt/edge-agent/current/bin/edge-agent")) -> Path:
    """The unit with those drop-ins, in a folder of its own, and with a program that is there."""
    unit = folder / "edge-agent@.service"
    text = (UNITS / unit.name).read_text()
    unit.write_text(text.replace("/opt/edge-agent/current/bin/edge-agent", str(program)))
    (folder / "edge-agent@.service.d").mkdir()
    for name in filter(None, drop_ins):
        shutil.copy(DROP_INS / f"{name}.conf", folder / "edge-agent@.service.d")
    return unit


def analyze(unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"SYSTEMD_UNIT_PATH": f"{unit.parent}:", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, env=environ)


def test_every_drop_in_is_among_the_combinations():
    assert {path.stem for path in DROP_INS.glob("*")} == {name for names in COMBINATIONS for name in names if name}


@pytest.mark.skipif(not scores_files(), reason="systemd-analyze is not here, or older than 250")
@pytest.mark.parametrize("drop_ins", COMBINATIONS, ids=lambda names: "+".join(filter(None, names)) or "alone")
def test_systemd_scores_the_sandbox_as_promised_with_these_drop_ins(tmp_path, drop_ins):
    unit = written(tmp_path, drop_ins)
    most = SCORE_MOST_ON_PI if "10-raspberry-pi" in drop_ins else SCORE_MOST
    most += SCORE_OF_REALTIME if "30-realtime" in drop_ins else 0
    scored = analyze(unit, "security", "--offline=true", f"--threshold={most * 10:.0f}", str(unit))
    assert scored.returncode == 0, scored.stdout[-2000:] + scored.stderr


@needs_systemd
@pytest.mark.parametrize("drop_ins", COMBINATIONS, ids=lambda names: "+".join(filter(None, names)) or "alone")
def test_systemd_finds_nothing_wrong_with_the_unit_and_these_drop_ins(tmp_path, drop_ins):
    unit = written(tmp_path, drop_ins, Path("/bin/true"))
    checked = analyze(unit, "verify", "--man=no", str(unit))
    said = [line for line in checked.stderr.splitlines() if "edge-agent" in line]
    assert said == []


def test_a_wrong_configuration_is_the_only_end_that_is_not_restarted(service):
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", str(EX_CONFIG))


def test_no_number_of_restarts_is_too_many():
    assert settings_of(UNITS / "edge-agent@.service")["Unit"]["StartLimitIntervalSec"] == "0"


def test_nothing_runs_before_the_agent_whose_exit_code_would_be_taken_for_its(service):
    assert not [key for key in service if key.startswith(("ExecStartPre", "ExecCondition"))]


def test_the_watchdog_waits_for_many_rounds_of_the_main_thread_and_less_than_for_a_stuck_one(service):
    assert 10 * agent.ROUND_S < float(service["WatchdogSec"]) < agent.STUCK_S


def test_a_start_may_take_longer_than_the_agent_waits_before_it_asks_for_more_time(service):
    assert float(service["TimeoutStartSec"]) > agent.LOADING_STEP_S > 10 * agent.ROUND_S


def test_a_stop_has_more_time_than_the_agent_takes(service):
    assert float(service["TimeoutStopSec"]) > 2 * STOP_MOST_S


def test_the_folders_of_the_service_are_those_in_which_commands_look(service):
    assert Path("/var/lib", service["StateDirectory"]) == places.SERVICE_STATE
    assert Path("/run", service["RuntimeDirectory"]) == places.SERVICE_RUNTIME / "%i"
    assert f"{places.SERVICE_CONFIGURATIONS}/%i.toml" in service["ExecStart"]


def test_technicians_of_the_group_may_enter_the_folders_and_nobody_else_may(service):
    assert (service["Group"], service["StateDirectoryMode"], service["RuntimeDirectoryMode"]) == (
        "edge-agent",
        "0750",
        "0750",
    )


def test_the_folder_of_engines_that_the_service_makes_is_one_that_the_agent_accepts(service, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(int(service["StateDirectoryMode"], 8))
    check_folder(state)


@pytest.mark.parametrize(
    "trap", ["ProtectClock", "PrivateDevices", "ProcSubset", "MemoryDenyWriteExecute", "DynamicUser"]
)
def test_the_unit_leaves_out_what_breaks_cameras_clocks_or_engines(service, trap):
    assert trap not in service


def test_a_killed_agent_leaves_no_picture_in_a_core_file(service):
    assert service["LimitCORE"] == "0"


def test_a_build_that_runs_out_of_memory_does_not_stop_the_line(service):
    assert service["OOMPolicy"] == "continue"


def test_a_jetson_keeps_its_devices_and_the_socket_of_its_camera_daemon():
    jetson = settings_of(DROP_INS / "10-jetson.conf")["Service"]
    assert "DevicePolicy" not in jetson
    assert jetson["PrivateTmp"] == "no"


def test_the_real_time_priority_that_a_profile_may_ask_for_is_the_one_that_the_drop_in_allows():
    realtime = settings_of(DROP_INS / "30-realtime.conf")["Service"]
    assert (realtime["RestrictRealtime"], int(realtime["LimitRTPRIO"])) == ("no", REALTIME_MOST)


def test_the_user_of_the_unit_is_the_one_that_is_made(service):
    (line,) = [line for line in (UNITS / "edge-agent.sysusers").read_text().splitlines() if not line.startswith("#")]
    assert line.split()[:2] == ["u", service["User"]]
