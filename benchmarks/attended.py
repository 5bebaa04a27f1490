"""An agent with or without all that watches over it, for `benchmarks.attendants`. Both begin the same way.

python -m benchmarks.attended with|without CONFIG
"""

import gc
import math
import queue
import signal
import sys
from dataclasses import fields
from pathlib import Path

from edge_agent import logs
from edge_agent.app.agent import build
from edge_agent.config import load
from edge_agent.runtime.agent import Agent, Wish
from edge_agent.runtime.status import StatusBoard


class Bare(Agent):
    """No attendants, no status, no health messages."""

    @classmethod
    def of(cls, agent: Agent) -> "Bare":
        """The same parts, but for those."""
        bare = cls(**{field.name: getattr(agent, field.name) for field in fields(agent)})
        bare.attendants = ()
        bare.watches = [watch for watch in agent.watches if not isinstance(watch, StatusBoard)]
        bare.desk.recorder = bare.desk.evidence = None
        return bare

    def _publish_health(self) -> None:
        self._health_due_s = math.inf


def main() -> None:
    """Until SIGTERM."""
    how, path = sys.argv[1], Path(sys.argv[2])
    wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: wishes.put("stop"))
    loaded = load(path)
    logs.configure(loaded.config.log.level, loaded.config.log.format)
    agent, _ = build(loaded, wishes)
    if how == "without":
        agent = Bare.of(agent)
    agent.start()
    gc.freeze()
    agent.wait()
    agent.stop()


if __name__ == "__main__":
    main()
