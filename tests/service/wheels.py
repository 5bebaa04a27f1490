"""Wheel folders: edge-agent's own, built from a copy of the working tree, beside all that it needs."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures import REPO
from tests.service import root as roots
from tests.service.report import CheckSkippedError

SOURCES = ("edge_agent", "hardware_profiles", "scripts", "systemd", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
DOWNLOAD_MOST_S = 900
BUILD_MOST_S = 120


@dataclass(frozen=True, slots=True)
class Release:
    """One version of edge-agent, as an integrator would carry it to a device."""

    source: Path
    wheels: Path


def snapshot(folder: Path) -> Path:
    """A copy of what is needed of the working tree, which others may be changing."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        source = REPO / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def release(source: Path, folder: Path, dependencies: Path, *, version: str | None = None) -> Release:
    """Builds the wheel of a copy of the tree into a folder with all dependencies, under another version if one is given."""
    if version:
        for file, key in (("pyproject.toml", "version"), ("edge_agent/__init__.py", "__version__")):
            text = (source / file).read_text(encoding="utf-8")
            text = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "{version}"', text, count=1)
            (source / file).write_text(text, encoding="utf-8")
    folder.mkdir(parents=True)
    for wheel in dependencies.glob("*.whl"):
        os.link(wheel, folder / wheel.name) if _same_disk(wheel, folder) else shutil.copy2(wheel, folder)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=BUILD_MOST_S, check=False)
    assert built.returncode == 0, f"the wheel cannot be built:\n{built.stderr[-1500:]}"
    return Release(source, folder)


def dependencies(root: Path, arch: str, cache: Path) -> Path:
    """Wheels of all that edge-agent needs on the system in `root`: what `scripts/install --download` loads there.

    Raises:
        CheckSkippedError: they are not in the cache and cannot be loaded.
    """
    python = (root / "usr/bin/python3").readlink().name
    asked = re.findall(r"(?ms)^dependencies = \[.*?^\]|^\[project\.optional-dependencies\].*?^\[", _project())
    made_of = hashlib.sha256("".join(asked).encode()).hexdigest()[:8]
    done = cache / f"wheels-{python}-{arch}-{made_of}"
    if done.is_dir():
        return done
    workshop = cache / f"{done.name}.part{os.getpid()}"
    try:
        inside = roots.copy(root, workshop)
        lend_network(inside)
        snapshot(inside / "root/source")
        _download(inside)
        (inside / "root/wheels").rename(done)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return done


def lend_network(root: Path) -> None:
    """Names and certificates of the host, so that programs in the folder can load what they need."""
    pairs = {
        Path("/etc/resolv.conf"): root / "etc/resolv.conf",
        Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")): root
        / "etc/ssl/certs/ca-certificates.crt",
    }
    for there, here in pairs.items():
        if there.exists():
            here.unlink(missing_ok=True)
            shutil.copy(there, here)


def pip_environment() -> dict[str, str]:
    """What a command in such a root is told of the host: its proxies, and an index of packages of its own."""
    passed = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    passed |= {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in os.environ}
    return passed | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"} | {
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1",
    }  # fmt: skip


def _download(inside: Path) -> None:
    """Into `/root/wheels`, without edge-agent's own."""
    command = ["chroot", str(inside), "/root/source/scripts/install", "--download", "/root/wheels"]
    done = subprocess.run(
        command, env=pip_environment(), capture_output=True, text=True, timeout=DOWNLOAD_MOST_S, check=False
    )
    if done.returncode:
        raise CheckSkippedError(f"the wheels that edge-agent needs cannot be loaded:\n{done.stderr[-1500:]}")
    for own in (inside / "root/wheels").glob("edge_agent-*.whl"):
        own.unlink()


def _project() -> str:
    return (REPO / "pyproject.toml").read_text(encoding="utf-8")


def _same_disk(file: Path, folder: Path) -> bool:
    return file.stat().st_dev == folder.stat().st_dev
