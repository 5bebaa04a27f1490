"""What the agent says of itself on the device, in words. Light to import: `edge-agent status` has to be quick."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "status.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STUCK_S = 20.0
"""A thread that gives no sign of life for so long hangs: a camera driver may block for ten on purpose."""


def words(facts: Mapping[str, Any]) -> str:
    """The line for `systemctl status`: `running; 1834 parts, 12.9/s; caps 1.4.0 by tensorrt; broker up, 0 waiting`."""
    parts, links, reasons = facts["parts"], facts["links"], facts["reasons"]
    rate = "" if parts["per_s"] is None else f", {parts['per_s']:.1f}/s"
    stuck = stuck_threads(facts)
    said = [
        f"{facts['state']} ({', '.join(reasons)})" if reasons else facts["state"],
        f"no sign of life of {', '.join(stuck)}" if stuck else "",
        f"{parts['closed']} parts{rate}" if facts["model"] else "",
        model_words(facts),
        facts["workshop"] or ("opening the engine" if facts["engine"] is None else ""),
        f"broker {link_words(links)}, {facts['queues']['records']} waiting",
    ]
    return "; ".join(filter(None, said))


def stuck_threads(facts: Mapping[str, Any]) -> list[str]:
    """Threads that hang in a call."""
    return [name for name, silent_s in facts["threads"].items() if silent_s > STUCK_S]


def model_words(facts: Mapping[str, Any]) -> str:
    """`caps 1.4.0 by tensorrt`; empty while there is none."""
    model, engine = facts["model"], facts["engine"]
    if not model or not engine:
        return ""
    return " ".join(filter(None, (model["name"], model["version"], "by", engine["backend"])))


def link_words(links: Mapping[str, bool]) -> str:
    """`up`, `down`, or which connection is down."""
    down = [name for name, is_up in links.items() if not is_up]
    if not down:
        return "up"
    return "down" if len(down) == len(links) else f"{down[0]} down"
