"""What the flight recorder is told, and of what: the log, each part, and by what parts are judged."""

from typing import Any

import edge_agent
from edge_agent import logs
from edge_agent.app.places import own_folder
from edge_agent.config import Loaded
from edge_agent.runtime.agent import Agent
from edge_agent.runtime.recorder import Recorder


def make_recorder(agent: Agent, loaded: Loaded) -> Recorder | None:
    """The agent's flight recorder, told of each verdict and of the log; None where the configuration has none."""
    max_mb = loaded.config.recorder.max_mb
    if not max_mb:
        return None
    recorder = Recorder(own_folder(loaded.config), max_mb, agent.scribe.identity.session, listen=logs.listen)
    recorder.note("setting", setting_of(loaded))
    agent.desk.recorder = agent.health.recorder = recorder
    if agent.desk.acks:
        agent.desk.acks.recorder = recorder
    return recorder


def setting_of(loaded: Loaded) -> dict[str, Any]:
    """By what parts are judged: all that a verdict's story needs of the configuration, and nothing of its accounts."""
    config = loaded.config
    cameras = {
        camera.id: {
            "kind": camera.kind,
            "trigger": camera.trigger.kind,
            "rules": [rule.model_dump(mode="json") for rule in camera.rules],
        }
        for camera in config.cameras
    }
    return {
        "config": str(loaded.path.absolute()),
        "config_sha256": loaded.sha256,
        "agent_version": edge_agent.__version__,
        "device": config.device.id,
        "model": str(config.model.path),
        "conf": config.model.conf,
        "deadline_ms": config.verdict.deadline_ms,
        "valid_ms": config.verdict.valid_ms,
        "on_unknown": config.verdict.on_unknown,
        "cameras": cameras,
    }
