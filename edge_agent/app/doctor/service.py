"""The service and what it stands on: systemd, the agent itself, clock, journal, watchdog, version."""

from collections.abc import Iterator
from pathlib import Path

import edge_agent
from edge_agent.app.doctor import systemd
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.systemd import PROGRAM
from edge_agent.app.instances import JOIN
from edge_agent.app.status import BAD, WELL, Report
from edge_agent.errors import EX_CONFIG
from edge_agent.hardware import telemetry
from edge_agent.hardware.probe import read_text

MANY_RESTARTS = 3
JOURNALD = Path("/etc/systemd/journald.conf.d/80-edge-agent.conf")
"""Drop-ins count in the order of their names: Raspberry Pi OS 13 has `40-rpi-volatile-storage.conf`."""
KEEP_JOURNAL = (
    f"sudo mkdir -p {JOURNALD.parent} && printf '[Journal]\\nStorage=persistent\\n' | sudo tee {JOURNALD} && "
    "sudo systemctl restart systemd-journald"
)


def look_at_service(context: Context) -> Iterator[Finding]:
    """What systemd says of the unit."""
    unit = context.unit
    if isinstance(unit, str):
        yield skip(unit)
        return
    status, name = unit["ExecMainStatus"], unit.name.removesuffix(".service")
    config = context.instance.config if context.instance else ""
    if unit["LoadState"] != "loaded":
        yield fail(
            f"systemd knows no {unit.name} ({unit['LoadState']})", "sudo scripts/install, in the release's folder"
        )
    elif status == str(EX_CONFIG) and unit["ActiveState"] == "failed":
        yield fail(
            "it ended with 78: configuration, model or a library is wrong, and it is not started again",
            f"edge-agent check --config {config}, mend that, then sudo systemctl start {name}",
        )
    elif unit["ActiveState"] == "failed":
        yield fail(unit.words, f"sudo journalctl -u {name} -b -p warning -n 50")
    elif unit["ActiveState"] == "inactive":
        yield fail("it is stopped", f"sudo systemctl enable --now {name}")
    elif unit["NRestarts"].isdecimal() and int(unit["NRestarts"]) > MANY_RESTARTS:
        yield warn(unit.words, f"sudo journalctl -u {name} -b -p warning -n 50")
    elif unit["UnitFileState"] not in ("enabled", "enabled-runtime", "static", "alias"):
        yield warn(f"it does not start with the device ({unit['UnitFileState']})", f"sudo systemctl enable {name}")
    else:
        yield ok(f"{unit['ActiveState']} ({unit['SubState']}), starts with the device")


def look_at_agent(context: Context) -> Iterator[Finding]:
    """Whether it runs, moves and is well; where it does not run, how it ended: as `edge-agent status` sees it."""
    report = context.status
    if report is None:
        yield skip("see configuration")
        return
    told = "; ".join((report.state, *report.told) if report.condition == "up" else report.told)
    fix = _bare(report.advice[0]) if report.advice else context.restart
    if report.condition == "untold" and report.advice[:1] == (JOIN,):
        yield skip(told)
    elif report.exit_code == WELL:
        yield ok(told)
    elif report.exit_code == BAD and not _was_stopped(report):
        yield fail(told, fix)
    else:
        yield warn(told or report.state, fix)


def _was_stopped(report: Report) -> bool:
    """Whether it does not run because nobody wants it to, or nobody has started it yet."""
    if report.condition != "down" or (report.service and not report.service.is_well):
        return False
    ended = report.facts and report.facts.get("ended")
    return report.facts is None or bool(ended and ended["why"] != "failed")


def _bare(advice: str) -> str:
    """A command without the quotes around it, where it is no more than that."""
    inner = advice.strip("`")
    return inner if "`" not in inner else advice


def look_at_watchdog(context: Context) -> Iterator[Finding]:
    """Whether systemd would notice a hang."""
    unit = context.unit
    if isinstance(unit, str):
        yield skip(unit)
    elif unit["LoadState"] != "loaded":
        yield skip("see service")
    elif unit["WatchdogUSec"] in ("", "0", "infinity"):
        name = unit.name.removesuffix(".service")
        yield warn(
            "a thread that hangs in a driver would hang for ever: the unit has no WatchdogSec=",
            f"sudo systemctl edit {name}, write [Service] and WatchdogSec=10; then {context.restart}",
        )
    elif context.live is not None and not context.live.get("watchdog"):
        yield warn("the unit has a watchdog, and the running agent was started without", context.restart)
    else:
        yield ok(f"systemd watches it: {unit['WatchdogUSec']}")


def look_at_clock(_context: Context) -> Iterator[Finding]:
    """What the kernel says of its clock."""
    yield of_clock(telemetry.clock())


def of_clock(clock: telemetry.Clock) -> Finding:
    """Whether something keeps it in step."""
    if clock.synced is None:
        return skip("the kernel does not tell")
    if not clock.synced:
        return warn("nothing keeps the clock in step: times and certificates are judged by a wrong one", CLOCK_FIX)
    return ok(f"in step, off by {clock.max_error_ms or 0:.0f} ms at most")


CLOCK_FIX = "sudo timedatectl set-ntp true"


def look_at_journal(context: Context) -> Iterator[Finding]:
    """Whether the log outlives a power cycle."""
    root = context.root.absolute()
    storage = systemd.journal_storage(root)
    has_folder = (root / "var/log/journal").is_dir()
    if context.is_copy and not any((root / folder / "systemd").is_dir() for folder in ("etc", "usr/lib")):
        yield skip("the copy has no /etc/systemd")
    elif not context.is_copy and read_text(root, "proc/1/comm") != "systemd\n":
        yield skip("the system was not started by systemd")
    elif storage in ("volatile", "none"):
        yield warn(f"Storage={storage}: the log is lost when the device starts anew", KEEP_JOURNAL)
    elif storage == "auto" and not has_folder:
        yield warn("there is no /var/log/journal: the log is lost when the device starts anew", KEEP_JOURNAL)
    else:
        yield ok(f"kept on disk (Storage={storage})")


def look_at_version(context: Context) -> Iterator[Finding]:
    """Whether the running agent is the one that is installed."""
    running = context.live.get("version") if context.live else None
    here = _installed(context) or edge_agent.__version__
    if not isinstance(running, str):
        yield skip(f"{here} is installed; no agent tells what runs")
    elif running != here:
        yield warn(f"{running} runs, and {here} is installed", context.restart)
    else:
        yield ok(f"{here} is installed and runs")


def _installed(context: Context) -> str | None:
    """The version that the service would start; None where that cannot be told."""
    found = sorted(PROGRAM.glob("lib/python3*/site-packages/edge_agent-*.dist-info")) if context.is_service else []
    return found[-1].name.removesuffix(".dist-info").partition("-")[2] if found else None


CHECKS = (
    Check("service", "service", "a unit that is missing, failed, stopped, or starts over and over", look_at_service),
    Check("agent", "service", "an agent that is down, hangs, or is not well, and why", look_at_agent),
    Check("watchdog", "service", "a service that nobody restarts when it hangs", look_at_watchdog),
    Check("clock", "service", "a clock that nothing keeps in step", look_at_clock),
    Check("journal", "service", "a log that is lost at a power cycle", look_at_journal, "copy"),
    Check("version", "service", "another version running than is installed", look_at_version),
)
