"""The arm's configuration file."""

import re

import pytest

from edge_agent.actuator.settings import ArmSettings, ArmTable, GpioOutput, SimulatedOutput
from edge_agent.config import ConfigProblemsError, load_settings
from tests.fixtures import REPO

EXAMPLE = REPO / "examples" / "reject-arm.toml"
GPIO = '[output]\nkind = "gpio"\nreject_line = 17\n'


def problems(tmp_path, text):
    file = tmp_path / "arm.toml"
    file.write_text(text)
    with pytest.raises(ConfigProblemsError) as error:
        load_settings(file, ArmSettings)
    return [(problem.line, problem.key, problem.message) for problem in error.value.problems]


def with_output(output):
    return EXAMPLE.read_text().partition("[output]")[0] + output


def test_the_example_loads_and_says_what_the_defaults_are():
    settings = load_settings(EXAMPLE, ArmSettings)
    assert settings.device.topics(settings.mqtt.prefix).of("ack").endswith("/vision/demo-01/ack")
    assert settings.arm == ArmTable()
    assert settings.output == SimulatedOutput()


def test_the_keys_that_the_example_shows_for_gpio_are_right(tmp_path):
    text = EXAMPLE.read_text().replace('kind = "simulated"', 'kind = "gpio"')
    file = tmp_path / "arm.toml"
    file.write_text(re.sub(r"(?m)^# (\w+ = )", r"\1", text))
    output = load_settings(file, ArmSettings).output
    assert isinstance(output, GpioOutput)
    assert (output.reject_line, output.stop_line, output.stop_active_low) == (17, 27, True)


def test_an_unknown_key_is_told_with_its_line_and_a_suggestion(tmp_path):
    [(line, key, message)] = problems(tmp_path, EXAMPLE.read_text().replace("pulse_ms", "puls_ms"))
    assert EXAMPLE.read_text().split("\n")[line - 1].startswith("pulse_ms")
    assert (key, "did you mean 'pulse_ms'?" in message) == ("output.puls_ms", True)


def test_every_problem_is_told_at_once(tmp_path):
    text = EXAMPLE.read_text().replace('"demo-01"', '"demo 01"').replace("pulse_ms = 100", "pulse_ms = 0")
    assert [key for _, key, _ in problems(tmp_path, text)] == ["device.id", "output.pulse_ms"]


def test_an_unknown_kind_of_output_gets_the_list_of_those_there_are(tmp_path):
    [(_, key, message)] = problems(tmp_path, with_output('[output]\nkind = "gpoi"\n'))
    assert (key, "there are simulated, gpio" in message) == ("output.kind", True)


def test_a_stop_needs_a_line(tmp_path):
    assert problems(tmp_path, with_output(GPIO))[0][1:] == (
        "output",
        "stop_line is missing: on_unknown or on_agent_loss is stop",
    )


def test_one_line_cannot_be_both(tmp_path):
    [(_, key, message)] = problems(tmp_path, with_output(f"{GPIO}stop_line = 17\n"))
    assert (key, message) == ("output.stop_line", "must be another line than reject_line")


def test_every_key_has_a_description():
    schema = ArmSettings.model_json_schema()
    tables = {name: table["properties"] for name, table in schema["$defs"].items()}
    undescribed = [
        (name, key)
        for name, keys in tables.items()
        for key, said in keys.items()
        if "description" not in said and key not in ("kind", "tls")
    ]
    assert undescribed == []
