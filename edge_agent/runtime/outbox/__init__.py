"""Results and events wait here until the broker has them: on disk, at least once, in order per topic."""

from edge_agent.runtime.outbox.outbox import WINDOW, Outbox
from edge_agent.runtime.outbox.rows import Kind

__all__ = ["WINDOW", "Kind", "Outbox"]
