"""What happens where there is more of everything: cameras on one engine, rules, detections in a frame, pixels.

    python -m benchmarks.scale [--only QUESTION] [--model PATH] [--repeat N] [--seconds S] [--json]

`cameras`: the real `edge-agent run`, a mosquitto on loopback, and a subscriber in a process of its own; every camera gives
more frames than the engine can take. `rules`, `detections` and `frames`: our own work on a frame in this process, with a
recording in place of the engine. All take turns in rounds, so that a machine that slows down favours none; what is told
are medians.

Example: python -m benchmarks.scale --only cameras --repeat 3 --seconds 10 --json > scale.json
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import rig
from benchmarks.arguments import at_least, existing_file, positive
from benchmarks.scaling import cameras, work
from benchmarks.scaling.charts import Chart, flatness, growth, table
from edge_agent.models.bundled import TFLITE
from tests.brokers import running_broker

QUESTIONS = ("cameras", *work.QUESTIONS)
ROUNDS = 8  # of the questions that need seconds, for one of those that need minutes


def answer(wish: argparse.Namespace, folder: Path) -> tuple[list[Chart], list[str], list[cameras.Window]]:
    """All charts, what they show in sentences, and the windows of the cameras."""
    asked = wish.only or QUESTIONS
    rounds = ROUNDS * wish.repeat
    many = 1 + wish.repeat * len(cameras.COUNTS) if "cameras" in asked else 0
    charts, said, windows = list[Chart](), list[str](), list[cameras.Window]()
    with rig.steps(many + rounds * len(set(asked) - {"cameras"})) as begin:
        if "cameras" in asked:
            windows = ask_cameras(wish, folder, begin)
            charts = cameras.charts(windows)
            total, busy, shares, _ = (chart.lines for chart in charts)
            said = [flatness(total["all together"], busy["the engine"], shares["the one that has least"])]
        for question in asked:
            if question != "cameras":
                charts.append(work.measure(question, folder / question, rounds, begin))
                said += growth(charts[-1])
    return charts, said, windows


def ask_cameras(wish: argparse.Namespace, folder: Path, begin: Callable[[str], None]) -> list[cameras.Window]:
    """With a broker of its own."""
    rig.require_mosquitto()
    wish.pictures = cameras.pictures(folder / "pictures", (1280, 720))
    with running_broker(folder, rig.BROKER) as broker:
        return cameras.measure(folder / "cameras", wish, broker.port, begin)


def as_document(charts: Sequence[Chart], said: Sequence[str], windows: Sequence[cameras.Window]) -> dict[str, Any]:
    """What `--json` tells, beside the machine and the wish."""
    return {
        "charts": [asdict(chart) for chart in charts],
        "sentences": list(said),
        "windows": [asdict(window) for window in windows],
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=QUESTIONS, action="append", help="this question; may be given again")
    parser.add_argument(
        "--model", type=existing_file, default=TFLITE, help="for the cameras (default: the bundled one)"
    )
    parser.add_argument("--threads", type=at_least(1), default=1, help="of the engine (default: 1)")
    parser.add_argument("--repeat", type=at_least(1), default=3, help="rounds (default: 3)")
    parser.add_argument("--seconds", type=positive, default=10, help="of each window with cameras (default: 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wish = parser.parse_args()
    asked, found = dict(vars(wish)), rig.machine()
    with tempfile.TemporaryDirectory() as name:
        charts, said, windows = answer(wish, Path(name))
    found |= rig.load("after")
    if wish.json:
        print(rig.as_json("scale", asked, {"machine": found, **as_document(charts, said, windows)}))
    else:
        rig.show(*map(table, charts), *said, rig.words(found))


if __name__ == "__main__":
    rig.run(main)
