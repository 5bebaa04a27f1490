"""Scores the demo's line over several seeds, and sums the score sheets up.

    .venv/bin/python scripts/score_line.py [--seeds 1-10] [--parts 300] [--speed 1] [--jobs 1] [--json]

Each seed is one run of `edge-agent demo`, in real time: 300 parts take 130 seconds at speed 1. The exit code is 0 when
every run did its job.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

COUNTS = ("parts", "right", "missed_defects", "false_rejects", "no_verdict", "twice", "extra")
LATE = ("deadline_missed", "sent", "executed")


def main() -> None:
    """Runs all seeds and prints what came of each, and of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-10", help="one, or a range")
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--json", action="store_true", help="each score sheet and the sum as one document")
    told = parser.parse_args()
    first, _, last = told.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    sheets = {}
    with Progress(console=Console(stderr=True)) as bar, ThreadPoolExecutor(told.jobs) as pool:
        task = bar.add_task(f"{told.parts} parts at speed {told.speed:g}", total=len(seeds))
        for seed, sheet in pool.map(lambda seed: (seed, score(seed, told.parts, told.speed)), seeds):
            sheets[seed] = sheet
            bar.advance(task)
    if told.json:
        print(json.dumps({"seeds": sheets, "sum": dict(summed(sheets))}))
    else:
        Console(width=140).print(table(sheets))
    sys.exit(not all(sheet["ok"] for sheet in sheets.values()))


def score(seed: int, parts: int, speed: float) -> dict[str, Any]:
    """The score sheet of one run."""
    options = ["--seed", str(seed), "--parts", str(parts), "--speed", str(speed), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo", *options], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(f"seed {seed}: the demo gave no score sheet:\n{done.stderr}")
    sheet: dict[str, Any] = json.loads(done.stdout)
    return sheet


def summed(sheets: Mapping[int, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """All runs in one; of latencies the worst."""
    for key in COUNTS:
        yield key, sum(sheet[key] for sheet in sheets.values())
    yield "unknown", dict(sum((Counter(sheet["unknown"]) for sheet in sheets.values()), Counter()))
    yield "late", {key: sum(sheet["late"][key] for sheet in sheets.values()) for key in LATE}
    yield "latency_ms", {key: max(sheet["latency_ms"][key] or 0 for sheet in sheets.values()) for key in ("p50", "p99")}


def table(sheets: Mapping[int, dict[str, Any]]) -> Table:
    """A row for each seed, and one for all."""
    shown = Table("seed", *(key.replace("_", " ") for key in (*COUNTS, "unknown", *LATE)), "p50 ms", "p99 ms")
    for name, sheet in [*((str(seed), sheet) for seed, sheet in sheets.items()), ("all", dict(summed(sheets)))]:
        latency = (f"{sheet['latency_ms'][key] or 0:.1f}" for key in ("p50", "p99"))
        counts = [str(sheet[key]) for key in COUNTS]
        late = [str(sheet["late"][key]) for key in LATE]
        shown.add_row(name, *counts, str(sum(sheet["unknown"].values())), *late, *latency)
    return shown


if __name__ == "__main__":
    main()
