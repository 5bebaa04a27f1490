"""The outputs: simulated; GPIO on a stand-in for the library, and on the kernel's own simulated chip where there is one."""

import importlib
import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.actuator.outputs import open_output
from edge_agent.actuator.settings import GpioOutput, SimulatedOutput
from edge_agent.errors import ConfigError, UnavailableError
from tests.fixtures import REPO

FOLDER = Path(__file__).parent / "fake_gpiod"


@contextmanager
def standing_in(folder=FOLDER):
    """The package in the folder as `gpiod`; afterwards it is as if it had never been imported."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "gpiod"}
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("gpiod")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpiod"]:
            del sys.modules[name]
        sys.modules.update(hidden)


@pytest.fixture
def gpiod():
    with standing_in() as library:
        yield library


def test_the_simulated_output_says_what_an_arm_would_do():
    code = (
        "from edge_agent import logs; logs.configure('info', 'json')\n"
        "from edge_agent.actuator.outputs import open_output\n"
        "from edge_agent.actuator.settings import SimulatedOutput\n"
        "output = open_output(SimulatedOutput()); output.set('reject', on=True); output.close()"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=REPO, stderr=subprocess.PIPE, text=True, check=True).stderr
    assert '"event": "arm_output", "line": "reject", "on": true' in told


def test_both_lines_are_off_at_the_start_and_switch_one_by_one(gpiod):
    output = open_output(GpioOutput(reject_line=17, stop_line="GPIO27", stop_active_low=True))
    assert gpiod.RIG.high == {17: False, 27: True}
    output.set("reject", on=True)
    output.set("stop", on=True)
    assert gpiod.RIG.high == {17: True, 27: False}
    output.set("reject", on=False)
    assert gpiod.RIG.high == {17: False, 27: False}
    assert set(gpiod.RIG.holders.values()) == {"edge-agent reject-arm"}
    output.close()
    assert gpiod.RIG.holders == {}


def test_without_a_stop_line_there_is_none_to_switch(gpiod):
    output = open_output(GpioOutput(reject_line=17))
    output.set("stop", on=True)
    output.close()
    assert gpiod.RIG.high == {17: False}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reject_line": 17, "chip": "/dev/gpiochip9"}, "line 17 of /dev/gpiochip9: No such file or directory"),
        ({"reject_line": "GPIO99"}, "line 'GPIO99' not found"),
        ({"reject_line": 40, "stop_line": 27}, "line 40 and 27 of /dev/gpiochip0: Invalid argument"),
    ],
)
def test_a_line_that_is_not_there_is_named(gpiod, settings, words):
    with pytest.raises(ConfigError, match="gpioinfo") as error:
        open_output(GpioOutput(**settings))
    assert words in str(error.value)


def test_a_line_that_somebody_else_holds_is_told(gpiod):
    output = open_output(GpioOutput(reject_line=17))
    with pytest.raises(ConfigError, match="busy"):
        open_output(GpioOutput(reject_line=17))
    output.close()


def test_a_library_that_is_not_installed_is_named_with_its_command(tmp_path):
    (tmp_path / "gpiod.py").write_text("raise ImportError")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(UnavailableError, match=r"pip install 'gpiod>=2.1'"):
            open_output(GpioOutput(reject_line=17))
    finally:
        sys.path.remove(str(tmp_path))


def test_a_library_of_the_first_generation_is_told_apart(tmp_path):
    (tmp_path / "gpiod.py").write_text("class Chip: ...")
    with standing_in(tmp_path), pytest.raises(UnavailableError, match="is for libgpiod 1"):
        open_output(GpioOutput(reject_line=17))


def test_a_simulated_arm_needs_no_library():
    assert open_output(SimulatedOutput()) is not None


# --- the kernel's own simulated chip ----------------------------------------------------------------------------------

CONFIGFS = Path("/sys/kernel/config/gpio-sim")


@contextmanager
def simulated_chip():
    """A chip of the kernel's module gpio-sim: its device file, and the folder with what its lines are."""
    if not CONFIGFS.is_dir() or os.geteuid() != 0:
        pytest.skip("needs root and the kernel module gpio-sim: modprobe gpio-sim")
    chip = CONFIGFS / f"edge-agent-{uuid.uuid4().hex[:8]}"
    (chip / "bank").mkdir(parents=True)
    try:
        (chip / "bank" / "num_lines").write_text("4")
        (chip / "live").write_text("1")
        name = (chip / "bank" / "chip_name").read_text().strip()
        device = (chip / "dev_name").read_text().strip()
        yield Path("/dev", name), Path("/sys/devices/platform", device, name)
    finally:
        (chip / "live").write_text("0")
        (chip / "bank").rmdir()
        chip.rmdir()


def test_a_chip_of_the_kernel_shows_what_the_arm_does():
    pytest.importorskip("gpiod", reason="needs the package gpiod: pip install 'gpiod>=2.1'")
    with simulated_chip() as (device, lines):
        output = open_output(GpioOutput(chip=device, reject_line=1, stop_line=2, stop_active_low=True))
        output.set("reject", on=True)
        shown = [(lines / f"sim_gpio{line}" / "value").read_text().strip() for line in (1, 2)]
        output.close()
    assert shown == ["1", "1"]
