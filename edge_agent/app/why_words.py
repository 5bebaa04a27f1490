"""The story of one verdict in a person's words, section by section."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge_agent import catalogue
from edge_agent.app.flight_lines import line_of, reason_words
from edge_agent.app.why import Story
from edge_agent.errors import UsageError

FOUND_MOST = 20  # detections that are shown; `--json` has all
AROUND_MOST = 20
STAGES = ("queue", "preprocess", "infer", "decide")
TRIGGERS = {
    "frame": "every frame is a part",
    "line": "a part crossed the line",
    "mqtt": "a message called for it",
    "gpio": "the input line called for it",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: Sequence[str]


def sections(story: Story) -> list[Section]:
    """What a person asks, in that order. Times are the device's local time."""
    result = story.result
    return [
        Section(f"{result['part_id']} of {result['device']}: {result['verdict']}", [_headline(story)]),
        Section("What came", _what_came(story)),
        Section("What was seen", _what_was_seen(story)),
        Section(f"Why {result['verdict']}", _why(story)),
        Section("Times", _times(story)),
        Section("What became of it", _fates(story)),
        Section("What else happened, 2 s before and after", _around(story)),
        Section("What judged", _judge(story)),
    ]


def _headline(story: Story) -> str:
    at = story.judged_at.astimezone()
    about = story.about
    return f"verdict {about.seq} of camera {about.camera}, session {about.session}, {clock_words(at)} {at:%Z}"


def _what_came(story: Story) -> list[str]:
    result, trigger = story.result, story.trigger
    lines = [f"trigger {trigger}: {TRIGGERS.get(trigger, '')}".rstrip(": ")] if trigger else []
    if result.get("trigger_id") is not None:
        lines.append(f"trigger id {result['trigger_id']}")
    if result.get("position") is not None:
        lines.append(f"position {result['position']:g}")
    frame, at = result["frame"], clock_words(story.captured_at.astimezone())[11:]
    if frame is None:
        return [*lines, f"no frame was judged; the part came at {at}"]
    source = f", {frame['source']}" if frame.get("source") else ""
    return [*lines, f"frame {frame['seq']}, {frame['width']} x {frame['height']}{source}, captured at {at}"]


def _what_was_seen(story: Story) -> list[str]:
    result = story.result
    if result["frame"] is None:
        return ["nobody looked"]
    found, total = result["detections"], result["detections_total"]
    of_all = ", of all parts in it" if story.trigger == "line" and total else ""
    frames = f"; {result['frames']} frames of this part were seen" if result["frames"] > 1 else ""
    lines = [f"{total or 'no'} detection{'s' * (total != 1)} in that frame{of_all}{frames}"]
    lines += [f"{one['label']:<20} {one['score']:.2f}  at {_box(one['box'])}" for one in found[:FOUND_MOST]]
    return [*lines, f"… and {total - FOUND_MOST} more"] if total > FOUND_MOST else lines


def _box(box: Sequence[float]) -> str:
    left, top, right, bottom = (round(edge) for edge in box)
    return f"x {left} to {right}, y {top} to {bottom}"


def _why(story: Story) -> list[str]:
    result, rules = story.result, {rule["name"]: rule for rule in story.rules}
    lines = [line for reason in result["reasons"] for line in _reason(reason, rules, result["verdict"])]
    objecting = {reason.get("rule") for reason in result["reasons"]}
    silent = [_silent(rule) for name, rule in rules.items() if name not in objecting]
    if result["verdict"] == "pass":
        lines = silent or ["no rule objected"]
    if late := result.get("late"):
        said = ", ".join(map(reason_words, late["reasons"]))
        lines.append(f"the engine's own answer came too late: {late['verdict']}{f' ({said})' if said else ''}")
    if story.setting is None and any(reason.get("rule") for reason in result["reasons"]):
        lines.append("the limits of that time are not recorded any more")
    return lines


def _reason(reason: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]], verdict: str) -> list[str]:
    """What one reason says, with the limit that it was held against."""
    code, rule = reason.get("code"), rules.get(reason.get("rule") or "")
    if reason.get("rule") is None:
        return _code_words(str(code))
    name = f"rule {reason['rule']}"
    if rule is None:
        return [f"{name} objects: {reason_words(reason)}"]
    words = {"defect": _defect, "presence": _presence, "count": _count}.get(rule["kind"], _any)
    return [f"{name} {'objects' if verdict == 'reject' else 'is not sure'}: {words(reason, rule)}"]


def _defect(reason: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    score, label = reason.get("score") or 0.0, reason.get("label")
    least, unsure = rule["min_score"], rule["unsure_score"]
    if reason.get("code") is None:
        return f"{label} {score:.2f} is at or above min_score {least:g}"
    if score >= least:
        return f"{label} {score:.2f} is above min_score {least:g}, but in fewer frames than min_frames {rule['min_frames']}"
    return f"{label} {score:.2f} is below min_score {least:g}, and not below unsure_score {unsure:g}"


def _presence(reason: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    score, label, unsure = reason.get("score"), reason.get("label"), rule["unsure_score"]
    if score is None:
        return f"{label} was not seen at all"
    if reason.get("code") is None:
        return f"{label} is missing: its best score {score:.2f} is below unsure_score {unsure:g}"
    return f"{label} {score:.2f} is below min_score {rule['min_score']:g}, and not below unsure_score {unsure:g}"


def _count(reason: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    most = "any number" if rule["max"] is None else rule["max"]
    limits = f"{rule['min']} to {most} of {reason.get('label')} are asked for, from min_score {rule['min_score']:g} on"
    return (
        limits if reason.get("code") is None else f"{limits}; those above unsure_score {rule['unsure_score']:g} decide"
    )


def _any(reason: Mapping[str, Any], _rule: Mapping[str, Any]) -> str:
    return reason_words(reason)


def _silent(rule: Mapping[str, Any]) -> str:
    """A rule that had nothing to object."""
    what = {
        "defect": lambda: f"nothing of {', '.join(rule['reject'])} at unsure_score {rule['unsure_score']:g} or above",
        "presence": lambda: f"{', '.join(rule['require'])} there, at min_score {rule['min_score']:g} or above",
        "count": lambda: f"the number of {rule['label']} is within its bounds",
    }
    say: Callable[[], str] = what.get(rule["kind"], lambda: "nothing to object")
    return f"rule {rule['name']}: {say()}"


def _code_words(code: str) -> list[str]:
    try:
        entry = catalogue.lookup(code)
    except UsageError:  # of a later release
        return [code]
    return [f"{code}: {entry.title}", entry.meaning, *(f"do: {advice}" for advice in entry.do)]


def _times(story: Story) -> list[str]:
    latency = story.result["latency_ms"]
    stages = [f"{name} {latency[name]:.1f}" for name in STAGES if latency.get(name) is not None]
    limit = (story.setting or {}).get("deadline_ms")
    total = f"{latency['total']:.1f} ms from capture or trigger to the decision"
    against = f", of the {limit:g} that deadline_ms allows" if limit is not None else ""
    return [*([f"{', '.join(stages)} ms"] if stages else []), f"{total}{against}"]


def _fates(story: Story) -> list[str]:
    lines = ["it was sent in time"] if story.result["sent"] else ["it was not sent, or too late"]
    lines += [line_of(fate).text.partition(": ")[2] for fate in story.fates if fate.kind != "picture"]
    if story.result["sent"] and not any(fate.kind in ("receipt", "unsent") for fate in story.fates):
        lines.append("what the broker said is not recorded")
    if story.picture is not None:
        lines.append(f"its picture: {story.picture}")
    elif any(fate.kind == "picture" for fate in story.fates):
        lines.append("its picture has been deleted since")
    return lines


def _around(story: Story) -> list[str]:
    entries = story.around[:AROUND_MOST]
    lines = [(entry.at.astimezone(), line_of(entry)) for entry in entries]
    words = [f"{clock_words(at)[11:]}  {line.level:<7}  {line.name}  {line.text}" for at, line in lines]
    more = len(story.around) - len(entries)
    return [*words, f"… and {more} more: edge-agent logs"] if more else words or ["nothing"]


def _judge(story: Story) -> list[str]:
    result, setting = story.result, story.setting or {}
    model = result["model"] or {"name": "none yet", "version": None, "sha256": ""}
    version = f" {model['version']}" if model["version"] else ""
    return [
        f"model {model['name']}{version} ({model['sha256'][:12]})",
        f"configuration {setting.get('config', '')} ({result['config_sha256'][:12]})".replace("  ", " "),
        f"profile {result['profile']}, edge-agent {result['agent_version']}",
    ]


def clock_words(at: datetime) -> str:
    """`2026-11-21 09:14:03.446`."""
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03d}"
