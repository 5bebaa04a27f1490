"""What the benchmarks of the real processes share: the agent that is measured, a broker, figures, and how they are told."""

import json
import os
import platform
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import Client, MQTTMessage
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge_agent import logs
from edge_agent.app.demo import toml
from edge_agent.app.demo.broker import HOST, find_mosquitto
from edge_agent.app.demo.children import Child, Tail, own_command
from edge_agent.backends import recorded
from edge_agent.broker import Config, new_client
from edge_agent.core.datatypes import TensorSpec
from edge_agent.errors import EdgeAgentError

PHOTOS = Path(__file__).resolve().parents[1] / "examples" / "photos"
DEVICE = {"id": "cap-01", "site": "leon", "area": "bottling", "line": "3", "cell": "capper"}
ROOT = "factory/leon/bottling/3/capper/vision/cap-01"
BROKER = "set_tcp_nodelay true\nmax_queued_messages 0\nlog_dest none\n"  # what its log costs is not measured
UP_S = 30.0  # for a process on a busy machine
LOOK_S = 0.02
WIDE = 160  # columns
INTERRUPTED = 130


class BenchmarkError(EdgeAgentError):
    """It cannot be measured; the message says why."""


class Process(Child):
    """One of our own commands. What its state folder holds lies in the benchmark's folder too."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, *words: str) -> None:
        self.config_file = folder / f"{name}.toml"
        self.configure(config)
        super().__init__(name, ["env", f"XDG_STATE_HOME={folder / 'state'}", *self.command(*words)], folder)
        self._out, self._log = Tail(self.out), Tail(self.log_file)
        self.said: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []

    def command(self, *words: str) -> list[str | Path]:
        """What is run."""
        return own_command(*words, "--config", self.config_file)

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes its configuration; a running one reads it on SIGHUP."""
        self.config_file.write_text(toml.document(config))

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self._process.send_signal(number)

    def read(self) -> None:
        """Takes up what it has said and logged since the last time."""
        self.said += [json.loads(line) for line in self._out.lines()]
        self.logged += [json.loads(line) for line in self._log.lines() if line.startswith("{")]

    def resident_mb(self) -> float:
        """What of its memory is in the machine's, by the kernel's count."""
        return resident_mb(self._process.pid)

    def wait_for_log(self, event: str, **wanted: object) -> None:
        """Until it has logged that. Raises `ChildDiedError` and `BenchmarkError`."""

        def is_logged() -> bool:
            self.read()
            self.check()
            return any({"event": event, **wanted}.items() <= entry.items() for entry in self.logged)

        if not wait_until(is_logged, UP_S):
            raise BenchmarkError(f"{self.name} did not log {event} within {UP_S:.0f} s{self.log_end()}")


def agent_config(port: int, model: Path, folder: Path, *, fps: float, parts: bool = True) -> dict[str, Any]:
    """A camera that replays photos. Each frame is a part; without `parts` nothing ever crosses its line."""
    trigger: dict[str, Any] = {"kind": "frame"}
    if not parts:
        trigger = {"kind": "line", "parts": ["part"], "line": [[0.5, 0.0], [0.5, 1.0]]}
    camera = {"id": "top", "kind": "replay", "source": PHOTOS, "fps": fps, "loop": True, "trigger": trigger}
    return {
        "device": DEVICE,
        "model": {"path": model.absolute()},
        "cameras": [camera],
        "records": {"folder": folder / "records"},
        "log": {"format": "json"},
        "mqtt": {"host": HOST, "port": port},
    }


def recording(path: Path) -> Path:
    """An engine that takes no time and finds one thing in the middle of every picture: what is left is our own work."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, 0] = (0.4, 0.4, 0.6, 0.6, 0.9, 0)
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    metadata = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
    recorded.save(path, [image], [[found]], metadata)
    return path


def listening(
    port: int, topic: str, hear: Callable[[Any, Any, MQTTMessage], None], subscribed: Callable[[], Any]
) -> Client:
    """A subscriber that hears in a thread of its own, and says when it does."""

    def send_at_once(_client: Any, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(*_: Any) -> None:
        client.subscribe(topic, qos=1)

    client = new_client(Config(host=HOST, port=port), "")
    client.on_socket_open = send_at_once
    client.on_connect = ask
    client.on_subscribe = lambda *_: subscribed()
    client.on_message = hear
    client.connect(HOST, port)
    client.loop_start()
    return client


def resident_mb(pid: int) -> float:
    """What of a process's memory is in the machine's, by the kernel's count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def wait_until(claim: Callable[[], bool], patience_s: float) -> bool:
    """Whether it came true in time."""
    until_s = time.monotonic() + patience_s
    while not claim():
        if time.monotonic() > until_s:
            return False
        time.sleep(LOOK_S)
    return True


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds."""

    p50: float
    p99: float
    max: float

    def __str__(self) -> str:
        return f"{self.p50:.2f} / {self.p99:.2f} / {self.max:.2f}"


def spread(values_ms: Sequence[float]) -> Spread:
    """Of at least two values. Raises `BenchmarkError` where there are fewer."""
    if len(values_ms) < 2:  # noqa: PLR2004 - there is no spread of one
        raise BenchmarkError("too little came to be measured: let it run for longer")
    cuts = statistics.quantiles(values_ms, n=100, method="inclusive")
    return Spread(round(cuts[49], 3), round(cuts[98], 3), round(max(values_ms), 3))


def machine() -> dict[str, Any]:
    """What is measured on, and how busy that is before it begins."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        **load("before"),
    }


def load(when: str) -> dict[str, float]:
    """Processes that wanted to run, on average over the last minute: what else was on the machine."""
    return {f"load_{when}": round(os.getloadavg()[0], 2)}


def words(facts: Mapping[str, Any]) -> str:
    """Of `machine`, for people."""
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def show(*shown: Any) -> None:
    """Tables and sentences on standard output; wide where that is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    for one in shown:
        console.print(one, highlight=False)


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """What is called at the start of each step, and says so on standard error: a bar on a terminal, else a line."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        begun = 0

        def begin(words: str) -> None:
            nonlocal begun
            progress.update(task, completed=begun, description=words)
            begun += 1
            if not console.is_terminal:
                console.print(f"{begun}/{total}  {words}", highlight=False, markup=False, soft_wrap=True)

        yield begin


def require_mosquitto() -> None:
    """Raises `BenchmarkError` where it is not installed."""
    if find_mosquitto() is None:
        raise BenchmarkError(
            "mosquitto is not installed, and without it nothing can be measured: apt install mosquitto"
        )


def run(main: Callable[[], None]) -> None:
    """Runs a benchmark's `main`; what cannot be measured ends it with one sentence and exit code 1."""
    logs.configure("error")  # of what runs in this process; standard output is for the figures
    try:
        main()
    except EdgeAgentError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def as_json(name: str, wish: dict[str, Any], measured: Mapping[str, Any]) -> str:
    """The one document of `--json`."""
    return json.dumps({"benchmark": name, "wish": wish, **measured}, default=_plain)


def _plain(item: Any) -> Any:
    return str(item) if isinstance(item, Path) else asdict(item)
