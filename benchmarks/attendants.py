"""What all that watches over the line costs it: flight recorder, status, metrics and health messages together.

    python -m benchmarks.attendants [--part NAME] [--repeat N] [--seconds S] [--fps N] [--bundled] [--json]

Two agents that begin the same way (`benchmarks.attended`), one with and one without them, take turns (A B B A) on the same
pictures, with a mosquitto on loopback and a subscriber in a process of its own. The status is asked for every two seconds
all the while, as `status --watch` does. The cost of a frame is the processor time of the whole process, by the kernel's
count, over the frames of the window; what the verdicts are late by is told beside it. Differences are of neighbours.

Example: python -m benchmarks.attendants --repeat 6 --seconds 30
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import rig
from benchmarks.attended import PARTS
from benchmarks.verdicts import Ear
from edge_agent.models.bundled import ONNX
from tests.brokers import running_broker

SETTLE_S = 4.0  # after the first verdict: the first text file is written 2 s after the start
LOOK_S = 2.0  # `status --watch`
ROUND = ("with", "without", "without", "with")
MOST_MS, MOST_MB = 0.2, 15.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Window:
    """What one agent did in one window of time."""

    how: str
    frames: int
    cpu_ms: float  # of each frame
    rss_mb: float
    capture_to_subscriber_ms: rig.Spread


class Agent(rig.Process):
    """`benchmarks.attended` as a process."""

    def command(self, *words: str) -> list[str | Path]:
        """Instead of one of the agent's own; the words are the parts that it has."""
        return [sys.executable, "-m", "benchmarks.attended", self.config_file, *words]

    def cpu_s(self) -> float:
        """Of the process, since its start."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * TICK_S

    def rss_mb(self) -> float:
        """What it holds now."""
        (line,) = (it for it in Path(f"/proc/{self.pid}/status").read_text().splitlines() if it.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    @property
    def pid(self) -> int:
        """Of the agent: it may be a child of what ties it to us."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else self._process.pid


def measure(how: str, folder: Path, wish: argparse.Namespace, port: int) -> Window:
    """One agent, from its start to its stop."""
    folder.mkdir()
    parts = (wish.part or tuple(PARTS)) if how == "with" else ()
    ear = Ear(port, f"{rig.ROOT}/verdict/top")
    agent = Agent("agent", rig.agent_config(port, wish.model, folder, fps=wish.fps), folder, *parts)
    try:
        agent.wait_for_log("state", state="running")
        time.sleep(SETTLE_S)
        cpu_s, frames = agent.cpu_s(), ear.count
        look(agent, folder / "records" / "status.sock" if "status" in parts else None, wish.seconds)
        cpu_s, frames = agent.cpu_s() - cpu_s, ear.count - frames
        rss_mb = agent.rss_mb()
        agent.check()
        heard = ear.end()[-frames:]
    finally:
        agent.stop()
        ear.kill()
    late_ms = [it.total_ms + it.received_ms - it.sent_ms for it in heard]
    return Window(how, frames, 1e3 * cpu_s / frames, rss_mb, rig.spread(late_ms))


def look(agent: Agent, status: Path | None, seconds: float) -> None:
    """Waits so long, and asks the agent meanwhile how it is."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        if status is not None:
            read_status(status)
        agent.check()
        time.sleep(min(LOOK_S, left_s))


def read_status(path: Path) -> dict[str, Any]:
    """What the agent says of itself."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(rig.UP_S)
        client.connect(str(path))
        said = b"".join(iter(lambda: client.recv(65_536), b""))
    document: dict[str, Any] = json.loads(said)
    return document


def measure_all(wish: argparse.Namespace, folder: Path) -> list[Window]:
    """Rounds of windows."""
    names = ROUND * wish.repeat
    windows = []
    with rig.steps(len(names)) as begin, running_broker(folder, rig.BROKER) as broker:
        for number, how in enumerate(names):
            begin(how)
            own = folder / str(number)
            windows.append(measure(how, own, wish, broker.port))
            shutil.rmtree(own)
    return windows


def summary(windows: Sequence[Window]) -> dict[str, Any]:
    """Medians of both kinds, and of the differences between neighbours."""
    pairs = [sorted(windows[at : at + 2], key=lambda window: window.how) for at in range(0, len(windows), 2)]

    def about(read: Any) -> dict[str, float]:
        told = {how: statistics.median(read(window) for window in windows if window.how == how) for how in set(ROUND)}
        more = statistics.median(read(attended) - read(bare) for attended, bare in pairs)
        return {key: round(value, 3) for key, value in {**told, "more": more}.items()}

    return {
        "frames": sum(window.frames for window in windows),
        "cpu_ms_a_frame": about(lambda window: window.cpu_ms),
        "rss_mb": about(lambda window: window.rss_mb),
        "capture_to_subscriber_p50_ms": about(lambda window: window.capture_to_subscriber_ms.p50),
        "capture_to_subscriber_p99_ms": about(lambda window: window.capture_to_subscriber_ms.p99),
    }


def table(said: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title="medians over windows; more: of the differences between neighbours", title_justify="left")
    shown.add_column("")
    for heading in ("without", "with", "more"):
        shown.add_column(heading, justify="right")
    for key, it in said.items():
        if isinstance(it, dict):
            shown.add_row(key, *(f"{it[column]:.2f}" for column in ("without", "with", "more")))
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
    parser.add_argument("--repeat", type=int, default=4, help="rounds of four windows (default: 4)")
    parser.add_argument("--seconds", type=float, default=30, help="of a window (default: 30)")
    parser.add_argument("--fps", type=float, default=20, help="parts a second (default: 20)")
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
        windows_said = [asdict(window) for window in windows]
        print(rig.as_json("attendants", asked, {"machine": found, **said, "windows": windows_said}))
    else:
        rig.show(table(said), verdict(said), rig.words(found))


if __name__ == "__main__":
    rig.run(main)
