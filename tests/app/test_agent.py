from structlog.testing import capture_logs

from edge_agent.app.agent import warn_of_power_mode
from edge_agent.hardware.profile import Choice, load_all
from tests.hardware.trees import ORIN_NANO_SUPER_MODES, make_power_mode

CHOICE = Choice(load_all(None)["jetson-orin-nano"], supported=True, reason="matches the module p3767-0005")


def told(root, choice=CHOICE):
    with capture_logs() as logs:
        warn_of_power_mode(choice, root)
    return logs


def test_a_power_mode_that_the_profile_does_not_count_on_is_warned_of(tmp_path):
    make_power_mode(tmp_path, "pmode:0000", ORIN_NANO_SUPER_MODES)
    (line,) = told(tmp_path)
    assert (line["event"], line["log_level"]) == ("power_mode_unlike_profile", "warning")
    assert "sudo nvpmodel -m 2" in line["reason"]


def test_the_power_mode_of_the_profile_is_not_mentioned(tmp_path):
    make_power_mode(tmp_path, "pmode:0002", ORIN_NANO_SUPER_MODES)
    assert told(tmp_path) == []


def test_a_board_without_power_modes_or_profile_is_not_warned(tmp_path):
    assert told(tmp_path) == told(tmp_path, Choice(None, supported=False, reason="unknown")) == []
