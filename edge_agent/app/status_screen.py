"""A screen on one agent, or a line on each of several. It fits 80x24, and says nothing by colour alone."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edge_agent.app.status import DOUBTFUL, Report, age_s, ago
from edge_agent.runtime.status_words import link_words, model_words

PLAIN_TERMINALS = ("", "dumb", "unknown", "vt100", "vt102", "vt220", "ansi")
"""What a serial console calls itself: it may not know more than ASCII."""

_PLAIN_SIGNS = str.maketrans("─…", "-~")
WIDTH, HEIGHT = 80, 24
_BADGES = {"running": "black on green", "ready": "black on green", "degraded": "black on yellow"}
_BADGES |= {"starting": "black on cyan", "error": "bold white on red", "unknown": "black on yellow"}
_DOWN = "bold white on red"
_WORDS = {"pass": "green", "reject": "bold red", "unknown": "bold yellow"}
_MOST_VERDICTS, _MOST_TOLD, _MOST_STEPS = 6, 3, 3
_LABEL_WIDTH = 8
Facts = Mapping[str, Any]


class Ascii:
    """The same in ASCII."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich asks for it."""
        for segment in console.render(self._picture, options):
            text = segment.text.translate(_PLAIN_SIGNS).encode("ascii", "replace").decode()
            yield Segment(text, segment.style, segment.control)


def knows_ascii_only(console: Console, terminal: str) -> bool:
    """Whether lines and dots have to be ASCII; `terminal` is what it calls itself, `TERM`."""
    return terminal in PLAIN_TERMINALS or console.options.ascii_only


def screen(report: Report, height: int = HEIGHT) -> Group:
    """One agent, at most so many lines high."""
    facts = report.facts
    parts: list[RenderableType] = [_head(report), Rule(style="dim")]
    parts += _told(report)
    if facts and report.condition in ("up", "hangs"):
        parts += [_figures(facts), Text()]
        parts += [_cameras(facts, height - _lines(parts))]
        parts += _verdicts(facts, height - _lines(parts))
    elif facts:
        parts += [Text("When it was last seen:", "dim"), _figures(facts)]
        parts += _verdicts(facts, height - _lines(parts))
    return Group(*parts)


def table(reports: list[Report]) -> Table:
    """A line for each agent."""
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("agent", "state", "parts", "rate", "cameras", "broker", "what"):
        rows.add_column(heading, no_wrap=heading != "what", overflow="ellipsis")
    for report in reports:
        rows.add_row(*_texts(*_row(report)))
    return rows


def line(report: Report) -> str:
    """All in a line, for a log or a pipe."""
    facts = report.facts if report.condition == "up" else None
    words = [f"{report.instance.name}: {report.state}"]
    if facts:
        words += [f"{facts['parts']['closed']} parts{_rate(facts)}", f"broker {link_words(facts['links'])}"]
    return "; ".join(words + list(report.told[:1]))


def _row(report: Report) -> tuple[str | Text, ...]:
    facts, badge = report.facts, _badge(report)
    what = report.told[0] if report.told else ""
    if not facts or report.condition != "up":
        return (report.instance.name, badge, "", "", "", "", what)
    cameras = facts["health"]["cameras"]
    is_open = sum(camera["condition"] == "open" and not camera["faults"] for camera in cameras.values())
    return (
        report.instance.name,
        badge,
        str(facts["parts"]["closed"]),
        _rate(facts).lstrip(", "),
        f"{is_open} of {len(cameras)}",
        link_words(facts["links"]),
        what or model_words(facts),
    )


def _badge(report: Report) -> Text:
    word = {"hangs": "hangs", "down": "down"}.get(report.condition, report.state)
    return Text(f" {word.upper()} ", _BADGES.get(word, _DOWN))


def _head(report: Report) -> Table:
    """Who, how, and since when."""
    facts, head = report.facts, Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    left = Text.assemble((report.instance.name, "bold"), "  ", _badge(report))
    right = ""
    if facts:
        left.append(f"  {facts['device']} in {facts['place']}", "dim")
    if facts and report.condition == "up":
        right = f"{facts['version']}   up {ago(facts['health']['uptime_s'])}"
    elif facts:
        right = f"seen {ago(age_s(facts))} ago"
    head.add_row(left, Text(right, "dim"))
    return head


def _told(report: Report) -> list[RenderableType]:
    """What is wrong, and what to do."""
    style = "bold yellow" if report.exit_code == DOUBTFUL else "bold red"
    told = [_marked("!", style, sentence) for sentence in report.told[:_MOST_TOLD]]
    if len(report.told) > _MOST_TOLD:
        told.append(_marked("!", style, f"and {len(report.told) - _MOST_TOLD} more: --json has them all"))
    steps = [_marked(">", "cyan", step.replace("`", "")) for step in report.advice[:_MOST_STEPS]]
    return [*told, *steps, Text()] if told else []


def _marked(sign: str, style: str, words: str) -> Table:
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=1, style=style)
    row.add_column(overflow="fold")
    row.add_row(sign, Text(words))
    return row


def _figures(facts: Facts) -> Table:
    """What it is, and its numbers: a line each."""
    rows = Table.grid(padding=(0, 1, 0, 0), expand=True)
    rows.add_column(min_width=_LABEL_WIDTH, style="dim", no_wrap=True)
    rows.add_column()  # the one that gives way where there is no room: so its cells are cut, and not the column
    for label, words in _lines_of_figures(facts):
        words.no_wrap, words.overflow = True, "ellipsis"
        rows.add_row(label, words)
    return rows


def _lines_of_figures(facts: Facts) -> Iterator[tuple[str, Text]]:
    health = facts["health"]
    yield "board", Text(f"{facts['board']}, profile {facts['profile']}")
    yield "model", Text(facts["workshop"] or model_words(facts) or "not open yet")
    yield "parts", _parts(facts)
    yield "time", _times(facts)
    yield "broker", _broker(facts)
    yield "health", _board(health)
    yield "memory", _memory(health)
    if lost := _losses(facts):
        yield "lost", Text(lost, "bold yellow")


def _parts(facts: Facts) -> Text:
    verdicts, closed = facts["health"]["verdicts"], facts["parts"]["closed"]
    words = Text(f"{closed}{_rate(facts)}")
    for word, style in _WORDS.items():
        if count := verdicts.get(word, 0):
            words.append(f"   {word} ")
            words.append(f"{count}", style)
            words.append(f" ({count / max(closed, 1):.1%})", "dim")
    return words


def _rate(facts: Facts) -> str:
    per_s = facts["parts"]["per_s"]
    if per_s is None:
        return ""
    return f", {per_s:.1f}/s" if per_s >= 1 else f", {per_s * 60:.1f}/min"


def _times(facts: Facts) -> Text:
    total = facts["health"]["latency_ms"].get("total")
    if total is None:
        return Text("no frame was judged yet", "dim")
    limit = facts["deadline_ms"]
    words = Text(f"p50 {total['p50']:.1f}   p99 {total['p99']:.1f}   worst ")
    words.append(f"{total['max']:.1f}", "bold yellow" if total["max"] > limit else "")
    words.append(f" of {limit:.0f} ms")
    if infer := facts["health"]["latency_ms"].get("infer"):
        words.append(f"   engine {infer['p50']:.1f} ms", "dim")
    return words


def _broker(facts: Facts) -> Text:
    is_up = all(facts["links"].values())
    words = Text(f"{facts['outlet']}  ")
    words.append(link_words(facts["links"]), "green" if is_up else "bold red")
    records = facts["health"]["records"]
    return words.append(f"   {facts['queues']['records']} waiting, {records.get('delivered', 0)} delivered")


def _board(health: Facts) -> Text:
    """Temperature, throttling, clock: what is known of them."""
    held_back = [flag for flag in health["throttled"] or () if not flag.endswith("_since_boot")]
    words = Text("   ").join(
        Text(said, style)
        for said, style in (
            ("" if health["temperature_c"] is None else f"{health['temperature_c']:.0f} C", ""),
            ("not throttled" if health["throttled"] is not None and not held_back else "", ""),
            (f"throttled: {', '.join(held_back)}" if held_back else "", "bold yellow"),
            (f"left off: {', '.join(health['shedding'])}" if health["shedding"] else "", "bold yellow"),
            ({True: "clock in step", False: "clock not in step", None: ""}[health["clock"]["synced"]], ""),
        )
        if said
    )
    return words or Text("unknown", "dim")


def _memory(health: Facts) -> Text:
    said = [
        None if health["rss_mb"] is None else f"{health['rss_mb']:.0f} MB used",
        None if health["memory_available_mb"] is None else f"{health['memory_available_mb'] / 1024:.1f} GB free",
        None if health["disk_free_mb"] is None else f"disk {health['disk_free_mb'] / 1024:.1f} GB free",
    ]
    return Text("   ".join(filter(None, said)))


def _losses(facts: Facts) -> str:
    """Verdicts, records and frames that were lost, where there are any."""
    health = facts["health"]
    said = [
        f"{count} verdict{'s' if count != 1 else ''} ({reason})" for reason, count in health["unsent"].items() if count
    ]
    said += [f"{health['records'][key]} {key.replace('_', ' ')}" for key in _LOST if health["records"].get(key)]
    if health["frames_failed"]:
        said.append(f"{health['frames_failed']} frames failed")
    return ", ".join(said)


_LOST = ("dropped_results", "dropped_events", "set_aside", "refused")


def _cameras(facts: Facts, room: int) -> Table:
    """A line each, as far as there is room for them."""
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    rows.add_column("camera", min_width=_LABEL_WIDTH, no_wrap=True, overflow="ellipsis")
    for heading in ("state", "frames/s", "age", "judged", "dropped", "lost"):
        rows.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    rows.add_column("seen wrong", no_wrap=True, overflow="ellipsis")
    cameras = list(facts["health"]["cameras"].items())
    most = len(cameras) if len(cameras) < room else max(1, room - 2)  # the heading, and how many are left out
    for name, camera in cameras[:most]:
        rows.add_row(*_texts(name, *_camera(camera)))
    if len(cameras) > most:
        rows.add_row(f"+ {len(cameras) - most}")
    return rows


def _camera(camera: Facts) -> tuple[str | Text, ...]:
    is_well = camera["condition"] in ("open", "finished")
    return (
        Text(camera["condition"], "green" if is_well else "bold red"),
        "" if camera["fps"] is None else f"{camera['fps']:.1f}",
        "" if camera["age_ms"] is None else _age(camera["age_ms"] / 1000),
        str(camera["taken"]),
        str(camera["dropped"]),
        f"{camera['losses']}x" if camera["losses"] else "",
        Text(", ".join(camera["faults"]), "bold yellow"),
    )


def _age(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else ago(seconds)


def _verdicts(facts: Facts, room: int) -> list[RenderableType]:
    """The last ones, the newest first, as far as there is room for them."""
    last = list(reversed(facts["recent"]))[: max(0, min(room - 2, _MOST_VERDICTS))]
    if not last:
        return []
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("seq", "verdict", "took", "at", "reasons"):
        rows.add_column(heading, no_wrap=True, overflow="ellipsis", justify="right" if heading == "took" else "left")
    for told in last:
        word = told["verdict"]
        took, clock = f"{told['total_ms']:.1f} ms", _local(told["at"])
        rows.add_row(*_texts(f"{told['camera']} {told['seq']}", Text(word, _WORDS[word]), took, clock, _reasons(told)))
    return [Text(), rows]


def _local(at: str) -> str:
    """The time of day here, as `edge-agent logs` has it; `at` is UTC."""
    return datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")


def _reasons(told: Facts) -> str:
    """`crack 0.93, presence: no cap`, or the code."""
    words = []
    for reason in told["reasons"]:
        if "code" in reason:
            words.append(str(reason["code"]))
            continue
        score = f" {reason['score']:.2f}" if reason.get("score") is not None else f" ({reason.get('rule')})"
        words.append(f"{reason.get('label') or reason.get('rule')}{score}")
    return ", ".join(words)


def _texts(*cells: str | Text) -> Iterator[Text]:
    """As they are: Rich reads markup and emojis into plain strings, and `camera_lost:top:` is one."""
    return (cell if isinstance(cell, Text) else Text(cell) for cell in cells)


def _lines(parts: list[RenderableType]) -> int:
    """How high they are on a screen."""
    console = Console(width=WIDTH)
    return len(console.render_lines(Group(*parts), console.options, pad=False))
