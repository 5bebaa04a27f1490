"""The document of a benchmark for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

_STAGES = {
    "queue": "waiting for the engine",
    "preprocess": "resize, convert",
    "infer": "the engine",
    "decode": "outputs to detections",
    "decide": "tracking, rules",
    "send": "verdict to the socket",
    "whole": "frame to socket",
    "record": "afterwards: result, records",
    "track": "with a line: tracking, rules",
}


def shown(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Tables and sentences, one after the other."""
    model, frames = told["model"], told["frames"]
    yield Text(
        f"{model['path']}: {model['runtime']}, decoder {model['decoder']}; {'JPEGs' if frames['jpeg'] else 'frames'} "
        f"{frames['width']}x{frames['height']}, "
        f"about {frames['detections']} detections in each; {told['outlet']}; {told['rounds']} rounds",
    )
    yield _times(told)
    yield from _throughput(told)
    if told["cameras"]:
        yield _cameras(told["cameras"])
    if told["compare"]:
        yield from _compare(told["compare"])
    yield from _resources(told)
    yield from _budget(told["budget"])


def _times(told: Mapping[str, Any]) -> Table:
    table = Table(title="milliseconds", title_justify="left")
    table.add_column("")
    for heading in ("min", "p50", "p90", "p99", "max", "n"):
        table.add_column(heading, justify="right")
    table.add_row("engine, bare", *_spread(told["bare_ms"]), end_section=True)
    for name, words in _STAGES.items():
        table.add_row(words, *_spread(told["stages_ms"][name]), end_section=name == "track")
    table.add_row("added to its engine run: frame", *_spread(told["added_ms"]["frame"]), style="bold")
    table.add_row("added: frame with a crossing", *_spread(told["added_ms"]["line"]), style="bold")
    return table


def _throughput(told: Mapping[str, Any]) -> Iterator[Text]:
    through = told["throughput"]
    yield Text(
        f"Sustained: {_range(through['fps'], 1)} frames per second, the bare engine {_range(through['bare_fps'], 1)}; "
        f"{_range(through['share'], 3)} of it, round by round."
    )
    cpu = told["cpu_ms"]
    yield Text(
        f"Processor time of a frame, of all threads: {_range(cpu['frame'], 2)} ms, of a bare run {_range(cpu['bare'], 2)}; "
        f"{_range(cpu['added'], 2)} added."
    )


def _cameras(told: Mapping[str, Any]) -> Table:
    title = f"{told['count']} cameras: {_range(told['fps'], 1)} frames per second, {_range(told['of_one_camera'], 3)} of one"
    table = Table(title=title, title_justify="left")
    for heading in ("camera", "share", "frame to socket ms p50", "p99", "frames dropped"):
        table.add_column(heading, justify="left" if heading == "camera" else "right")
    for name, one in told["each"].items():
        latency = one["latency_ms"] or {}
        share = "-" if one["share"] is None else f"{one['share']:.3f}"
        table.add_row(name, share, _number(latency.get("p50")), _number(latency.get("p99")), str(one["dropped"]))
    return table


def _compare(told: Mapping[str, Any]) -> Iterator[Text]:
    added = told["added_ms"]["frame"] or {}
    yield Text(
        f"Compared with {told['model']['path']}, {told['model']['runtime']}: bare {_number(told['bare_ms']['p50'])} ms, "
        f"{_range(told['bare_speed'], 3)} times as fast; added {_number(added.get('p50'))} ms (p99 {_number(added.get('p99'))}); "
        f"{_range(told['throughput']['fps'], 1)} frames per second, {_range(told['throughput_ratio'], 3)} times as many."
    )


def _resources(told: Mapping[str, Any]) -> Iterator[Text]:
    memory, allocations, start = told["memory_mb"], told["allocations"], told["start_s"]
    yield Text(
        f"Memory of the agent as a process of its own: {memory['rss_mb']:.1f} MB, at the most {memory['peak_mb']:.1f} MB. "
        f"Start to first verdict: {_range(start['first_verdict'], 2)} s ("
        + ", ".join(f"{name} {part['median']:.2f}" for name, part in start["parts"].items())
        + ")."
    )
    yield Text(
        f"Memory a frame takes, KiB: by Python and numpy at once {_stretches(allocations['most_at_once_kib'])}; fresh pages "
        f"{_stretches(allocations['fresh_pages_kib'])}, above 64 of them in {allocations['frames_above_64_kib']} of "
        f"{allocations['frames']} frames."
    )
    machine = told["machine"]
    if machine["load_before"] > machine["cores"] / 2:
        yield Text(
            f"The machine was busy before it began: load {machine['load_before']:g} on {machine['cores']} cores.",
            "yellow",
        )
    if told["failures"]:
        yield Text(f"{told['failures']} frames could not be judged.", "bold red")
    if told["unsent"]:
        yield Text(
            f"{told['unsent']} verdicts did not reach the broker: it does not take so many in so short a time.",
            "bold red",
        )


def _budget(told: Mapping[str, Any]) -> Iterator[Text]:
    if told["kept"] is None:
        yield Text("The hardware profile sets no budget.")
        return
    words = {"fps": "frames per second", "p99_ms": "ms added, p99", "rss_mb": "MB"}
    for one in told["figures"]:
        word, style = ("kept", "green") if one["kept"] else ("missed", "bold red")
        line = Text(
            f"Budget of {told['profile']}, {words[one['name']]}: {_number(one['measured'])} of {one['limit']:g} "
        )
        yield line.append(word, style)


def _stretches(told: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {kib:g}" for name, kib in told.items())


def _spread(told: Mapping[str, Any] | None) -> list[str]:
    if told is None:
        return ["-"] * 6
    return [*(_number(told[key]) for key in ("min", "p50", "p90", "p99", "max")), str(told["n"])]


def _range(told: Mapping[str, Any] | None, digits: int) -> str:
    return (
        "-" if told is None else f"{told['median']:.{digits}f} ({told['low']:.{digits}f} to {told['high']:.{digits}f})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"  # noqa: PLR2004 - ms
