"""What the agent does without while the board is hot, as the board's profile says."""

from collections.abc import Callable
from functools import partial

from edge_agent.config import AgentConfig, LineTrigger
from edge_agent.hardware.profile import Profile
from edge_agent.runtime.agent import Agent
from edge_agent.runtime.evidence import Evidence
from edge_agent.runtime.mailbox import Mailbox
from edge_agent.runtime.thermal import Limits, ThermalWatch


def watch_heat(agent: Agent, config: AgentConfig, profile: Profile | None, evidence: Evidence) -> ThermalWatch | None:
    """None where the profile sheds nothing."""
    thermal = profile.thermal if profile else None
    if thermal is None or not thermal.shed:
        return None
    lines = [agent.mailboxes[camera.id] for camera in config.cameras if isinstance(camera.trigger, LineTrigger)]
    possible: dict[str, Callable[[bool], None]] = {
        "evidence": partial(setattr, evidence, "is_shed"),
        "build": lambda is_shed: agent.workshop.hold(is_held=is_shed),
        "frames": partial(_set_pace, lines, thermal.shed_fps),
    }
    switches: dict[str, Callable[[bool], None]] = {what: possible[what] for what in thermal.shed}
    limits = Limits(thermal.throttle_c, thermal.hysteresis_c)
    watch = ThermalWatch(limits, switches, lambda: agent.health.vitals, agent.reporter)
    agent.health.shedding = lambda: watch.shed
    return watch


def _set_pace(mailboxes: list[Mailbox], fps: float | None, is_shed: bool) -> None:  # noqa: FBT001 - see `ThermalWatch`
    """Frames of parts are never shed: what has a line shows each part many times."""
    for mailbox in mailboxes:
        mailbox.set_pace(fps if is_shed else None)
