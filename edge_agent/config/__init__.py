"""The configuration: one TOML file per agent, parsed at the edge and trusted inside."""

from edge_agent.config.load import Loaded, load, load_settings
from edge_agent.config.problems import ConfigProblemsError, Problem, dotted
from edge_agent.config.reload import live_changes
from edge_agent.config.schema import AgentConfig, CameraConfig
from edge_agent.config.triggers import ExternalTrigger, FireConfig, GpioTrigger, LineTrigger, MqttTrigger

__all__ = [
    "AgentConfig",
    "CameraConfig",
    "ConfigProblemsError",
    "ExternalTrigger",
    "FireConfig",
    "GpioTrigger",
    "LineTrigger",
    "Loaded",
    "MqttTrigger",
    "Problem",
    "dotted",
    "live_changes",
    "load",
    "load_settings",
]
