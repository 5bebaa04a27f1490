"""What all that watches over the line costs it: flight recorder, status, metrics and health messages together.

    python -m benchmarks.attendants [--part NAME] [--repeat N] [--seconds S] [--fps N] [--bundled] [--json]

Two agents (`benchmarks.attended`), one with and one without them, run side by side, so that whatever else the machine does
takes from both alike: the same pictures, a mosquitto on loopback, a subscriber of each in a process of its own. The status
is asked for every two seconds all the while, as `status --watch` does. The cost of a frame is the processor time of the
whole process, by the kernel's count, over the frames of the window; what the verdicts are late by is told beside it.
Differences are those of each window.

Example: python -m benchmarks.attendants --repeat 10 --seconds 30
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import rig
from benchmarks.arguments import at_least, positive
from benchmarks.attended import PARTS
from benchmarks.verdicts import Ear
from edge_agent.models.bundled import ONNX
from tests.brokers import running_broker

SETTLE_S = 4.0  # after the first verdict: the first text file is written 2 s after the start
LOOK_S = 2.0  # `status --watch`
HOWS = ("without", "with")
MOST_MS, MOST_MB = 0.2, 15.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one agent did in one window of time."""

    frames: int
    cpu_ms: float  # of each frame
    rss_mb: float
    capture_to_subscriber_ms: rig.Spread


class Agent(rig.Process):
    """`benchmarks.attended`, and who hears its verdicts."""

    def __init__(self, how: str, folder: Path, wish: argparse.Namespace, port: int) -> None:
        config = rig.agent_config(port, wish.model, folder / how, fps=wish.fps)
        config["device"] = {**rig.DEVICE, "id": how}
        parts = (wish.part or tuple(PARTS)) if how == "with" else ()
        self._status = folder / how / "records" / "status.sock" if "status" in parts else None
        self._ear = Ear(port, f"{rig.ROOT.rpartition('/')[0]}/{how}/verdict/top")
        super().__init__(how, config, folder, *parts)
        self._began = (0.0, 0)

    def command(self, *words: str) -> list[str | Path]:
        """Instead of one of the agent's own; the words are the parts that it has."""
        return [sys.executable, "-m", "benchmarks.attended", self.config_file, *words]

    def begin(self) -> None:
        """From now on it is measured."""
        self._began = self._cpu_s(), self._ear.count

    def look(self) -> None:
        """Asks how it is."""
        self.check()
        if self._status is not None:
            read_status(self._status)

    def end(self) -> Cost:
        """What it did since it began."""
        cpu_s, frames = (now - then for now, then in zip((self._cpu_s(), self._ear.count), self._began, strict=True))
        rss_mb = self.resident_mb()
        heard = self._ear.end()[-int(frames) :]
        late_ms = [it.total_ms + it.received_ms - it.sent_ms for it in heard]
        return Cost(int(frames), round(1e3 * cpu_s / frames, 3), round(rss_mb, 1), rig.spread(late_ms))

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.stop()
        self._ear.kill()

    def _cpu_s(self) -> float:
        """Of the whole process, since its start."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * TICK_S


@contextlib.contextmanager
def running(hows: Sequence[str], folder: Path, wish: argparse.Namespace, port: int) -> Iterator[dict[str, Agent]]:
    """Agents whose first verdict is some seconds ago."""
    with contextlib.ExitStack() as ends:
        agents = {}
        for how in hows:
            (folder / how).mkdir(parents=True)
            agents[how] = Agent(how, folder, wish, port)
            ends.callback(agents[how].close)
        for agent in agents.values():
            agent.wait_for_log("state", state="running")
        time.sleep(SETTLE_S)
        yield agents


def measure(hows: Sequence[str], folder: Path, wish: argparse.Namespace, port: int) -> dict[str, Cost]:
    """One window."""
    with running(hows, folder, wish, port) as agents:
        for agent in agents.values():
            agent.begin()
        until_s = time.monotonic() + wish.seconds
        while (left_s := until_s - time.monotonic()) > 0:
            for agent in agents.values():
                agent.look()
            time.sleep(min(LOOK_S, left_s))
        return {how: agent.end() for how, agent in agents.items()}


def read_status(path: Path) -> dict[str, Any]:
    """What the agent says of itself."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(rig.UP_S)
        client.connect(str(path))
        said = b"".join(iter(lambda: client.recv(65_536), b""))
    document: dict[str, Any] = json.loads(said)
    return document


def measure_all(wish: argparse.Namespace, folder: Path) -> list[dict[str, Cost]]:
    """Windows; they take turns in who starts first."""
    windows = []
    with rig.steps(wish.repeat) as begin, running_broker(folder, rig.BROKER) as broker:
        for number in range(wish.repeat):
            begin("with and without")
            own = folder / str(number)
            windows.append(measure(HOWS[:: -1 if number % 2 else 1], own, wish, broker.port))
            shutil.rmtree(own)
    return windows


def summary(windows: Sequence[dict[str, Cost]]) -> dict[str, Any]:
    """Medians of both, and of the differences; with the half of the differences that lies in the middle."""

    def about(read: Callable[[Cost], float]) -> dict[str, float]:
        told = {how: statistics.median(read(window[how]) for window in windows) for how in HOWS}
        more = sorted(read(window["with"]) - read(window["without"]) for window in windows)
        told |= {"more": statistics.median(more), "from": more[len(more) // 4], "to": more[-1 - len(more) // 4]}
        return {key: round(value, 3) for key, value in told.items()}

    return {
        "frames": sum(window["with"].frames for window in windows),
        "cpu_ms_a_frame": about(lambda cost: cost.cpu_ms),
        "rss_mb": about(lambda cost: cost.rss_mb),
        "capture_to_subscriber_p50_ms": about(lambda cost: cost.capture_to_subscriber_ms.p50),
        "capture_to_subscriber_p99_ms": about(lambda cost: cost.capture_to_subscriber_ms.p99),
    }


def table(said: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title="medians over windows", title_justify="left")
    shown.add_column("")
    for heading in (*HOWS, "more", "half of all from", "to"):
        shown.add_column(heading, justify="right")
    for key, it in said.items():
        if isinstance(it, dict):
            shown.add_row(key, *(f"{it[column]:.2f}" for column in (*HOWS, "more", "from", "to")))
    return shown


def verdict(said: dict[str, Any]) -> str:
    """Whether it is within its budget."""
    more_ms, more_mb = said["cpu_ms_a_frame"]["more"], said["rss_mb"]["more"]
    word = "within" if more_ms <= MOST_MS and more_mb <= MOST_MB else "ABOVE"
    return f"{more_ms:.3f} ms a frame and {more_mb:.1f} MB: {word} the budget of {MOST_MS:g} ms and {MOST_MB:g} MB."


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given again")
    parser.add_argument("--repeat", type=at_least(1), default=8, help="windows (default: 8)")
    parser.add_argument("--seconds", type=positive, default=30, help="of a window (default: 30)")
    parser.add_argument("--fps", type=positive, default=20, help="parts a second of each agent (default: 20)")
    parser.add_argument("--bundled", action="store_true", help="judge with the bundled model, not with a recording")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wish = parser.parse_args()
    rig.require_mosquitto()
    asked, found = dict(vars(wish)), rig.machine()
    with tempfile.TemporaryDirectory() as name:
        wish.model = ONNX if wish.bundled else rig.recording(Path(name) / "one.npz")
        windows = measure_all(wish, Path(name))
    found |= rig.load("after")
    said = summary(windows)
    if wish.json:
        windows_said = [{how: asdict(cost) for how, cost in window.items()} for window in windows]
        print(rig.as_json("attendants", asked, {"machine": found, **said, "windows": windows_said}))
    else:
        rig.show(table(said), verdict(said), rig.words(found))


if __name__ == "__main__":
    rig.run(main)
