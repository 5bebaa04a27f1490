"""What the flight recorder is told of the configuration."""

import json

from edge_agent.app.recording import setting_of
from edge_agent.config import load
from tests.fixtures import REPO


def test_a_setting_has_rules_and_limits_and_nothing_of_accounts():
    setting = setting_of(load(REPO / "examples" / "tls-broker.toml"))
    assert setting["deadline_ms"] > 0
    (camera,) = setting["cameras"].values()
    assert {"kind", "trigger", "rules"} == set(camera)
    text = json.dumps(setting)
    assert "mqtt_password" not in text
    assert "broker.example.com" not in text
