"""A real `edge-agent run` as a process of its own: how long until its first verdict, and how much memory it keeps."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge_agent.app.bench.stand import BenchError
from edge_agent.app.demo.children import Child
from edge_agent.app.demo.ear import Ear, open_ear
from edge_agent.app.tether import tied
from edge_agent.config import Loaded

TETHERS = 3
MEMORY_AFTER_S, MEMORY_AFTER_VERDICTS = 2.0, 20
PARTS = ("interpreter", "imports", "configuration", "engine", "camera", "verdict")
"""Of a start, in their order: until Python runs, until the code is loaded, `starting`, `engine_open`, the first frame, its verdict."""

_PATIENCE_S = 120.0
_LOOK_S = 0.01
_STARTER = (
    "import gc, sys, time; began_ns = time.monotonic_ns(); import edge_agent.cli; gc.disable(); import edge_agent.app.run; "
    "print(began_ns, time.monotonic_ns(), file=sys.stderr, flush=True); edge_agent.cli.main()"
)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of the process to its first verdict, and of what they consist."""

    whole_s: float
    parts_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident, in megabytes of 2**20 bytes: after some seconds at work, and at the most."""

    rss_mb: float
    peak_mb: float
    verdicts: int


class Agent(Child):
    """`edge-agent run`, that first says when Python ran and when the code was loaded."""

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.began_ns, self._utc_minus_mono_s = time.monotonic_ns(), time.time() - time.monotonic()
        super().__init__("agent", [sys.executable, "-c", _STARTER, "run", "--config", loaded.path], folder)

    def loaded_ns(self) -> tuple[int, int]:
        """When Python ran, and when the code was loaded; monotonic."""
        began, loaded = self.log_file.read_text("utf-8", "replace").splitlines()[0].split()
        return int(began), int(loaded)

    def logged_ns(self, event: str) -> int:
        """When it logged that, monotonic. Raises `BenchError` where it did not."""
        for line in self.log_file.read_text("utf-8", "replace").splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("event") == event:
                utc = datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00"))
                return int((utc.timestamp() - self._utc_minus_mono_s) * 1e9)
        raise BenchError(f"the agent did not log {event}{self.log_end()}")

    def memory_mb(self, key: str) -> float:
        """A line of `/proc/PID/status`."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{key}:"))


def observe(
    loaded: Loaded, folder: Path, started: list[Child], times: int, tell: Callable[[], None]
) -> tuple[list[Start], Memory]:
    """Starts it so many times, and lets the last one work. `tell` is called before each start.

    Raises:
        BenchError: it gives no verdict.
        ChildDiedError: it ended by itself.
    """
    kind, table = loaded.config.publisher
    topics, starts, memory = loaded.config.device.topics(table.prefix), [], None
    for number in range(times):
        tell()
        tether_s = min(_tether_s() for _ in range(TETHERS))
        with closing(open_ear((kind, table), topics, folder / "agent.out")) as ear:
            agent = Agent(loaded, folder)
            started.append(agent)
            try:
                first = _verdicts(agent, ear, 1)[0]
                starts.append(_start(agent, first, tether_s))
                if number == times - 1:
                    memory = _memory(agent, ear)
            finally:
                agent.stop()
                started.remove(agent)
    if memory is None:
        raise AssertionError("there is no start")
    return starts, memory


def _start(agent: Agent, first: dict[str, Any], tether_s: float) -> Start:
    """From what it logged, and from its first verdict: when it was sent, and how long it took from the frame."""
    python_ns, imported_ns = agent.loaded_ns()
    # What ties it to this process starts first, and is none of it.
    began_s = min(agent.began_ns / 1e9 + tether_s, python_ns / 1e9)
    sent_s = first["sent_mono_ms"] / 1e3
    ends_s = (
        python_ns / 1e9,
        imported_ns / 1e9,
        agent.logged_ns("starting") / 1e9,
        agent.logged_ns("engine_open") / 1e9,
        sent_s - first["latency_ms"]["total"] / 1e3,
        sent_s,
    )
    parts = zip(PARTS, pairwise((began_s, *ends_s)), strict=True)
    return Start(sent_s - began_s, {name: after - before for name, (before, after) in parts})


def _memory(agent: Agent, ear: Ear) -> Memory:
    until_s = time.monotonic() + MEMORY_AFTER_S
    verdicts = len(_verdicts(agent, ear, MEMORY_AFTER_VERDICTS))
    time.sleep(max(0.0, until_s - time.monotonic()))
    return Memory(agent.memory_mb("VmRSS"), agent.memory_mb("VmHWM"), verdicts)


def _verdicts(agent: Agent, ear: Ear, least: int) -> list[dict[str, Any]]:
    until_s = time.monotonic() + _PATIENCE_S
    heard: list[dict[str, Any]] = []
    while len(heard) < least:
        agent.check()
        if time.monotonic() > until_s:
            raise BenchError(f"the agent gave no verdict within {_PATIENCE_S:.0f} s{agent.log_end()}")
        time.sleep(_LOOK_S)
        heard += [json.loads(one.payload) for one in ear.take() if one.name == "verdict"]
    return heard


def _tether_s() -> float:
    """How many seconds that takes which starts before a child of ours."""
    began_s = time.monotonic()
    subprocess.run(tied(["true"]), check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - began_s
