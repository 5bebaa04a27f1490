"""What a check is, and what it can find."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from edge_agent.app.doctor.context import Context

Level = Literal["fail", "warn", "ok", "skip"]
Need = Literal["copy", "machine", "configuration"]
"""What a check has to have: any tree of `/proc` and `/sys`, this machine itself, or also a configuration that is right."""
Group = Literal["configuration", "board", "storage", "cameras", "model", "broker", "service"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found: how bad it is, what was seen, and what to do; `about` is which one of several, a camera."""

    level: Level
    evidence: str
    fix: str | None = None
    about: str = ""


def ok(evidence: str, about: str = "") -> Finding:
    """All is well, and this is what shows it."""
    return Finding("ok", evidence, about=about)


def warn(evidence: str, fix: str, about: str = "") -> Finding:
    """The line runs, but not as it should, or not for long."""
    return Finding("warn", evidence, fix, about)


def fail(evidence: str, fix: str, about: str = "") -> Finding:
    """The line cannot run so, or what it says reaches nobody."""
    return Finding("fail", evidence, fix, about)


def skip(why: str, about: str = "") -> Finding:
    """Nobody looked, and why."""
    return Finding("skip", why, about=about)


Look = Callable[[Context], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. `tells` says in words what it finds."""

    name: str
    group: Group
    tells: str
    look: Look
    need: Need = "machine"
