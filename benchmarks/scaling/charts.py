"""How answers look: lines over a number or a word, for `--json`, for people, and for the page's plots."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from rich.table import Table

FLAT = 0.9
WIDTH = 80  # columns: the title of a narrow table stays in one line


@dataclass(frozen=True, slots=True)
class Chart:
    """`lines`: name, then y for each x, which is a number or a word, in the order of the axis."""

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, dict[str, float]] = field(default_factory=dict)
    log: bool = False

    def add(self, line: str, x: object, y: float) -> None:
        """One more point."""
        self.lines.setdefault(line, {})[str(x)] = round(y, 4)


def table(chart: Chart) -> Table:
    """For people: x down, lines across."""
    shown = Table(title=f"{chart.title} ({chart.y})", title_justify="left", min_width=WIDTH)
    shown.add_column(chart.x)
    for line in chart.lines:
        shown.add_column(line, justify="right")
    for x in dict.fromkeys(x for line in chart.lines.values() for x in line):
        shown.add_row(x, *(f"{line[x]:.3g}" if x in line else "" for line in chart.lines.values()))
    return shown


def growth(chart: Chart) -> list[str]:
    """One sentence for each line: what more work costs, and whether that is more than so much more."""
    return [f"{chart.title}, {name}: {_growth(line)}" for name, line in chart.lines.items()]


def _growth(line: Mapping[str, float]) -> str:
    steps = list(pairwise((amount(x), y) for x, y in line.items()))
    told = ", ".join(f"{more / few:.3g} times the work {y / y_before:.2f}" for (few, y_before), (more, y) in steps)
    is_faster = any(y / y_before > more / few for (few, y_before), (more, y) in steps)
    return f"{told} times the time; it grows {'FASTER than' if is_faster else 'no faster than'} the work."


def amount(x: str) -> float:
    """Of a number, or of pixels in words: `1280x720`."""
    return math.prod(float(side) for side in x.split("x"))


def flatness(totals: Mapping[str, float], busy: Mapping[str, float], shares: Mapping[str, float]) -> str:
    """Whether several cameras get as much out of the engine as one, and each of them its part."""
    first, *others = totals.values()
    least, shortest = min(others, default=first) / first, min(shares.values())
    word = "flat" if least >= FLAT else "NOT flat"
    even = "none starves" if shortest >= FLAT else "SOME STARVE"
    return (
        f"Several cameras: {least:.2f} of one camera's throughput at least: {word}; the engine runs {min(busy.values()):.2f} "
        f"of the time at least; the one with least has {shortest:.2f} of an equal share: {even}."
    )
