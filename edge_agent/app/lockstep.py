"""A configuration run on a simulated clock: the same input gives the same messages, byte for byte.

What runs is the road of `edge-agent run`, in one thread and without a broker. Each frame is judged before the next is
taken, and the clock stands meanwhile: work takes no time, no frame is dropped and no part is late. What a real line loses
by being slow is not to be seen here; what it decides is. The scores are the engine's: another machine, or another number
of threads, may give slightly different ones.
"""

import heapq
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter

from edge_agent.app.cameras import make_capture, takes_clock
from edge_agent.app.check import camera_problems
from edge_agent.app.road import Road, build_road, is_lossless
from edge_agent.clock import SimulatedClock
from edge_agent.config import CameraConfig, ConfigProblemsError, ExternalTrigger, Loaded, Problem
from edge_agent.core.datatypes import Frame
from edge_agent.core.ports import Message, Receipt
from edge_agent.errors import EndOfStreamError
from edge_agent.runtime.capture import Capture

START_NS = 1_000_000_000
START_UTC = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Tape:
    """Stands in for both connections: keeps what is sent, in order."""

    connections = 1

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def send(self, message: Message) -> bool:
        """A verdict."""
        self._messages.append(message)
        return True

    def put(self, kind: str, message: Message) -> None:  # noqa: ARG002 - the outbox's
        """A result or an event."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """What was sent since the last time."""
        messages, self._messages = self._messages, []
        return messages


@dataclass(frozen=True, slots=True)
class _Lane:
    """A camera with a clock of its own, which is where its next frame is while the line's is where the last one was."""

    camera: CameraConfig
    capture: Capture
    clock: SimulatedClock

    def steps(self) -> "Generator[tuple[int, _Lane, Frame | None], None, None]":
        """The camera's steps, with their times."""
        with suppress(EndOfStreamError), closing(self.capture.steps()) as steps:
            for frame in steps:
                yield self.clock.mono_ns(), self, frame


def lockstep(loaded: Loaded, *, session: str, seconds: float | None = None) -> Iterator[Message]:
    """Verdicts, results and events as they are sent, until every camera has ended or so many simulated seconds are over.

    A camera that is lost is opened again after the same pauses as on a real line. Closing the iterator closes engine and
    cameras.

    Raises:
        ConfigError: something in the configuration cannot be used, or not in lockstep.
        FatalError: too many frames in a row could not be judged.
    """
    if problems := camera_problems(loaded, "verify") + list(_without_times(loaded)):
        raise ConfigProblemsError(problems)
    clock, tape = SimulatedClock(START_NS, START_UTC), Tape()
    road = build_road(loaded, tape, tape, session=session, clock=clock)
    lanes = [_lane(camera, road) for camera in loaded.config.cameras]
    engine = road.pipeline.open()
    with ExitStack() as stack:
        stack.callback(engine.backend.close)
        steps = [stack.enter_context(closing(lane.steps())) for lane in lanes]
        for now_ns, lane, frame in heapq.merge(*steps, key=itemgetter(0)):
            if seconds is not None and now_ns - START_NS > seconds * 1e9:
                return
            clock.go_to(now_ns)
            if frame is not None:
                road.mailboxes[lane.camera.id].put(frame)
            while (taken := road.mailroom.take(0)) is not None:
                road.pipeline.judge(engine, taken)
            road.reporter.report_camera(lane.capture, road.watches[lane.camera.id], now_ns / 1e9)
            for message in tape.take():
                if message.token is not None:
                    road.desk.confirm(Receipt(message.token, 0))
                yield message


def _lane(camera: CameraConfig, road: Road) -> _Lane:
    clock = SimulatedClock(START_NS, START_UTC)
    return _Lane(camera, make_capture(camera, road, clock), clock)


def _without_times(loaded: Loaded) -> Iterator[Problem]:
    for index, camera in enumerate(loaded.config.cameras):
        if not takes_clock(camera):
            message = (
                f"in lockstep a camera of kind {camera.kind} cannot run, it keeps its own time: replay or simulate it"
            )
            yield loaded.problem(("cameras", index, "kind"), message)
        elif isinstance(camera.trigger, ExternalTrigger):
            yield loaded.problem(("cameras", index, "trigger", "kind"), "in lockstep nobody triggers from outside")
        elif is_lossless(camera):
            message = "in lockstep 0 gives the pictures no times: set the rate at which they came"
            yield loaded.problem(("cameras", index, "fps"), message)
