"""One scored run of a simulated line: the agent and an arm as processes, their words and the truth gathered as they come."""

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from edge_agent.app.demo import toml
from edge_agent.app.demo.children import Child, ChildDiedError, Tail, own_command
from edge_agent.app.demo.ear import Ear, open_ear
from edge_agent.app.demo.simulated import take_baselines
from edge_agent.app.evidence import Acted, Key, Told
from edge_agent.app.road import make_rules
from edge_agent.app.score import CameraScorer, Scorer
from edge_agent.app.sheet import ScoreSheet
from edge_agent.config import AgentConfig
from edge_agent.config.health import HealthConfig
from edge_agent.errors import FatalError, UsageError

TICK_S = 0.1
START_S = 60.0
"""How long the agent may take until its camera gives a first picture."""

_SETTLE_S = 0.5  # beyond what the camera's health asks for
_LAST_MS = 300.0  # a part that crossed so shortly before the stop may be without a verdict
_ECHO_S = 2.0  # at most, until the arm has acted on the last verdict, and said so
_SILENCE_S = 1.0  # an agent that can judge says so four times a second
_AGENT_S = 4.0  # for its goodbye and the echo; what is left of STOP_S is the others'


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, from a configuration that is written already. `truths`: each camera's side channel; `labels`: what the model calls what the simulator shows.

    `seconds` counts from the first picture; None: until the cameras end. `arm`: the configuration of the reject arm.
    `is_shared`: others use the broker too, perhaps this very device.
    """

    path: Path
    config: AgentConfig
    truths: Mapping[str, Path]
    arm: Path | None
    seconds: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    is_shared: bool = False


@dataclass(slots=True)
class View:
    """What there is to show now. `recent`: the last verdicts, with what the arm did; newest last."""

    scorer: Scorer
    has_arm: bool
    state: str = "starting"
    reasons: Sequence[str] = ()
    elapsed_s: float = 0.0
    seconds: float | None = None
    recent: list[Told] = field(default_factory=list)
    actions: dict[Key, Acted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over; `stopped`: by somebody, before its time."""

    sheet: ScoreSheet
    stopped: bool


class Viewer(Protocol):
    """Shows a run to a person."""

    def say(self, words: str) -> None:
        """One line."""
        ...

    def show(self, view: View) -> None:
        """What there is now; called often."""
        ...


class Trial:
    """Starts the processes, follows them to the end, and scores. `started` gets them: who made it ends them."""

    def __init__(self, plan: Plan, folder: Path, started: list[Child], ear: Ear) -> None:
        self._plan, self._folder, self._started, self._ear = plan, folder, started, ear
        self.scorer = _scorer(plan)
        self._truths = {camera: Tail(path) for camera, path in plan.truths.items()}
        self._view = View(self.scorer, plan.arm is not None, seconds=plan.seconds)
        self._arm_lines: Tail | None = None
        if plan.arm is not None:  # it has to be there before the first verdict
            arm = self._start("reject-arm", own_command("reject-arm", "--config", plan.arm, "--json"))
            self._arm_lines = Tail(arm.out)
        self._agent = self._start("agent", own_command("run", "--config", plan.path))

    def follow(self, viewer: Viewer, stop: threading.Event) -> ScoreSheet:
        """To the end of the cameras, of the time, or until somebody stops it.

        Raises:
            ChildDiedError: a process ended that should not.
        """
        give_up_s = time.monotonic() + START_S
        while not stop.wait(TICK_S):
            self._gather(viewer)
            if self._is_over():
                break
            for child in self._started:
                child.check()
            if self._view.elapsed_s == 0 and time.monotonic() > give_up_s:
                late = f"the agent had no picture within {START_S:.0f} s"
                raise ChildDiedError(f"{late}{self._agent.log_end()}")
        until_ns = self._stop(viewer)
        return self.scorer.sheet(until_ns, has_arm=self._view.has_arm)

    def _start(self, name: str, command: list[str | Path]) -> Child:
        child = Child(name, command, self._folder)
        self._started.append(child)
        return child

    def _is_over(self) -> bool:
        """Whether the time is up, or the agent ended because its cameras did."""
        seconds = self._plan.seconds
        return self._agent.exit_code == 0 or (seconds is not None and self._view.elapsed_s >= seconds)

    def _stop(self, viewer: Viewer) -> int | None:
        """Ends the agent and waits for the last words; until when parts count, None: to the end."""
        asked_ns = None if self._agent.exit_code == 0 else time.monotonic_ns() - int(_LAST_MS * 1e6)
        until_s = time.monotonic() + _AGENT_S
        self._agent.stop(_AGENT_S)
        if self._agent.exit_code not in (0, -signal.SIGTERM):  # that early it has no handler yet
            raise ChildDiedError(self._agent.last_words())
        until_s = min(until_s, time.monotonic() + _ECHO_S)
        while True:
            time.sleep(TICK_S)
            self._gather(viewer)
            if not (self._view.has_arm and self.scorer.not_at_arm) or time.monotonic() > until_s:
                return asked_ns

    def _gather(self, viewer: Viewer) -> None:
        """Takes what came. Messages first: a verdict's truth was written before it was sent."""
        heard = self._ear.take()
        for camera, tail in self._truths.items():
            for line in tail.lines():
                self.scorer.cameras[camera].truth.add(line)
        for message in heard:
            self._take(message.name, message.payload, message.received_ns)
        for line in self._arm_lines.lines() if self._arm_lines else ():
            if acted := self.scorer.add_action(line):
                self._view.actions[acted.key] = acted
        began = [at for camera in self.scorer.cameras.values() if (at := camera.truth.began_ns) is not None]
        self._view.elapsed_s = (time.monotonic_ns() - min(began)) / 1e9 if began else 0.0
        viewer.show(self._view)

    def _take(self, name: str, payload: str, received_ns: int) -> None:
        if name == "verdict":
            if verdict := self.scorer.add_verdict(payload):
                self._view.recent.append(verdict)
                del self._view.recent[:-20]
        elif name in ("state", "event"):
            notice = self.scorer.add_notice(name, payload, received_ns)
            if notice and name == "state":
                self._view.state = str(notice.payload.get("state"))
                self._view.reasons = [str(reason) for reason in notice.payload.get("reasons") or ()]


def _scorer(plan: Plan) -> Scorer:
    cameras = {}
    for camera in plan.config.cameras:
        clear_s = (camera.health or HealthConfig()).clear_s
        cameras[camera.id] = CameraScorer(make_rules(camera), plan.labels, clear_s + _SETTLE_S)
    limits = plan.config.verdict
    return Scorer(cameras, deadline_ms=limits.deadline_ms, valid_ms=limits.valid_ms)


def conduct(plan: Plan, folder: Path, started: list[Child], viewer: Viewer, stop: threading.Event) -> Finished:
    """Looks at the cameras for their baselines, runs the line and scores it.

    Raises:
        ChildDiedError: a process ended that should not.
        ConfigError, PublisherLostError: nobody can listen at the broker.
        FatalError: an agent of the same name is at work there.
        KeyboardInterrupt: it was stopped before the line ran.
    """

    def tell(_share: float) -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    take_baselines(plan.config, tell)
    with closing(
        open_ear(
            plan.config.publisher, plan.config.device.topics(plan.config.publisher[1].prefix), folder / "agent.out"
        )
    ) as ear:
        if plan.is_shared:
            _check_alone(ear, plan, stop)
        sheet = Trial(plan, folder, started, ear).follow(viewer, stop)
    return Finished(sheet, stop.is_set())


def _check_alone(ear: Ear, plan: Plan, stop: threading.Event) -> None:
    """Two agents of one name would throw each other out of the broker."""
    stop.wait(_SILENCE_S)
    if any(heard.name == "heartbeat" for heard in ear.take()):
        table = plan.config.publisher[1]
        name = f"{plan.config.device.id} at {table.host}:{table.port}"
        raise FatalError(
            f"an agent of this name is at work: {name}; stop it first, or give the line a broker of its own"
        )


def write_arm(config: AgentConfig, folder: Path, *, ack: bool) -> Path:
    """The configuration of an arm that does what the agent's recommends."""
    tables = {
        "device": config.device.model_dump(),
        "mqtt": config.mqtt.model_dump(exclude_unset=True),
        "arm": {"on_unknown": config.verdict.on_unknown, "on_agent_loss": config.verdict.on_agent_loss, "ack": ack},
        "output": {"kind": "simulated"},
    }
    path = folder / "arm.toml"
    path.write_text(toml.document(tables), "utf-8")
    return path


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards; or the given one, which stays. It must be new, or empty.

    Raises:
        UsageError: the given one cannot be made, or has something in it.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="edge-agent-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{keep} cannot be made: {error.strerror}") from error
    if any(keep.iterdir()):
        raise UsageError(f"--keep: {keep} is not empty; name a new folder, so that nothing of yours is overwritten")
    yield keep.absolute()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and the end of the terminal set, in place of ending the process on the spot."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
