"""The same work by the agent, by a plain loop and by ultralytics, each next to the bare engine; makes docs/performance.md.

    python -m benchmarks.performance [--quick] [--rounds N] [--seconds S] [--model NAME] [--size WxH] [--threads N]
                                     [--environment FOLDER] [--file FILE] [--write] [--from-file]

The same pictures, decoded beforehand, the same models and number of threads; results over a mosquitto on loopback to a
subscriber in a process of its own. Each looks at them twice in each round, in a fresh process: at a pace that all can
hold, and as fast as it can; then it is stopped after each second, for the bare engine to run in a process of its own. All
take turns, and who is first changes, so that a machine that slows down favours none. `edge-agent bench` then tells where our
own time goes. ultralytics gets an environment of its own, made by pip at the first time. All of it takes about an hour.

What was measured is kept in `--file` after each round; `--write` puts tables and pictures into docs, `--from-file` does
that without measuring. Figures of `benchmarks.scale` and `benchmarks.soak` (`--scale FILE`, `--soak FILE`) go there too.

Example: python -m benchmarks.performance --quick
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import rig
from benchmarks.arguments import at_least, figures, positive
from benchmarks.peers import environment, report
from benchmarks.peers.subjects import NAMES, SIZES, SUBJECTS, Bare, Course, Subject, Window, write_frames
from edge_agent.app.demo.children import own_command
from edge_agent.errors import EdgeAgentError
from tests.brokers import running_broker
from tests.fixtures import REPO

SETTLE_S = 1.0  # after the first message
LOOK_S = 1.0  # how fast the bare engine is, before all
BARE_S = 0.5  # of the bare engine after each second; less than what breaks a connection to the broker
LEAST_FRAMES = 20  # of a window at a pace, where the engine is slow
AROUND_MS = 6.0  # that the slowest needs beside the engine
PACED_AT = 0.5  # of what it can do then
BENCH_S = 30.0
BENCH_MOST_S = 300.0
QUICK = {"rounds": 2, "seconds": 2.0, "size": ["1280x720"]}
FULL = {"rounds": 5, "seconds": 4.0, "size": list(SIZES)}
PLOTS = Path(__file__).parent / "peers" / "plots.py"

Entry = dict[str, Any]


def windows(course: Course, bare: Bare, names: Sequence[str], seconds: float) -> Iterator[Entry]:
    """One of each name, paced and as fast as it can; the latter in turns with the bare engine, second by second."""
    pace = PACED_AT / (statistics.median(bare.run(LOOK_S)) + AROUND_MS) * 1e3
    for name in names:
        paced = course.measure(name, round(pace, 3), SETTLE_S, max(seconds, LEAST_FRAMES / pace))
        full, runs_ms = in_turns(course, bare, name, seconds)
        yield {
            "name": name,
            "pace": round(pace, 3),
            **_latency(paced),
            **_throughput(full, runs_ms),
            **_cost(paced, full),
        }


def in_turns(course: Course, bare: Bare, name: str, seconds: float) -> tuple[Window, list[float]]:
    """As fast as it can, and the runs of the bare engine meanwhile."""
    runs_ms: list[float] = []
    return course.measure(name, 0, SETTLE_S, seconds, lambda: runs_ms.extend(bare.run(BARE_S))), runs_ms


def _latency(window: Window) -> Entry:
    """Of frames that found nothing before them: one that waits is late by other's work, and only a camera makes it wait."""
    free = [it for before, it in itertools.pairwise(window.seen) if it.began_ms > before.done_ms]
    judged = [it for it in free if it.infer_ms is not None]
    if len(judged) < 2:  # noqa: PLR2004 - there is no spread of one
        raise rig.BenchmarkError(
            "nearly every frame had to wait for the one before: the machine has too much other work"
        )
    return {
        "frames": len(judged),
        "waited": len(window.seen) - 1 - len(free),
        "unjudged": len(free) - len(judged),
        "infer_ms": [round(it.infer_ms or 0.0, 3) for it in judged],
        "added_ms": [round(it.to_result_ms - (it.infer_ms or 0.0), 3) for it in judged],
        "added_to_subscriber_ms": [round(it.to_subscriber_ms - (it.infer_ms or 0.0), 3) for it in judged],
        "found": [it.found for it in judged if it.found is not None],
    }


def _throughput(window: Window, runs_ms: Sequence[float]) -> Entry:
    intervals = window.intervals()
    if not intervals:
        raise rig.BenchmarkError("too few results came in a window: more --seconds")
    lasted_ms = sum(interval_ms for interval_ms, _ in intervals)
    in_engine_ms = sum(it.infer_ms or 0.0 for _, it in intervals)
    return {
        "per_s": round(len(intervals) * 1e3 / lasted_ms, 3),
        "bare_per_s": round(1e3 / statistics.mean(runs_ms), 3),
        "bare_ms": round(statistics.median(runs_ms), 3),
        "engine_share": round(in_engine_ms / lasted_ms, 4),
    }


def _cost(*each: Window) -> Entry:
    return {
        "cold_start_s": [round(window.cold_start_s, 3) for window in each],
        "rss_mb": [round(window.rss_mb, 1) for window in each],
    }


def bench(subject: Subject, size: str, threads: int, folder: Path, frames: Path) -> Entry:
    """What `edge-agent bench` says; of one picture, which it moves along so that parts cross a line."""
    picture = min(frames.iterdir())
    words: list[str | Path] = ["bench", "--model", subject.path, "--source", picture, "--size", size]
    words += ["--threads", str(threads), "--seconds", str(BENCH_S), "--json"]
    if subject.labels is not None:
        words += ["--labels", subject.labels]
    command = ["env", f"XDG_STATE_HOME={folder / 'state'}", *own_command(*words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BENCH_MOST_S, check=False)
    if done.returncode:
        raise rig.BenchmarkError(f"edge-agent bench failed: {done.stderr.strip()[-500:]}")
    said: Entry = json.loads(done.stdout)
    return said


def measure(wish: argparse.Namespace, peers: Path | None, folder: Path) -> Entry:
    """All rounds, and the bench of each model and size; written to the file after each step."""
    subjects = {name: SUBJECTS[name] for name in wish.model if SUBJECTS[name].path.exists()}
    if not subjects:
        raise rig.BenchmarkError(
            f"none of these models is here: {', '.join(str(SUBJECTS[it].path) for it in wish.model)}"
        )
    measured: Entry = {
        "machine": rig.machine() | {"processor": processor()},
        "threads": wish.threads,
        "rounds": wish.rounds,
        "seconds": wish.seconds,
        "left_out": [name for name in wish.model if name not in subjects],
        "ultralytics": None if peers is None else environment.versions(peers),
        "failed": [],
        "entries": [],
        "bench": [],
    }
    frames = {
        (name, size): write_frames(folder / subject.photos.name / size, SIZES[size], subject.photos)
        for size in wish.size
        for name, subject in subjects.items()
    }
    cases = [(name, size) for size in wish.size for name in subjects]
    with rig.steps((wish.rounds + 1) * len(cases)) as begin, running_broker(folder, rig.BROKER) as broker:
        for number, (name, size) in itertools.product(range(wish.rounds), cases):
            begin(f"round {number + 1}: {name}, {size}")
            course = Course(subjects[name], frames[name, size], wish.threads, broker.port, folder / "work", peers)
            with _kept(measured, wish.file), closing(Bare(course.subject, course.frames, wish.threads)) as bare:
                for entry in windows(course, bare, turn(course, number), wish.seconds):
                    measured["entries"].append({"model": name, "size": size, "round": number, **entry})
        for name, size in cases:
            begin(f"edge-agent bench: {name}, {size}")
            with _kept(measured, wish.file):
                said = bench(subjects[name], size, wish.threads, folder, frames[name, size])
                measured["bench"].append({"model": name, "size": size, "said": said})
    return measured


def turn(course: Course, number: int) -> list[str]:
    """Who is measured, in the order of this round."""
    has_theirs = course.peers is not None and course.subject.has_ultralytics
    who = [name for name in NAMES if name != "ultralytics" or has_theirs]
    return who[number % len(who) :] + who[: number % len(who)]


def processor() -> str:
    """What the kernel calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@contextmanager
def _kept(measured: Entry, path: Path) -> Iterator[None]:
    """Writes down what there is after a step; one that fails is told of, and the others go on."""
    try:
        yield
    except (EdgeAgentError, subprocess.SubprocessError) as error:
        measured["failed"].append(str(error))
        print(f"failed: {error}", file=sys.stderr)
    measured["machine"] |= rig.load("after")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measured))


def peers_python(folder: Path) -> Path | None:
    """The Python of ultralytics; None, and a word about it, where pip could not install it."""
    try:
        return environment.require(folder)
    except rig.BenchmarkError as error:
        rig.show(f"ultralytics is left out: {error}")
        return None


def write(measured: Entry, wish: argparse.Namespace, peers: Path) -> None:
    """Tables and pictures into the documentation."""
    extra = {name: said for name in ("scale", "soak") if (said := getattr(wish, name))}
    with tempfile.TemporaryDirectory() as name:
        plotted = Path(name, "figures.json")
        plotted.write_text(json.dumps(report.figures(measured, extra)))
        subprocess.run([peers, PLOTS, plotted, REPO / "docs" / "pictures"], check=True)
    page = REPO / "docs" / "performance.md"
    page.write_text(report.fill(page.read_text(), measured, extra))


def wished() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s, at 1280x720")
    parser.add_argument("--rounds", type=at_least(1), help="(default: 5)")
    parser.add_argument("--seconds", type=positive, help="of each window (default: 4)")
    parser.add_argument("--model", action="append", choices=SUBJECTS, help="may be repeated (default: all)")
    parser.add_argument("--size", action="append", choices=SIZES, help="of the frames; may be repeated (default: all)")
    threads = max(1, (os.cpu_count() or 1) - 1)
    parser.add_argument(
        "--threads", type=at_least(1), default=threads, help=f"of all engines (default here: {threads})"
    )
    parser.add_argument("--environment", type=Path, default=environment.default_folder(), help="of ultralytics")
    kept = environment.default_folder().parent / "performance.json"
    parser.add_argument("--file", type=Path, default=kept, help=f"where the figures are kept (default: {kept})")
    parser.add_argument("--write", action="store_true", help="tables and plots into docs")
    parser.add_argument("--from-file", action="store_true", help="do not measure; write what the file holds")
    parser.add_argument("--scale", type=figures("charts"), help="figures of benchmarks.scale, for the documentation")
    parser.add_argument("--soak", type=figures("sentence"), help="figures of benchmarks.soak, for the documentation")
    wish = parser.parse_args()
    for name, default in (QUICK if wish.quick else FULL).items():
        setattr(wish, name, getattr(wish, name) or default)
    wish.model = wish.model or list(SUBJECTS)
    try:
        wish.measured = figures("entries")(wish.file) if wish.from_file else None
    except argparse.ArgumentTypeError as error:
        parser.error(f"--from-file: {error}")
    return wish


def main() -> None:
    """Measures, prints, and writes where that is wanted."""
    wish = wished()
    rig.require_mosquitto()
    peers = peers_python(wish.environment)
    measured = wish.measured
    if measured is None:
        with tempfile.TemporaryDirectory() as name:
            measured = measure(wish, peers, Path(name))
    rig.show(*report.tables(measured), report.sentence(measured))
    if wish.write or wish.from_file:
        if peers is None:
            raise rig.BenchmarkError("nothing is written: the plots need the environment of ultralytics")
        write(measured, wish, peers)


if __name__ == "__main__":
    rig.run(main)
