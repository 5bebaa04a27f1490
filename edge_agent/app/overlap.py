"""Which thread runs where, and whether the next picture is prepared while the engine runs: configuration and profile say."""

import os
from collections.abc import Sequence

from edge_agent.config import AgentConfig
from edge_agent.hardware.profile import Choice, Overlap
from edge_agent.runtime.ahead import Ahead
from edge_agent.runtime.camera_watch import CameraWatch
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.mailbox import Mailroom
from edge_agent.runtime.pipeline import MakeAhead
from edge_agent.runtime.scheduling import Scheduling, Wanted


def overlap_of(config: AgentConfig, choice: Choice) -> Overlap:
    """The configuration's word, or else the profile's."""
    return config.hardware.overlap or (choice.profile.overlap if choice.profile else "auto")


def scheduling_of(choice: Choice) -> Scheduling:
    """As the profile wants it."""
    if choice.profile is None:
        return Scheduling()
    table = choice.profile.scheduling
    return Scheduling(Wanted(table.engine_cores, table.other_cores, table.realtime))


def maker(config: AgentConfig, choice: Choice, mailroom: Mailroom, watches: Sequence[CameraWatch]) -> MakeAhead:
    """What decides it for each engine that comes to serve. To be called before threads are kept to some cores."""
    profile = choice.profile
    threads = config.hardware.threads or (profile.threads if profile else None)
    has_cores = bool(profile and profile.scheduling.engine_cores and profile.scheduling.other_cores)

    def make(engine: Engine) -> Ahead | None:
        leaves_a_core = has_cores or _leaves_a_core(engine, threads, cores)
        if overlap == "off" or (overlap == "auto" and not leaves_a_core):
            return None
        return Ahead(mailroom, engine, watches, at_once=overlap == "throughput")

    overlap, cores = overlap_of(config, choice), len(os.sched_getaffinity(0))
    return make


def _leaves_a_core(engine: Engine, threads: int | None, cores: int) -> bool:
    """Whether one is free while the engine runs. One on a device needs none; others take all, unless they are told not to."""
    return cores > 1 if engine.is_on_device else cores > (threads or cores)
