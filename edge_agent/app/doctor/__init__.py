"""`edge-agent doctor`: named checks, each with what was seen and one thing to do.

The files are the groups: `configuration`, `board`, `storage`, `cameras` (with `camera_looks`), `model`, `broker` (with
`broker_talk`) and `service`. A check reads facts of the `context` and returns findings; nothing it does changes the device.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import edge_agent
from edge_agent.app.doctor import board, broker, cameras, configuration, model, service, storage
from edge_agent.app.doctor.context import Context, look_around
from edge_agent.app.doctor.findings import Check, Finding, Level, skip, warn
from edge_agent.app.instances import Instance

__all__ = ["CHECKS", "Report", "document", "examine", "look_around"]

CHECKS: tuple[Check, ...] = (
    *configuration.CHECKS,
    *board.CHECKS,
    *storage.CHECKS,
    *cameras.CHECKS,
    *model.CHECKS,
    *broker.CHECKS,
    *service.CHECKS,
)
LIMIT_S = 9.0
WORST_FIRST: tuple[Level, ...] = ("fail", "warn", "skip", "ok")


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    check: Check
    finding: Finding


def examine(
    context: Context,
    tell: Callable[[str], None] = lambda _: None,
    *,
    checks: Sequence[Check] = CHECKS,
    limit_s: float = LIMIT_S,
) -> tuple[list[Report], bool]:
    """All findings, the worst first, and whether all checks came to an end.

    Each group has a thread of its own, for brokers and drivers can keep one waiting: what has not ended by `limit_s` is
    left behind. `tell` hears the name of each check that is done.
    """
    done: queue.SimpleQueue[tuple[Check, list[Finding]]] = queue.SimpleQueue()
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check.group, []).append(check)
    _ = context.is_up, context.choice, context.is_copy or context.agent  # facts of several groups
    for group in groups.values():
        threading.Thread(target=_run, args=(context, group, done), daemon=True).start()
    found: dict[str, list[Finding]] = {}
    until_s = time.monotonic() + limit_s
    while len(found) < len(checks) and (left_s := until_s - time.monotonic()) > 0:
        try:
            check, findings = done.get(timeout=left_s)
        except queue.Empty:
            break
        found[check.name] = findings
        tell(check.name)
    late = [_late(limit_s)]
    reports = [Report(check, finding) for check in checks for finding in found.get(check.name, late)]
    return sorted(reports, key=lambda report: WORST_FIRST.index(report.finding.level)), len(found) == len(checks)


def document(reports: Sequence[Report], instance: Instance | None) -> dict[str, Any]:
    """What `--json` prints, and a bundle holds."""
    levels = Counter(report.finding.level for report in reports)
    return {
        "ok": not levels["fail"],
        "name": instance.name if instance else None,
        "config": str(instance.config) if instance and instance.config else None,
        "version": edge_agent.__version__,
        "counts": {level: levels[level] for level in ("fail", "warn", "ok", "skip")},
        "checks": [
            {
                "name": report.check.name,
                "group": report.check.group,
                "about": report.finding.about or None,
                "level": report.finding.level,
                "evidence": report.finding.evidence,
                "fix": report.finding.fix,
            }
            for report in reports
        ],
    }


def _run(context: Context, checks: Iterable[Check], done: "queue.SimpleQueue[tuple[Check, list[Finding]]]") -> None:
    for check in checks:
        done.put((check, list(_look(context, check))))


def _look(context: Context, check: Check) -> Iterator[Finding]:
    """Whatever a check meets is a finding: others still want to look."""
    if instead := _unfit(context, check):
        yield skip(instead)
        return
    try:
        yield from check.look(context)
    except Exception as error:  # noqa: BLE001 - a machine that is out of order is what this is for
        yield warn(
            f"this check does not work here: {type(error).__name__}: {error}"[:300],
            "edge-agent bundle, and send what it packs to whoever looks after edge-agent",
        )


def _unfit(context: Context, check: Check) -> str | None:
    """Why a check cannot be made here."""
    if context.is_copy and check.need != "copy":
        return "a copied tree does not tell"
    if check.need == "configuration" and context.loaded is None:
        return "see configuration"
    return None


def _late(limit_s: float) -> Finding:
    return warn(
        f"it has not come back for {limit_s:g} s: a driver, a disk or a name server does not answer",
        "sudo reboot, if that is still so when you try again",
    )
