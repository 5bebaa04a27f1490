"""A Linux for arm64 in a folder, and commands in it; the kernel has qemu run them where the processor cannot."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.service import root as roots
from tests.service import wheels

ROOT = roots.Root("bookworm", "arm64", roots.ON_EVERY_BOARD)
VENV = "/opt/venv"
ENTER = """
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/tmp"
exec chroot "$0" "$@"
"""


@dataclass(frozen=True, slots=True)
class Chroot:
    """Commands see the folder as the whole system, with processes, devices and temporary files of their own."""

    folder: Path

    def run(
        self, *command: str, timeout_s: float, environ: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command with the host's network, and ends all that it started."""
        isolate = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        done = subprocess.run(
            [*isolate, "bash", "-c", ENTER, str(self.folder), *command],
            env=wheels.pip_environment() | dict(environ or {}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            words = (done.stderr or done.stdout)[-2500:]
            raise AssertionError(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{words}")
        return done

    def python(self, *words: str, timeout_s: float, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The same with the virtual environment's Python, one thread for each library."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return self.run(f"{VENV}/bin/python", *words, timeout_s=timeout_s, environ=threads, check=check)


def is_emulated() -> bool:
    """Whether this machine's own processor is another."""
    return os.uname().machine != "aarch64"


def emulator_is_missing() -> bool:
    """Whether the kernel does not know what to do with a program for arm64."""
    entries = Path("/proc/sys/fs/binfmt_misc")
    return is_emulated() and not any("enabled" in path.read_text() for path in entries.glob("qemu-aarch64*"))


def forget(folder: Path) -> None:
    """Deletes a root."""
    shutil.rmtree(folder, ignore_errors=True)
