"""`scripts/test-service`: installs the service in a container with a real systemd and tries what it promises."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.fixtures import REPO
from tests.service import root as roots
from tests.service import wheels
from tests.service.bench import Bench, furnish
from tests.service.check_commands import check_commands
from tests.service.check_install import break_on_purpose, check_install, check_removal, check_upgrades
from tests.service.check_life import check_life
from tests.service.check_sandbox import check_sandbox
from tests.service.check_waits import Waits
from tests.service.container import Container
from tests.service.report import CheckSkippedError, OutOfTimeError, Report
from tests.service.tools import need

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent"
TOOLS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
RELEASES = {"newer": "0.90.0", "crashes": "0.91.0", "refuses": "0.92.0", "hangs": "0.93.0", "lacking": "0.94.0"}
"""Beside the tree as it is: the versions that are made of it."""


def main() -> int:
    """The exit code: 0 where nothing failed."""
    asked = _arguments()
    report = Report()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, _out_of_time)
    signal.alarm(asked.limit)
    try:
        _run(asked, report)
    except CheckSkippedError as reason:
        print(f"test-service: skipped: {reason}")
        return 0 if asked.if_possible and not any(line.outcome == "failed" for line in report.lines) else 1
    except OutOfTimeError:
        report.conclude()
        print(f"test-service: stopped after {asked.limit} s (--limit)")
        return 1
    return report.conclude()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-service", description=__doc__)
    parser.add_argument("--suite", choices=sorted(roots.MIRRORS), default="bookworm", help="which Debian or Ubuntu")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the system and the wheels are kept")
    parser.add_argument("--limit", type=int, default=480, metavar="SECONDS", help="for the whole run")
    parser.add_argument("--if-possible", action="store_true", help="exit 0 where it cannot run, and say why")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the container's files there, to look at")
    return parser.parse_args()


def _run(asked: argparse.Namespace, report: Report) -> None:
    need(TOOLS)
    with ExitStack() as stack:
        work = stack.enter_context(_work_folder(asked))
        report.section(f"What is needed: {asked.suite}, its packages, five releases of edge-agent")
        with report.check("the system, and the wheels that edge-agent needs on it"):
            root = roots.Root(asked.suite, "amd64", roots.BOOTED).make(asked.cache)
            needed = wheels.dependencies(root, "amd64", asked.cache)
        if report.lines[-1].outcome != "ok":
            raise CheckSkippedError(report.lines[-1].note)
        with report.check("releases of the working tree: as it is, newer, and four that do not work"):
            binds = _make_releases(work, needed)
        binds |= {"/mnt/model": REPO / "edge_agent/demo_model", "/mnt/pictures": REPO / "edge_agent/demo_model/golden"}
        with report.check("a container boots"):
            container = stack.enter_context(Container(roots.copy(root, work / "root"), binds))
        if report.lines[-1].outcome != "ok":
            raise CheckSkippedError(report.lines[-1].note)
        _try_all(Bench(container, report))


def _try_all(bench: Bench) -> None:
    furnish(bench)
    check_install(bench)
    if not bench.line.is_active():
        return  # all else would fail for the same reason
    _plant_hang_hook(bench)
    waits = Waits(bench)
    waits.begin()
    check_life(bench)
    waits.finish()
    check_sandbox(bench)
    check_commands(bench)
    check_upgrades(bench)
    check_removal(bench)


def _make_releases(work: Path, needed: Path) -> dict[str, Path]:
    """Of each release its tree and its wheel folder, by where the container sees them."""
    binds = {}
    for name, version in {"first": None, **RELEASES}.items():
        source = wheels.snapshot(work / "sources" / name)
        if name in {"crashes", "refuses", "hangs"}:
            break_on_purpose(source, name)
        made = wheels.release(source, work / "wheels" / name, needed, version=version)
        if name == "lacking":
            next(made.wheels.glob("pydantic_core-*")).unlink()
        binds |= {f"/mnt/{name}": made.source, f"/mnt/{name}-wheels": made.wheels}
    return binds


def _plant_hang_hook(bench: Bench) -> None:
    """Into the virtual environment, beside the packages: no code of the agent is changed."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = bench.container.run("/opt/edge-agent/current/bin/python", "-c", where).stdout.strip()
    hook = Path(__file__).with_name("hang_hook.py").read_text(encoding="utf-8")
    bench.container.write(f"{packages}/hang_hook.py", hook)
    bench.container.write(f"{packages}/hang_hook.pth", "import hang_hook\n")


@contextmanager
def _work_folder(asked: argparse.Namespace) -> Iterator[Path]:
    """Beside the cache, so that files can be shared; gone at the end."""
    asked.cache.mkdir(parents=True, exist_ok=True)
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="run-", dir=asked.cache))
    try:
        yield folder
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _out_of_time(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise OutOfTimeError


if __name__ == "__main__":
    sys.exit(main())
