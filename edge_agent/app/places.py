"""Where the agent keeps what must outlive it, and where commands find it again.

All of one device lies in one folder, `own_folder`. A service's is below `/var/lib/edge-agent`, and its socket in
`/run/edge-agent/NAME`, where NAME is that of its configuration `/etc/edge-agent/NAME.toml`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig

SERVICE_CONFIGURATIONS = Path("/etc/edge-agent")
SERVICE_STATE = Path("/var/lib/edge-agent")
SERVICE_RUNTIME = Path("/run/edge-agent")


def own_folder(config: "AgentConfig") -> Path:
    """`records.folder`, or one of this device's own in the state folder."""
    return config.records.folder or state_folder() / folder_name(config.device.id)


def folder_name(device: str) -> str:
    """An id may be . or .., the name of a folder may not."""
    return device if device.strip(".") else f"_{device}"


def engines_folder(configured: Path | None = None) -> Path:
    """Where engines lie that were built here: `hardware.tensorrt.folder`, or in the state folder."""
    return configured or state_folder() / "engines"


def state_folder() -> Path:
    """The one that systemd gives (`StateDirectory=`), or the user's (XDG Base Directory Specification)."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if (home := os.environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(home) / "edge-agent"
    try:
        return Path.home() / ".local" / "state" / "edge-agent"
    except RuntimeError:  # a user without a home, as in some containers
        return Path("/var/lib/edge-agent")


def runtime_folder(config: "AgentConfig") -> Path:
    """Where the status socket and the metrics are: the one that systemd gives (`RuntimeDirectory=`), or the own folder."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    return Path(given.split(":")[0]) if given else own_folder(config)
