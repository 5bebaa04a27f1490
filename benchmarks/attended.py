"""An agent with none, some or all of what watches over it, for `benchmarks.attendants`. All begin the same way.

python -m benchmarks.attended CONFIG [PART...]
"""

import gc
import math
import queue
import signal
import sys
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from edge_agent import logs
from edge_agent.app.agent import build
from edge_agent.config import load
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.metrics_file import MetricsFile
from edge_agent.runtime.recorder import Recorder
from edge_agent.runtime.status import StatusBoard, StatusFile
from edge_agent.runtime.status_socket import StatusServer

PARTS: dict[str, tuple[type, ...]] = {
    "recorder": (Recorder,),
    "status": (StatusBoard, StatusFile, StatusServer),
    "metrics": (MetricsFile,),
    "health": (),
}


class Bare(Agent):
    """Without health messages."""

    def _publish_health(self) -> None:
        self._health_due_s = math.inf


def reduced(agent: Agent, parts: Collection[str]) -> Agent:
    """The same agent with those parts alone."""
    make = Agent if "health" in parts else Bare
    left = make(**{field.name: getattr(agent, field.name) for field in fields(agent)})
    others = tuple(kind for part, kinds in PARTS.items() if part not in parts for kind in kinds)
    left.attendants = tuple(one for one in agent.attendants if not isinstance(one, others))
    left.watches = tuple(one for one in agent.watches if not isinstance(one, others))
    if "recorder" not in parts:
        left.desk.recorder = None
    return left


def main() -> None:
    """Until SIGTERM."""
    path, *parts = sys.argv[1:]
    wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: wishes.put("stop"))
    loaded = load(Path(path))
    logs.configure(loaded.config.log.level, loaded.config.log.format)
    agent = reduced(build(loaded, wishes)[0], parts)
    agent.start()
    gc.freeze()
    agent.wait()
    agent.stop()


if __name__ == "__main__":
    main()
