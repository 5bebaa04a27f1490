"""The outputs: simulated; GPIO on a stand-in for the library, and on the kernel's own simulated chip where there is one."""

import subprocess
import sys

import pytest

from edge_agent.actuator.outputs import open_output
from edge_agent.actuator.settings import GpioOutput, SimulatedOutput
from edge_agent.errors import ConfigError, UnavailableError
from tests.chips import placed, simulated_chip, standing_in
from tests.fixtures import REPO


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
        (
            {"reject_line": 17, "chip": "/dev/gpiochip9"},
            "line 17 of /dev/gpiochip9: there is no such file; gpiodetect lists the chips",
        ),
        ({"reject_line": "GPIO99"}, "line GPIO99 of /dev/gpiochip0: the chip has no line of that name; gpioinfo"),
        ({"reject_line": 40, "stop_line": 27}, "line 40 and 27 of /dev/gpiochip0: line offset of out range; gpioinfo"),
    ],
)
def test_a_line_that_is_not_there_is_named(gpiod, settings, words):
    with pytest.raises(ConfigError, match="output: cannot use line") as error:
        open_output(GpioOutput(**settings))
    assert words in str(error.value)


def test_a_line_that_somebody_else_holds_is_told(gpiod):
    output = open_output(GpioOutput(reject_line=17))
    with pytest.raises(ConfigError, match="somebody else holds it"):
        open_output(GpioOutput(reject_line=17))
    output.close()


@pytest.mark.parametrize(
    ("library", "words"), [("raise ImportError", "needs the package"), ("class Chip: ...", "is for libgpiod 1")]
)
def test_a_library_that_is_missing_or_too_old_is_named_with_its_command(tmp_path, library, words):
    (tmp_path / "gpiod.py").write_text(library)
    with placed(tmp_path), pytest.raises(UnavailableError, match=rf"{words}.*pip install 'gpiod>=2.1'"):
        open_output(GpioOutput(reject_line=17))


def test_a_simulated_arm_needs_no_library():
    assert open_output(SimulatedOutput()) is not None


def test_a_chip_of_the_kernel_shows_what_the_arm_does():
    with simulated_chip() as chip:
        output = open_output(GpioOutput(chip=chip.device, reject_line=1, stop_line=2, stop_active_low=True))
        output.set("reject", on=True)
        shown = [chip.is_high(line) for line in (1, 2)]
        output.close()
    assert shown == [True, True]
