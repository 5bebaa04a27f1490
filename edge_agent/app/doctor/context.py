"""What the checks look at: an installation, the machine below it, and what the agent says of itself."""

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.app.doctor import systemd
from edge_agent.app.doctor.who import Who, agents_user
from edge_agent.app.instances import JOIN, Instance
from edge_agent.app.status import Report as StatusReport
from edge_agent.app.status import look as look_at_status
from edge_agent.config import AgentConfig, CameraConfig, ConfigProblemsError, Loaded, Problem, load
from edge_agent.config.lines import KeyPath
from edge_agent.errors import ConfigError
from edge_agent.hardware import probe, telemetry
from edge_agent.hardware.profile import AUTO, SITE_FOLDER, Choice, choose, load_all

Fact = TypeVar("Fact")


@dataclass
class Context:
    """Facts are read when they are first asked for; each group of checks asks in one thread.

    Attributes:
        root: below it are `/proc`, `/sys` and `/etc`: this machine's, or a copy's.
        instance: the installation; None where none was named and there is none.
        loaded: its configuration, if it is right.
        problems: what is wrong with it otherwise.
        unreadable: why this user cannot read it.
        status: how the agent is, or how it ended; None where there is no installation, or a copy is looked at.
        probe_verdicts: whether the topics of verdicts may be tried with an empty message.
    """

    root: Path
    instance: Instance | None = None
    loaded: Loaded | None = None
    problems: list[Problem] = field(default_factory=list)
    unreadable: str | None = None
    status: StatusReport | None = None
    probe_verdicts: bool = False
    _taken: dict[Callable[["Context"], Any], Any] = field(default_factory=dict)

    def once(self, take: "Callable[[Context], Fact]") -> "Fact":
        """A fact that takes long: taken when it is first asked for. Each is of one group, and so of one thread."""
        if take not in self._taken:
            self._taken[take] = take(self)
        fact: Fact = self._taken[take]
        return fact

    @property
    def is_copy(self) -> bool:
        """Whether `root` is a copied tree, which says nothing of this machine."""
        return self.root != probe.LIVE

    @property
    def config(self) -> AgentConfig:
        """The configuration; only for checks that need one."""
        if self.loaded is None:
            raise AssertionError("there is no configuration")
        return self.loaded.config

    @property
    def live(self) -> Mapping[str, Any] | None:
        """What the running agent says of itself; None where nobody answers."""
        answers = self.status is not None and self.status.condition in ("up", "hangs")
        facts = self.status.facts if self.status and answers else None
        return facts if facts and "age_s" in facts else None

    @property
    def silent(self) -> str:
        """Why nobody answers."""
        return self.status.told[0] if self.status and self.status.told else "it does not answer"

    @cached_property
    def is_up(self) -> bool:
        """Whether an agent runs this configuration: it answers, or it holds the lock of the file."""
        path = self.instance.config if self.instance else None
        return self.live is not None or (path is not None and _is_locked(path))

    @cached_property
    def board(self) -> probe.Board:
        """The board."""
        return probe.detect(self.root)

    @cached_property
    def telemetry(self) -> telemetry.Telemetry:
        """What the board's sensors say now."""
        return telemetry.read(self.root)

    @cached_property
    def choice(self) -> Choice | ConfigError:
        """The hardware profile, or why there is none."""
        wanted = self.loaded.config.hardware.profile if self.loaded else AUTO
        try:
            return choose(self.board, load_all(self.root / SITE_FOLDER.relative_to("/")), wanted)
        except ConfigError as error:
            return error

    @cached_property
    def agent(self) -> Who:
        """As whom the agent runs, or would."""
        pid = self.live.get("pid") if self.live else None
        return agents_user(self.instance, pid if isinstance(pid, int) else None)

    @cached_property
    def unit(self) -> systemd.Unit | str:
        """The service as systemd knows it, or why that cannot be told."""
        if self.instance is None or not self.instance.is_service:
            return "it is no service: its configuration is not in /etc/edge-agent"
        return systemd.look(f"edge-agent@{self.instance.name}.service")

    @property
    def health(self) -> Mapping[str, Any]:
        """The body of the running agent's `health`; empty where nobody answers."""
        health = self.live.get("health") if self.live else None
        return health if isinstance(health, Mapping) else {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the running agent is not well, in its own words."""
        reasons = self.live.get("reasons") if self.live else None
        return tuple(map(str, reasons)) if isinstance(reasons, list) else ()

    @property
    def path(self) -> Path:
        """The file of the configuration; only for checks that need one."""
        if self.loaded is None:
            raise AssertionError("there is no configuration")
        return self.loaded.path

    def place(self, *key: str | int) -> str:
        """Where a key stands, for people: `/etc/edge-agent/cap.toml:31`; the file alone where it is not set."""
        if self.loaded is None:
            return ""
        where: KeyPath = key
        problem = self.loaded.problem(where, "")
        return f"{problem.file}:{problem.line}" if problem.line else problem.file

    def camera_place(self, camera: CameraConfig, key: str) -> str:
        """Where a key of a camera stands."""
        return self.place("cameras", self.config.cameras.index(camera), key)

    @property
    def start(self) -> str:
        """The command that starts the agent."""
        return self._command("start")

    @property
    def restart(self) -> str:
        """The command that starts the agent anew."""
        return self._command("restart")

    @property
    def reload(self) -> str:
        """The command that has the agent read its configuration again."""
        pid = self.live.get("pid") if self.live else None
        return self._command("reload") if self.is_service or pid is None else f"kill -HUP {pid}"

    @property
    def is_service(self) -> bool:
        """Whether systemd runs it."""
        return self.instance is not None and self.instance.is_service

    @property
    def python(self) -> str:
        """The agent's: whoever calls the doctor may have another edge-agent than the service."""
        installed = systemd.PROGRAM / "bin" / "python"
        return str(installed) if self.is_service and installed.exists() else sys.executable

    def _command(self, verb: str) -> str:
        if self.instance is None:
            return "edge-agent run --config FILE"
        if self.is_service:
            return f"sudo systemctl {verb} edge-agent@{self.instance.name}"
        run = f"edge-agent run --config {self.instance.config}"
        return run if verb == "start" else f"stop the agent (Ctrl-C) and start it again: {run}"


def look_around(instance: Instance | None, root: Path = probe.LIVE, *, probe_verdicts: bool = False) -> Context:
    """A context with the configuration and what the agent says, as far as this user may see them. Never raises."""
    context = Context(root, instance, probe_verdicts=probe_verdicts)
    if instance is None:
        return context
    if instance.is_service and (folder := systemd.credentials(instance.name)):
        os.environ.setdefault(
            "CREDENTIALS_DIRECTORY", str(folder)
        )  # so that secrets are found where the agent has them
    if instance.config is not None:
        _load(context, instance.config)
    if not context.is_copy:
        context.status = look_at_status(instance)
    return context


def _load(context: Context, path: Path) -> None:
    if path.exists() and not os.access(path, os.R_OK, effective_ids=True):
        context.unreadable = f"{path} may not be read by you: {JOIN}"
        return
    try:
        context.loaded = load(path)
    except ConfigProblemsError as error:
        context.problems = error.problems


def _is_locked(path: Path) -> bool:
    """Whether `app.run.single_instance` holds the file's lock in some process."""
    name = f"edge-agent-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect("\0" + name)
        except OSError:
            return False
    return True
