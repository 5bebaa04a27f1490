"""Draws what `benchmarks.performance` has measured, by matplotlib: `plots.py FIGURES.json FOLDER`.

It runs in the environment of ultralytics, and imports nothing of edge-agent. The same figures give the same files.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

mpl.rcParams |= {
    "svg.hashsalt": "edge-agent",  # else each file has other ids
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",  # pages may be dark
}
COLOURS = ("#0b6e4f", "#7a7a7a", "#c8553d")
WIDTH = 8.5
ROW, MARGIN = 0.46, 1.1  # inches
RANGE = ("median", "low", "high")
ROOM = 1.05  # beyond the greatest figure
APART = 0.22  # between the names, of a row

Figures = dict[str, Any]


def cases_of(figures: Figures) -> list[str]:
    """Models and sizes, the first at the top."""
    return list(dict.fromkeys(f"{row['model']}\n{row['size']}" for row in figures["rows"]))


def dots(ax: Axes, figures: Figures, key: str, names: Sequence[str]) -> None:
    """A dot for each row, and a line from the lowest to the highest: of what stands under `key`, by their names."""
    cases = cases_of(figures)
    for index, name in enumerate(figures["names"]):
        rows = [row for row in figures["rows"] if row["name"] == name]
        at = [cases.index(f"{row['model']}\n{row['size']}") + APART * (index - 1) for row in rows]
        told = [[row[key][name] for name in names] for row in rows]
        colour = COLOURS[index]
        ax.hlines(at, [low for _, low, _ in told], [high for _, _, high in told], color=colour, alpha=0.45, lw=3)
        ax.plot([dot for dot, _, _ in told], at, "o", color=colour, ms=5)
    ax.set_yticks(range(len(cases)), cases)
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def sheet(figures: Figures, titles: Sequence[str]) -> tuple[Any, Sequence[Axes]]:
    """Charts side by side."""
    height = MARGIN + ROW * len(cases_of(figures))
    figure, axes = plt.subplots(
        1, len(titles), figsize=(WIDTH, height), sharey=True, layout="constrained", squeeze=False
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, loc="left", fontsize=9)
    handles = [Line2D([], [], marker="o", ls="", color=colour) for colour in COLOURS]
    figure.legend(handles, figures["names"], loc="outside lower center", ncols=len(COLOURS), frameon=False)
    return figure, axes[0]


def keep(figure: Any, folder: Path, name: str) -> None:
    """As SVG."""
    figure.savefig(folder / f"performance-{name}.svg", metadata={"Date": None})
    plt.close(figure)


def added(figures: Figures, folder: Path) -> None:
    """How much longer a frame takes than the engine."""
    titles = ("added until the result is known, ms\n(dot p50, line to p99)", "added until a subscriber has it, ms")
    figure, axes = sheet(figures, titles)
    for ax, key in zip(axes, ("added_ms", "to_subscriber_ms"), strict=True):
        dots(ax, figures, key, ("p50", "p50", "p99"))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    keep(figure, folder, "added")


def throughput(figures: Figures, folder: Path) -> None:
    """What is left of the bare engine's speed."""
    figure, (ax,) = sheet(
        figures, ("results per second over runs of the bare engine per second (dot: median of rounds; line: all)",)
    )
    dots(ax, figures, "share", RANGE)
    ax.axvline(1, color="black", lw=1)
    keep(figure, folder, "throughput")


def memory(figures: Figures, folder: Path) -> None:
    """Start and memory."""
    figure, axes = sheet(figures, ("start to the first result, s", "resident memory, MB"))
    for ax, key in zip(axes, ("cold_start_s", "rss_mb"), strict=True):
        dots(ax, figures, key, RANGE)
        ax.set_xlim(0, ROOM * ax.get_xlim()[1])
    keep(figure, folder, "memory")


def chart(told: Figures, folder: Path) -> None:
    """One question of `benchmarks.scale`: lines over numbers, bars over words."""
    figure, ax = plt.subplots(figsize=(WIDTH / 2 + 1, 2.6 + 0.2 * len(told["lines"])), layout="constrained")
    places = list(dict.fromkeys(x for line in told["lines"].values() for x in line))
    is_number = all(x.replace(".", "").isdigit() for x in places)
    for (name, line), marker in zip(told["lines"].items(), "osd^vx*", strict=False):
        at = [float(x) if is_number else places.index(x) for x in line]
        ax.plot(at, list(line.values()), f"{marker}-", ms=4, lw=1.2, label=name)
    if is_number:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks([float(x) for x in places], places)
    else:
        ax.set_xticks(range(len(places)), places)
    if told.get("log"):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:g}")
    else:
        ax.set_ylim(0, ROOM * ax.get_ylim()[1])
    ax.set_xlabel(told["x"])
    ax.set_title(told["y"], loc="left", fontsize=9)
    if len(told["lines"]) > 1:
        figure.legend(fontsize=8, loc="outside lower center", ncols=1, frameon=False)
    keep(figure, folder, f"scale-{told['name'].replace(' ', '-')}")


def soak(told: Figures, folder: Path) -> None:
    """Memory over frames, and the slowest frames of each tenth."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.8), layout="constrained")
    left.plot(*zip(*told["rss_mb"], strict=True), color=COLOURS[0], lw=1.2)
    left.set_title("resident memory, MB, over frames", loc="left", fontsize=9)
    for key, label, colour in (("p99_ms", "all of it", COLOURS[1]), ("added_p99_ms", "without the engine", COLOURS[0])):
        right.plot(*zip(*told[key], strict=True), "o-", color=colour, ms=4, label=label)
    right.legend(fontsize=8)
    right.set_title("99th percentile of a frame's time, ms, by tenths", loc="left", fontsize=9)
    for ax in (left, right):
        ax.set_ylim(0, ROOM * ax.get_ylim()[1])
    keep(figure, folder, "soak")


def main() -> None:
    """Draws all."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    figures = json.loads(source.read_text())
    folder.mkdir(exist_ok=True)
    for draw in (added, throughput, memory):
        draw(figures, folder)
    for told in figures.get("scale", {}).get("charts", []):
        chart(told, folder)
    if "soak" in figures:
        soak(figures["soak"], folder)


if __name__ == "__main__":
    main()
