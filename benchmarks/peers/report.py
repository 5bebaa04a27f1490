"""From what was measured to tables: for a terminal, for docs/performance.md, and as figures for the plots."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.peers.subjects import NAMES, SIZES, SUBJECTS
from benchmarks.rig import Spread, spread

OURS, PLAIN, ULTRALYTICS = NAMES
INPUTS = {"yolo11n_640_int8": 640, "yolo11n_416_int8_full": 416, "yolov8n_320_int8_nms": 320}
ADDED_MS = {640: (1.2, 3.0), 416: (0.8, 2.5), 320: (0.8, 2.5)}  # p50 and p99; of the 2-core x86-64 development machine
WHERE_SET_MS = {  # what the others added, p50, on the machine that the budgets were set on
    640: {PLAIN: 2.6, ULTRALYTICS: 6.0},
    416: {PLAIN: 1.5, ULTRALYTICS: 4.2},
    320: {PLAIN: 0.5, ULTRALYTICS: 3.9},
}
OVER_ULTRALYTICS = {640: 1.15, 416: 1.4, 320: 1.4}
START_S = 1.2
MEMORY_MB = {640: 180, 416: 150, 320: 150}
PICTURES = {  # of these tables, see plots.py
    "added": "added time of all three",
    "throughput": "throughput of all three over the bare engine",
    "memory": "start and memory of all three",
}
STAGES = ("queue", "preprocess", "infer", "decode", "decide", "send", "record")
STARTS = ("interpreter", "imports", "configuration", "engine", "camera", "verdict")
BEGIN, END = "<!-- {}: made by benchmarks.performance -->", "<!-- end of {} -->"

Measured = Mapping[str, Any]
Case = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Range:
    """Of one figure in several rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """With the lowest and the highest where they differ."""
        told = f"{self.median:.{digits}f}"
        return told if self.low == self.high else f"{told} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Row:
    """Of one who was measured with one model and size. Milliseconds, results per second, seconds, megabytes."""

    model: str
    size: str
    name: str
    infer_ms: float
    added_ms: Spread
    added_p50_ms: Range
    to_subscriber_ms: Spread
    per_s: Range
    share: Range  # of what the bare engine did in turns with it
    engine_share: Range  # of the time that the engine ran
    cold_start_s: Range
    rss_mb: Range
    frames: int  # that the added time is of
    waited: int  # that came while the one before was still in work, and are not in the added time
    unjudged: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def shown(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left")
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        rule = ["---"] + ["---:"] * (len(self.headings) - 1)
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.headings, rule, *self.rows))


def rows_of(measured: Measured) -> list[Row]:
    """In the order of `SUBJECTS`, of each by size of the frames, of each of those in the order of `NAMES`."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in measured["entries"]:
        grouped.setdefault((entry["model"], entry["size"], entry["name"]), []).append(entry)
    rows = [_row(*key, entries) for key, entries in grouped.items()]
    models, sizes = list(SUBJECTS), list(SIZES)
    return sorted(rows, key=lambda row: (models.index(row.model), sizes.index(row.size), NAMES.index(row.name)))


def _row(model: str, size: str, name: str, entries: Sequence[Mapping[str, Any]]) -> Row:
    def pooled(key: str) -> list[float]:
        return [value for entry in entries for value in entry[key]]

    return Row(
        model,
        size,
        name,
        statistics.median(pooled("infer_ms")),
        spread(pooled("added_ms")),
        range_of(list(map(added, entries))),
        spread(pooled("added_to_subscriber_ms")),
        range_of([entry["per_s"] for entry in entries]),
        range_of(list(map(share_of_bare, entries))),
        range_of(list(map(engine_share, entries))),
        range_of(pooled("cold_start_s")),
        range_of(pooled("rss_mb")),
        sum(entry["frames"] for entry in entries),
        sum(entry["waited"] for entry in entries),
        sum(entry["unjudged"] for entry in entries),
    )


def range_of(values: Sequence[float]) -> Range:
    """Of at least one value."""
    return Range(statistics.median(values), min(values), max(values))


def over(measured: Measured, other: str, read: Callable[[Mapping[str, Any]], float]) -> dict[Case, Range]:
    """Ours over the other's of what is read, round by round."""
    rounds: dict[tuple[str, str, int], dict[str, float]] = {}
    for entry in measured["entries"]:
        rounds.setdefault((entry["model"], entry["size"], entry["round"]), {})[entry["name"]] = read(entry)
    ratios: dict[Case, list[float]] = {}
    for (model, size, _), of in rounds.items():
        if OURS in of and other in of:
            ratios.setdefault((model, size), []).append(of[OURS] / of[other])
    return {case: range_of(each) for case, each in ratios.items()}


def added(entry: Mapping[str, Any]) -> float:
    """What a frame took beside its engine run, at the median."""
    return float(statistics.median(entry["added_ms"]))


def share_of_bare(entry: Mapping[str, Any]) -> float:
    """Results per second over runs of the bare engine per second, in turns with it."""
    return float(entry["per_s"] / entry["bare_per_s"])


def engine_share(entry: Mapping[str, Any]) -> float:
    """Of the time of the window in which its engine ran."""
    return float(entry["engine_share"])


# ---- tables


def tables(measured: Measured) -> Iterator[Table]:
    """For a terminal."""
    for grid in (*peer_grids(measured).values(), *bench_grids(measured).values()):
        yield grid.shown()


def peer_grids(measured: Measured) -> dict[str, Grid]:
    """By the name of their place in the page."""
    rows = rows_of(measured)

    def grid(title: str, tell: Callable[[Row], str]) -> Grid:
        """Of each case what is told of each of `NAMES`."""
        lines = []
        for case in _cases(rows):
            of = {row.name: row for row in rows if (row.model, row.size) == case}
            lines.append([*case, *(tell(of[name]) if name in of else "-" for name in NAMES)])
        return Grid(title, [*_CASE, *NAMES], lines)

    added = grid("added until the result is known, ms, p50 / p99", lambda row: _two(row.added_ms))
    infer = {(row.model, row.size): f"{row.infer_ms:.1f}" for row in reversed(rows)}
    share = grid("results a second over runs a second of the bare engine", lambda row: row.share.text())
    start = grid("start to the first result, s", lambda row: row.cold_start_s.text())
    memory = grid("resident memory, MB", lambda row: row.rss_mb.text(0))
    engine = grid("share of the time in which the engine runs", lambda row: row.engine_share.text())
    return {
        "added": _with(_with(added, "engine, ms", infer), "budget", _budgets(rows, ADDED_MS)),
        "ratios": _ratios(rows, measured),
        "subscriber": grid("added until a subscriber has it, ms, p50 / p99", lambda row: _two(row.to_subscriber_ms)),
        "throughput": _over(share, measured, share_of_bare),
        "engine": _over(engine, measured, engine_share),
        "start": _with(start, "budget", dict.fromkeys(_cases(rows), f"{START_S:.1f}")),
        "memory": _with(memory, "budget", _budgets(rows, MEMORY_MB)),
        "frames": grid("frames of the added time, and those that waited", lambda row: f"{row.frames}, {row.waited}"),
    }


def _cases(rows: Sequence[Row]) -> list[Case]:
    return list(dict.fromkeys((row.model, row.size) for row in rows))


def _with(grid: Grid, heading: str, cells: Mapping[Case, str]) -> Grid:
    """One more column."""
    rows = [[*row, cells.get((row[0], row[1]), "-")] for row in grid.rows]
    return Grid(grid.title, [*grid.headings, heading], rows)


def _over(grid: Grid, measured: Measured, read: Callable[[Mapping[str, Any]], float]) -> Grid:
    """With ours over ultralytics, the most that can be (the engine without anything around it), and the budget."""
    theirs: dict[Case, list[float]] = {}
    for entry in measured["entries"]:
        if entry["name"] == ULTRALYTICS:
            theirs.setdefault((entry["model"], entry["size"]), []).append(1 / read(entry))
    ratios = {case: ratio.text() for case, ratio in over(measured, ULTRALYTICS, read).items()}
    most = {case: range_of(each).text() for case, each in theirs.items()}
    budgets = {(row[0], row[1]): _budget(OVER_ULTRALYTICS, row[0]) for row in grid.rows}
    return _with(_with(_with(grid, f"{OURS} over {ULTRALYTICS}", ratios), "at most", most), "budget", budgets)


def _ratios(rows: Sequence[Row], measured: Measured) -> Grid:
    """Of what is added; each with what the budget is over what the other added where it was set."""
    grid = Grid("added time, ours over theirs", _CASE, _cases(rows))
    for other in (PLAIN, ULTRALYTICS):
        grid = _with(grid, f"over {other}", {case: it.text() for case, it in over(measured, other, added).items()})
        limits = {size: ADDED_MS[size][0] / others_ms[other] for size, others_ms in WHERE_SET_MS.items()}
        grid = _with(grid, "budget", _budgets(rows, limits))
    return grid


def _budgets(rows: Sequence[Row], budgets: Mapping[int, Any]) -> dict[Case, str]:
    return {case: _budget(budgets, case[0]) for case in _cases(rows)}


_CASE = ("model", "frames")


def _two(times: Spread) -> str:
    return f"{times.p50:.2f} / {times.p99:.2f}"


def _budget(budgets: Mapping[int, Any], model: str) -> str:
    limit = budgets.get(INPUTS.get(model, 0))
    if limit is None:
        return "-"
    if isinstance(limit, tuple):
        return " / ".join(f"{one:.1f}" for one in limit)
    return f"{limit:.2f}" if isinstance(limit, float) else f"{limit}"


def bench_grids(measured: Measured) -> dict[str, Grid]:
    """What `edge-agent bench` said."""
    said = [((one["model"], one["size"]), one["said"]) for one in measured["bench"]]
    stages = [[*case, *(_p50(of["stages_ms"].get(name)) for name in STAGES)] for case, of in said]
    starts = [[*case, *(f"{of['start_s']['parts'][name]['median']:.2f}" for name in STARTS)] for case, of in said]
    around = [
        [
            *case,
            _pair(of["added_ms"]["frame"]),
            _pair(of["added_ms"]["line"]),
            _budget(ADDED_MS, case[0]),
            Range(**{key: of["throughput"]["share"][key] for key in ("median", "low", "high")}).text(),
            f"{of['allocations']['frames_above_64_kib']} of {of['allocations']['frames']}",
            f"{of['memory_mb']['rss_mb']:.0f}",
            f"{of['start_s']['first_verdict']['median']:.2f}",
        ]
        for case, of in said
    ]
    heads = [
        *_CASE,
        "every frame a part",
        "parts cross a line",
        "budget",
        "throughput over bare",
        "> 64 KiB",
        "MB",
        "start s",
    ]
    return {
        "bench": Grid("edge-agent bench: added until the socket, ms, p50 / p99", heads, around),
        "stages": Grid("edge-agent bench: where a frame's time goes, ms, p50", [*_CASE, *STAGES], stages),
        "starts": Grid("edge-agent bench: where the start's time goes, s", [*_CASE, *STARTS], starts),
    }


def _p50(times: Mapping[str, float] | None) -> str:
    return "-" if times is None else f"{times['p50']:.2f}"


def _pair(times: Mapping[str, float] | None) -> str:
    return "-" if times is None else f"{times['p50']:.2f} / {times['p99']:.2f}"


# ---- the page and the plots


def fill(page: str, measured: Measured, extra: Measured) -> str:
    """The page with new tables and pictures between its markers. `extra`: what `benchmarks.scale` and `benchmarks.soak` said.

    What there is no figure of stays as it is.
    """
    grids = peer_grids(measured) | bench_grids(measured)
    parts = {name: grid.markdown() for name, grid in grids.items() if grid.rows}
    parts["machine"] = sentence(measured)
    for name, words in PICTURES.items() if measured["entries"] else ():
        parts[name] += f"\n\n![{words}](pictures/performance-{name}.svg)"
    if "scale" in extra:
        told = "\n".join(f"- {sentence}" for sentence in extra["scale"]["sentences"])
        parts["scale"] = "\n\n".join([told, *map(_chart, extra["scale"]["charts"])])
    if "soak" in extra:
        parts["soak"] = f"{extra['soak']['sentence']}\n\n![memory and times](pictures/performance-soak.svg)"
    for name, text in parts.items():
        page = replaced(page, name, text)
    return page


def _chart(chart: Mapping[str, Any]) -> str:
    """Its title, its figures as a table, and where its plot is."""
    lines: Mapping[str, Mapping[str, float]] = chart["lines"]
    places = list(dict.fromkeys(x for line in lines.values() for x in line))
    rows = [[x, *(f"{line[x]:.3g}" if x in line else "-" for line in lines.values())] for x in places]
    table = Grid("", [chart["x"], *lines], rows).markdown()
    title, picture = chart["title"], f"pictures/performance-scale-{chart['name'].replace(' ', '-')}.svg"
    return f"### {title[0].upper()}{title[1:]}\n\n{chart['y']}:\n\n{table}\n\n![{title}]({picture})"


def replaced(page: str, name: str, text: str) -> str:
    """The page with this text between the two markers of that name; as it was where they are not in it."""
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = page.partition(begin)
    if not found:
        return page
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def sentence(measured: Measured) -> str:
    """What it was measured on and with."""
    machine, theirs = measured["machine"], measured["ultralytics"]
    told = [
        f"{machine['cores']} cores ({machine['processor']}), Linux {machine['kernel'].partition('-')[0]}, Python {machine['python']}",
        f"engines with {measured['threads']} thread{'s' if measured['threads'] > 1 else ''}",
        f"{measured['rounds']} rounds with windows of {measured['seconds']:g} s",
        f"load {machine['load_before']} before and {machine.get('load_after', '?')} after",
    ]
    if theirs is not None:
        told.append(", ".join(f"{name} {version}" for name, version in theirs.items()))
    if measured["left_out"]:
        told.append(f"left out, for their files are not here: {', '.join(measured['left_out'])}")
    if measured["failed"]:
        told.append(f"{len(measured['failed'])} steps failed ({'; '.join(dict.fromkeys(measured['failed']))})")
    return "Measured on: " + "; ".join(told) + "."


def figures(measured: Measured, extra: Mapping[str, Any]) -> dict[str, Any]:
    """For `benchmarks/peers/plots.py`."""
    return {"names": NAMES, "rows": [asdict(row) for row in rows_of(measured)], **extra}
