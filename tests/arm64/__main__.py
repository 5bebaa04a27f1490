"""`scripts/test-arm64`: installs edge-agent on a Debian for arm64, runs the core of the tests there, and compares."""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.arm64 import same
from tests.arm64.chroot import PROCESSORS, VENV, Chroot, emulator_is_missing, is_emulated
from tests.fixtures import REPO, SHARED
from tests.service import root as roots
from tests.service import wheels
from tests.service.report import CheckSkippedError, Report
from tests.service.tools import need

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent"
ROOT = roots.Root("bookworm", "arm64", roots.ON_EVERY_BOARD)
TREE = "/root/edge-agent"
FOR_TESTS = ("onnxruntime", "pytest", "pytest-timeout", "hypothesis", "jsonschema-rs", "gpiod")
CORE = {
    "engines, decoders and the bundled model": (
        *("tests/backends/test_onnx.py", "tests/backends/test_recorded.py", "tests/backends/test_tflite.py"),
        *(
            "tests/contract/test_backends.py",
            "tests/contract/test_decoders.py",
            "tests/decoders",
            "tests/demo_model/test_golden.py",
        ),
    ),
    "configuration, messages, models, boards": ("tests/config", "tests/wire", "tests/models", "tests/hardware"),
    "rules": ("tests/rules", "tests/contract/test_rules.py"),
    "the pure core": ("tests/core",),
}
LONG = (
    "tests/core/test_health_judge.py",
    "tests/core/test_scene.py",
    "tests/models/test_labels.py",
    "tests/contract/test_backends.py::test_other_threads_run_on_during_a_run",
)
"""Thousands of pictures or files each, and what compares times: not where an emulator is twenty times slower."""
INSTALL_MOST_S = 1200
TESTS_MOST_S = 1800
DETECT_MOST_S = 600
TOOLS = {"debootstrap": "debootstrap", "unshare": "util-linux"}
EMULATOR = {"qemu-aarch64-static": "qemu-user-static", "update-binfmts": "binfmt-support"}
Job = tuple[str, tuple[str, ...], str]
JOBS: tuple[Job, ...] = (
    ("edge_agent/demo_model/bottles.tflite", (), "edge_agent/demo_model/golden"),
    ("edge_agent/demo_model/bottles.onnx", (), "edge_agent/demo_model/golden"),
    (
        "examples/models/yolox_nano_416_coco.onnx",
        ("--labels", "examples/models/yolox_nano_416_coco.txt"),
        "examples/photos",
    ),
    ("../shared/fixtures/models/yolo11n_640_int8.tflite", (), "examples/photos"),
)
"""Model, options and pictures; those that are not there are left out."""


def main() -> int:
    """The exit code: 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="scripts/test-arm64", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the system and what it needs are kept")
    parser.add_argument("--if-possible", action="store_true", help="exit 0 where it cannot run, and say why")
    parser.add_argument("--only", choices=("tests", "detect"), help="one part of it")
    asked = parser.parse_args()
    report = Report()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was begun is cleared away
    try:
        _run(asked, report)
    except CheckSkippedError as reason:
        print(f"test-arm64: skipped: {reason}")
        return 0 if asked.if_possible else 1
    return report.conclude()


def _run(asked: argparse.Namespace, report: Report) -> None:
    need(TOOLS | (EMULATOR if is_emulated() else {}))
    if emulator_is_missing():
        raise CheckSkippedError("this kernel runs no programs for arm64 (/proc/sys/fs/binfmt_misc has no qemu-aarch64)")
    with ExitStack() as stack:
        asked.cache.mkdir(parents=True, exist_ok=True)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arm64-", dir=asked.cache)))
        report.section(f"bookworm for arm64{', emulated' if is_emulated() else ''}")
        with report.check("a system with what edge-agent and its tests need, from aarch64 wheels alone"):
            ready = _furnished(asked.cache)
        if report.lines[-1].outcome != "ok":
            raise CheckSkippedError(report.lines[-1].note)
        tree = _tree(work / "tree")
        chroot = Chroot(roots.copy(ready, work / "root"), {TREE: tree})
        _check_install(report, chroot, work)
        if asked.only != "detect":
            _check_tests(report, chroot)
        if asked.only != "tests":
            # Not for the tests: large models take a minute for each picture where it is emulated.
            shared = {"/root/shared": SHARED} if SHARED.is_dir() else {}
            _check_same(report, replace(chroot, binds={**chroot.binds, **shared}))


def _furnished(cache: Path) -> Path:
    """The system with a virtual environment that has everything but edge-agent itself; kept in the cache."""
    root = ROOT.make(cache)
    asked = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    asked = "".join(re.findall(r"(?ms)^dependencies = \[.*?^\]|^pi = \[.*?^\]", asked))
    made_of = hashlib.sha256(f"{asked} {FOR_TESTS}".encode()).hexdigest()[:8]
    done = cache / f"{root.name}-with-{made_of}"
    if done.is_dir():
        return done
    begun = cache / f"{done.name}.part{os.getpid()}"
    try:
        inside = Chroot(roots.copy(root, begun))
        wheels.lend_network(begun)
        made = wheels.release(wheels.snapshot(begun / "root/source"), begun / "root/wheels", begun / "root/none")
        own = next(made.wheels.glob("edge_agent-*.whl")).name
        pip = ("-m", "pip", "install", "--quiet", "--only-binary=:all:")
        inside.run("python3", "-m", "venv", VENV, timeout_s=INSTALL_MOST_S)
        inside.python(*pip, f"/root/wheels/{own}[pi]", timeout_s=INSTALL_MOST_S)
        inside.python(*pip, *FOR_TESTS, timeout_s=INSTALL_MOST_S)
        inside.python("-m", "pip", "uninstall", "--quiet", "--yes", "edge-agent", timeout_s=INSTALL_MOST_S)
        shutil.rmtree(begun / "root/source")
        shutil.rmtree(begun / "root/wheels")
        begun.rename(done)
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return done


def _tree(folder: Path) -> Path:
    """What the tests need of the working tree."""
    wheels.snapshot(folder)
    for name in ("tests", "examples", "docs", "CHANGELOG.md"):
        source = REPO / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def _check_install(report: Report, chroot: Chroot, work: Path) -> None:
    with report.check("the wheel installs, and knows where it is") as notes:
        made = wheels.release(work / "tree", work / "wheels", work / "none")
        own = next(made.wheels.glob("edge_agent-*.whl"))
        shutil.copy(own, chroot.folder / "root")
        install = ("-m", "pip", "install", "--quiet", "--no-index", f"/root/{own.name}[pi]")
        chroot.python(*install, timeout_s=INSTALL_MOST_S)
        told = chroot.run(f"{VENV}/bin/edge-agent", "profile", "detect", "--json", timeout_s=DETECT_MOST_S).stdout
        notes.append(" ".join(told.split())[:200])
        assert '"generic-arm64"' in told, f"profile detect: {told}"


def _check_tests(report: Report, chroot: Chroot) -> None:
    left_out = [f"--deselect={path}" for path in LONG] if is_emulated() else []
    options = ["-p", "no:cacheprovider", "-q", "--timeout=900", "--no-header", "-o", "addopts=--import-mode=importlib"]
    for what, paths in CORE.items():
        with report.check(f"the tests pass there: {what}") as notes:
            script = f"cd {TREE} && exec {VENV}/bin/python -m pytest {' '.join((*options, *left_out, *paths))}"
            done = chroot.run("sh", "-c", script, timeout_s=TESTS_MOST_S, check=False)
            last = done.stdout.rstrip().splitlines()
            assert done.returncode == 0, "\n".join(last[-60:]) + done.stderr[-1000:]
            notes.append(last[-1].strip("= "))


def _check_same(report: Report, chroot: Chroot) -> None:
    rows: list[tuple[str, same.Comparison]] = []
    for processor, jobs in _jobs().items():
        there = replace(chroot, processor=processor) if is_emulated() else chroot
        for model, options, pictures in jobs:
            if not (REPO / model).exists():
                report.skip(f"{processor}: detections of {model}", "it is not here")
                continue
            with report.check(f"{processor}: detections of {model} are those of this {os.uname().machine}") as notes:
                found = _compare(there, "detect", "--json", "--threads", "1", "--model", model, *options, pictures)
                rows += [(f"{Path(model).name} {processor}", row) for row in found]
                complaints = [f"{row.picture}: {complaint}" for row in found for complaint in row.complaints]
                notes.append(f"{sum(row.here for row in found)} detections in {len(found)} pictures")
                assert not complaints, "\n".join(complaints)
    print(f"\n{same.table(rows)}")


def _jobs() -> dict[str, Sequence[Job]]:
    """By processor. Newer ones have other instructions for whole numbers: one model of these is enough there."""
    if not is_emulated():
        return {os.uname().machine: JOBS}
    first, *others = PROCESSORS
    return {first: JOBS} | dict.fromkeys(others, JOBS[:1])


def _compare(chroot: Chroot, *words: str) -> list[same.Comparison]:
    script = f'cd {TREE} && exec {VENV}/bin/edge-agent "$@"'
    there = chroot.run("sh", "-c", script, "detect", *words, timeout_s=DETECT_MOST_S).stdout
    return same.compare(_output([sys.executable, "-m", "edge_agent", *words]), there)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=DETECT_MOST_S, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
