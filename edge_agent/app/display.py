"""A run of a simulated line for people: live on a terminal, as plain lines elsewhere, and its score sheet at the end."""

import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge_agent.app.demo.belt_view import WORD_STYLES, draw_belt
from edge_agent.app.demo.trial import View
from edge_agent.app.evidence import Key, Told
from edge_agent.app.score import Judged
from edge_agent.app.sheet import FaultScore, LatencyMs, ScoreSheet

_OUTCOMES = {
    "right": "right",
    "missed_defect": "MISSED DEFECT",
    "false_reject": "FALSE REJECT",
    "unknown": "unknown",
    "no_verdict": "NO VERDICT",
}
_REFRESH_S = 0.2
_PLAIN_S = 5.0
_FRESH_NS = 300_000_000  # a part that crossed so shortly ago may still get its verdict
_LAST = 6  # verdicts on the screen


class PlainViewer:
    """One line every few seconds, and one for everything that happens."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next_s, self._state = _PLAIN_S, ""
        self._told: set[tuple[str, int, bool]] = set()

    def say(self, words: str) -> None:
        """One line."""
        self._write(words)

    def show(self, view: View) -> None:
        """What is new, and now and then the figures."""
        for words in self._news(view):
            self._write(f"{view.elapsed_s:5.1f} s  {words}")
        if view.elapsed_s >= self._next_s and view.state != "offline":
            self._next_s = view.elapsed_s + _PLAIN_S
            self._write(f"{view.elapsed_s:5.1f} s  {figures(view)}")

    def _news(self, view: View) -> Iterator[str]:
        state = state_of(view)
        if state != self._state:
            self._state = state
            yield f"the agent is {state}"
        for camera in view.scorer.cameras.values():
            for fault in camera.truth.faults:
                is_on = fault.off_ns is None
                if (key := (fault.kind, fault.on_ns, is_on)) not in self._told:
                    self._told.add(key)
                    yield f"{'now' if is_on else 'no more'}: {fault.kind}"


class LiveViewer:
    """The belt, the last verdicts and the figures, on a terminal, until `close`."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._console, self._next_s = console, 0.0
        self._is_open = False

    def say(self, words: str) -> None:
        """One line, above the rest."""
        self._console.print(words, style="dim", markup=False, highlight=False)

    def show(self, view: View) -> None:
        """Draws what there is, a few times a second."""
        if time.monotonic() < self._next_s:
            return
        if not self._is_open:
            self._live.start()
            self._is_open = True
        self._live.update(picture(view, self._console.width, time.monotonic_ns()), refresh=True)
        self._next_s = time.monotonic() + _REFRESH_S

    def close(self) -> None:
        """Gives the terminal back. Closing twice does nothing."""
        if self._is_open:
            self._is_open = False
            self._live.stop()


def figures(view: View) -> str:
    """The numbers so far, in a line."""
    sheet = view.scorer.sheet(time.monotonic_ns() - _FRESH_NS, has_arm=view.has_arm)
    words = [f"{sheet.parts} parts", f"{sheet.right} right"]
    if sheet.parts_per_min:
        words.insert(0, f"{sheet.parts_per_min:.0f} parts/min")
    wrong = {
        "missed": sheet.missed_defects,
        "falsely rejected": sheet.false_rejects,
        "unknown": sum(sheet.unknown.values()),
        "without a verdict": sheet.no_verdict,
        "past the deadline": sheet.late.deadline_missed,
        "not counted (camera disturbed)": sum(sheet.camera_fault.values()),
    }
    words += [f"{count} {what}" for what, count in wrong.items() if count]
    return f"{', '.join(words)}; capture to {sheet.latency_ms.to} {_spread(sheet.latency_ms)}"


def state_of(view: View) -> str:
    """The agent's state, with what is wrong."""
    return f"{view.state} ({', '.join(view.reasons)})" if view.reasons else view.state


def picture(view: View, columns: int, now_ns: int) -> Group:
    """The whole screen."""
    inside = max(40, columns - 4)
    belts = [draw_belt(camera, now_ns, inside) for camera in view.scorer.cameras.values()]
    faults = {
        fault.kind for camera in view.scorer.cameras.values() for fault in camera.truth.faults if fault.off_ns is None
    }
    marks = Text(f" {', '.join(sorted(faults))} ", "bold white on red") if faults else Text("the line", "bold")
    until = f" of {view.seconds:.0f}" if view.seconds else ""
    status = Text(f"{view.elapsed_s:.0f}{until} s   the agent is ")
    status.append(state_of(view), "green" if view.state in ("ready", "running") else "bold yellow")
    return Group(
        Panel(Group(*belts), title=marks, title_align="left"), status, Text(figures(view)), _last_verdicts(view)
    )


def _last_verdicts(view: View) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("part", "verdict", "reasons", "truth", "", "at the arm" if view.has_arm else "decided"):
        table.add_column(heading, no_wrap=True)
    parts = _parts_by_verdict(view)
    for told in reversed(view.recent[-_LAST:]):
        judged = parts.get(told.key)
        acted = view.actions.get(told.key)
        age_ms = told.total_ms if not view.has_arm else acted and acted.received_ms - told.captured_ns / 1e6
        table.add_row(
            str(judged.part.number) if judged else "?",
            Text(told.word, WORD_STYLES.get(told.word, "")),
            _reasons(told),
            (", ".join(judged.part.defects) or "sound") if judged else "no part",
            Text(_OUTCOMES[judged.outcome], "" if judged.outcome == "right" else "bold magenta") if judged else "",
            f"{age_ms:.1f} ms" if age_ms is not None else "",
        )
    return table


def _parts_by_verdict(view: View) -> Mapping[Key, Judged]:
    parts: dict[Key, Judged] = {}
    for camera in view.scorer.cameras.values():
        for judged in camera.judged()[0]:
            parts |= {told.key: judged for told in judged.verdicts}
    return parts


def _reasons(told: Told) -> str:
    """`crack 0.93`, or the code."""
    words = []
    for reason in told.reasons:
        what = str(reason.get("label") or reason.get("code") or reason.get("rule"))
        score = reason.get("score")
        missing = "no " if reason.get("rule") == "presence" else ""
        words.append(f"{missing}{what}" + (f" {score:.2f}" if isinstance(score, float) and not missing else ""))
    return ", ".join(words)


def _spread(times: LatencyMs) -> str:
    if times.p50 is None or times.p99 is None:
        return "nothing yet"
    return f"p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms"


def score_table(sheet: ScoreSheet) -> Table:
    """The score sheet, in a person's words."""
    table = Table(title="score sheet", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("how many", justify="right")
    table.add_column("of which", style="dim")
    for row in _rows(sheet):
        table.add_row(*row)
    return table


def _rows(sheet: ScoreSheet) -> Iterator[tuple[str, str, str]]:
    rate = f"{sheet.parts_per_min:.0f} a minute" if sheet.parts_per_min else ""
    yield "parts", str(sheet.parts), rate
    yield "right", str(sheet.right), f"{sheet.right_share:.1%}" if sheet.parts else ""
    yield "missed defects", str(sheet.missed_defects), ""
    yield "false rejects", str(sheet.false_rejects), ""
    yield "unknown", str(sum(sheet.unknown.values())), _counted(sheet.unknown)
    yield "without a verdict", str(sheet.no_verdict), ""
    yield "with more than one", str(sheet.twice), ""
    yield "verdicts without a part", str(sheet.extra), ""
    yield "missed the deadline", str(sheet.late.deadline_missed), "sent as unknown in time"
    if sheet.latency_ms.to == "arm":
        yield "executed late", str(sheet.late.executed), ""
        yield "the arm", str(sum(sheet.arm.values())), _counted(sheet.arm)
        if sheet.dropped:
            yield "dropped by the arm", str(sum(sheet.dropped.values())), _counted(sheet.dropped)
        if sheet.not_at_arm:
            yield "never came to the arm", str(sheet.not_at_arm), ""
    for defect, score in sheet.defects.items():
        yield f"with {defect}", str(score.parts), f"{score.right} judged right"
    yield "line to capture", _spread(sheet.lag_ms), "the first frame after the crossing"
    yield f"capture to {sheet.latency_ms.to}", _spread(sheet.latency_ms), ""
    if sheet.camera_fault:
        yield "while the camera was disturbed", str(sum(sheet.camera_fault.values())), _counted(sheet.camera_fault)
    for fault in sheet.faults:
        yield f"fault: {fault.kind}", _fault_time(fault), ", ".join(fault.said) or "nothing was said"
    if sheet.unread_lines:
        yield "lines that could not be read", str(sheet.unread_lines), ""


def _fault_time(fault: FaultScore) -> str:
    if fault.noticed_ms is None:
        return "not noticed" if fault.expected else "as it should be"
    back = "" if fault.recovered_ms is None else f", well again after {fault.recovered_ms / 1000:.1f} s"
    return f"noticed after {fault.noticed_ms / 1000:.1f} s{back}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
