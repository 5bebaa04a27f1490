"""What may change while the agent runs."""

from typing import Any

from edge_agent.config.schema import AgentConfig

LIVE = (
    ("log", "level"),
    ("model", "conf"),
    ("model", "iou"),
    ("records", "max_rows"),
    ("records", "max_mb"),
    ("records", "min_free_mb"),
    ("records", "drain_per_s"),
    ("records", "results"),
    ("verdict", "deadline_ms"),
    ("verdict", "valid_ms"),
    ("verdict", "unknown_in_row"),
    ("verdict", "reject_in_row"),
    ("ack", "within_ms"),
    ("evidence", "*"),
    ("cameras", "*", "fire"),
    ("cameras", "*", "rules"),
    ("cameras", "*", "health"),
    ("mqtt", "username"),
    ("mqtt", "password_file"),
    ("mqtt", "tls", "*"),
)
"""Rules, thresholds, limits, log level, credentials and certificates; a `*` stands for any key or index."""

Change = tuple[str | int, ...]


def live_changes(old: AgentConfig, new: AgentConfig) -> tuple[list[Change], list[Change]]:
    """The keys that differ: those that can change while running, and those that need a restart."""
    changes = list(_differences(old.model_dump(mode="json"), new.model_dump(mode="json")))
    live = [change for change in changes if any(_covers(pattern, change) for pattern in LIVE)]
    return live, [change for change in changes if change not in live]


def _differences(old: Any, new: Any, path: Change = ()) -> "list[Change]":
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        pairs = [(key, old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(index, a, b) for index, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [path]
    return [change for key, a, b in pairs for change in _differences(a, b, (*path, key))]


def _covers(pattern: tuple[str, ...], change: Change) -> bool:
    return len(change) >= len(pattern) and all(want in ("*", have) for want, have in zip(pattern, change, strict=False))
