"""Whether the agent is after many frames what it was after a few: its memory, and how long a verdict takes.

    python -m benchmarks.soak [--frames N] [--model PATH | --recorded] [--pictures FOLDER] [--threads N] [--out FILE] [--json]

The real `edge-agent run` with all that watches over it, a camera that gives the next frame as soon as the last one is
taken, a mosquitto on loopback, and a subscriber here. The memory is the kernel's count of what is resident. With
`--recorded` a recording takes the place of the engine: the same frames in a tenth of the time, to see what memory does.
FILE is the document of `--json` so far, written anew every ten seconds, so that a run that is cut short is not lost.

Example: python -m benchmarks.soak --frames 100000 --out soak.json
"""

import argparse
import json
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import MQTTMessage
from rich.console import Console
from rich.progress import Progress

from benchmarks import rig
from benchmarks.arguments import at_least, existing_file, existing_folder, new_file
from benchmarks.scaling.cameras import PATIENCE_MS, pictures
from benchmarks.verdicts import FULL_PER_S
from edge_agent.models.bundled import TFLITE
from tests.brokers import running_broker
from tests.fixtures import SHARED

MODEL = SHARED / "fixtures" / "models" / "yolov8n_320_int8_nms.tflite"
NO_WINDOW = "max_inflight_messages 0\n"  # a recording is so fast that 20 verdicts may be on their way
CHECK_S = 10.0
LOOKS = 10  # at the memory, from one check to the next
SILENCE_S = 60.0  # without a verdict the agent hangs
SETTLED = 0.02  # of all frames: caches fill, the outbox finds its pace
MOST_MB, MOST_SLOWER = 2.0, 1.10
TENTHS = 10


@dataclass(frozen=True, slots=True)
class Heard:
    """One verdict. Milliseconds from its frame until it was written, and of these the engine's."""

    seq: int
    total_ms: float
    infer_ms: float
    is_unknown: bool


@dataclass(slots=True)
class Soak:
    """What came of it so far."""

    wanted: int
    verdicts: list[Heard] = field(default_factory=list)
    rss_mb: list[tuple[int, float]] = field(default_factory=list)  # after so many verdicts
    began_s: float = field(default_factory=time.monotonic)

    def document(self) -> dict[str, Any]:
        """For `--json`, and for the page."""
        settled = [mb for frame, mb in self.rss_mb if frame > SETTLED * self.wanted]
        total, added = self.tenths(lambda it: it.total_ms), self.tenths(lambda it: it.total_ms - it.infer_ms)
        said = {
            "frames": len(self.verdicts),
            "is_complete": len(self.verdicts) >= self.wanted,
            "seconds": round(time.monotonic() - self.began_s, 1),
            "missing": self.verdicts[-1].seq - len(self.verdicts) if self.verdicts else 0,
            "unknown": sum(it.is_unknown for it in self.verdicts),
            "rss_mb": self.rss_mb,
            "rss_grew_mb": round(_grown(settled), 2),
            "rss_span_mb": round(max(settled, default=0) - min(settled, default=0), 2),
            "p99_ms": _numbered([it.p99 for it in total]),
            "p50_ms": _numbered([it.p50 for it in total]),
            "added_p99_ms": _numbered([it.p99 for it in added]),
            "added_p50_ms": _numbered([it.p50 for it in added]),
        }
        return {**said, "sentence": sentence(said)}

    def tenths(self, read: Callable[[Heard], float]) -> list[rig.Spread]:
        """Of each tenth of what there is."""
        values = [read(it) for it in self.verdicts]
        size = len(values) // TENTHS
        return [rig.spread(values[k * size : (k + 1) * size]) for k in range(TENTHS)] if size > 1 else []


def _grown(samples_mb: Sequence[float]) -> float:
    """From the first tenth to the last, by their medians."""
    size = max(1, len(samples_mb) // TENTHS)
    return statistics.median(samples_mb[-size:]) - statistics.median(samples_mb[:size]) if samples_mb else 0.0


def _numbered(values: Sequence[float]) -> list[tuple[int, float]]:
    return list(enumerate(values, start=1))


def sentence(said: dict[str, Any]) -> str:
    """What it shows, in one."""
    if not said["p99_ms"]:
        return "Too few frames to tell."
    slower = said["p99_ms"][-1][1] / said["p99_ms"][0][1]
    flat = "flat" if abs(said["rss_grew_mb"]) <= MOST_MB and said["rss_span_mb"] <= MOST_MB else "NOT flat"
    steady = "as fast as at the start" if slower <= MOST_SLOWER else "SLOWER than at the start"
    return (
        f"{said['frames']:,} frames in {said['seconds'] / 60:.0f} min: memory is {flat} (grew by {said['rss_grew_mb']:.2f} MB, "
        f"within {said['rss_span_mb']:.2f} MB), the last tenth is {steady} (99th percentile {slower:.2f} times that of the "
        f"first); {said['missing']} verdicts are missing, {said['unknown']} unknown."
    )


@contextmanager
def listening(port: int) -> Iterator["queue.SimpleQueue[Heard]"]:
    """To the verdicts."""
    heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()

    def hear(_client: Any, _userdata: Any, message: MQTTMessage) -> None:
        said = json.loads(message.payload)
        latency = said["latency_ms"]
        verdict = Heard(said["seq"], latency["total"], latency.get("infer") or 0.0, said["verdict"] == "unknown")
        heard.put(verdict)

    client = rig.listening(port, f"{rig.ROOT}/verdict/top", hear, lambda: subscribed.put(None))
    try:
        subscribed.get(timeout=rig.UP_S)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def soak(wish: argparse.Namespace, folder: Path, port: int, tell: Callable[[Soak], None]) -> Soak:
    """Until there were so many verdicts."""
    config = rig.agent_config(port, wish.model, folder, fps=0)
    config["cameras"][0]["source"] = pictures(folder / "pictures", (1280, 720), of=wish.pictures)
    config["verdict"] = {"deadline_ms": PATIENCE_MS, "valid_ms": 2 * PATIENCE_MS}
    config["hardware"] = {"threads": wish.threads}
    config["records"]["drain_per_s"] = FULL_PER_S  # a recording makes more than are sent by default
    with listening(port) as heard:
        process = rig.Process("agent", config, folder, "run")
        state = Soak(wish.frames)
        try:
            process.wait_for_log("state", state="running")
            while len(state.verdicts) < wish.frames:
                _take_up(heard, state, process)
                if wish.out:
                    write(wish.out, state.document())
                tell(state)
        except (rig.BenchmarkError, KeyboardInterrupt) as reason:  # what there is, is worth being told
            print(f"cut short: {str(reason) or 'interrupted'}", file=sys.stderr)
        finally:
            process.stop()
    return state


def _take_up(heard: "queue.SimpleQueue[Heard]", state: Soak, process: rig.Process) -> None:
    """What comes until the next check."""
    for _ in range(LOOKS):
        until_s = time.monotonic() + CHECK_S / LOOKS
        while (left_s := until_s - time.monotonic()) > 0 and len(state.verdicts) < state.wanted:
            try:
                state.verdicts.append(heard.get(timeout=left_s))
            except queue.Empty:
                break
        process.check()
        state.rss_mb.append((len(state.verdicts), round(process.resident_mb(), 2)))
        if len(state.verdicts) >= state.wanted:
            return


def write(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(document))
    beside.replace(path)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=at_least(100), default=100_000, help="how many (default: 100000)")
    parser.add_argument(
        "--model", type=existing_file, default=MODEL if MODEL.exists() else TFLITE, help="(default: %(default)s)"
    )
    parser.add_argument("--recorded", action="store_true", help="a recording in place of the engine")
    parser.add_argument(
        "--pictures", type=existing_folder, default=rig.PHOTOS, help="a folder (default: the photos of the examples)"
    )
    parser.add_argument("--threads", type=at_least(1), default=1, help="of the engine (default: 1)")
    parser.add_argument("--out", type=new_file, help="a file for what is known so far")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wish = parser.parse_args()
    rig.require_mosquitto()
    asked, found = dict(vars(wish)), rig.machine()
    with (
        tempfile.TemporaryDirectory() as name,
        running_broker(Path(name), rig.BROKER + NO_WINDOW * wish.recorded) as broker,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        if wish.recorded:
            wish.model = rig.recording(Path(name) / "one.npz")
        task = bar.add_task("frames", total=wish.frames)
        state = soak(wish, Path(name), broker.port, lambda state: bar.update(task, completed=len(state.verdicts)))
    document = {"machine": found | rig.load("after"), **state.document()}
    if wish.out:
        write(wish.out, document)
    if wish.json:
        print(rig.as_json("soak", asked, document))
    else:
        rig.show(document["sentence"], rig.words(found))


if __name__ == "__main__":
    rig.run(main)
