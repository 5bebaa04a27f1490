"""Commands that the containers are made with: installed where they can be."""

import os
import shutil
import subprocess
from collections.abc import Mapping

from tests.service.report import CheckSkippedError

APT_MOST_S = 300
APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")


def need(packages: Mapping[str, str]) -> None:
    """Sees to it that each command (by the Debian package that has it) is there.

    Raises:
        CheckSkippedError: one is not, and cannot be installed.
    """
    if os.geteuid() != 0:
        raise CheckSkippedError("it needs root: sudo")
    if (missing := _missing(packages)) and shutil.which("apt-get"):
        print(f"installing {', '.join(missing)} with apt-get", flush=True)
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run([*APT, *words], env=environ, capture_output=True, timeout=APT_MOST_S, check=False)
    if missing := _missing(packages):
        raise CheckSkippedError(f"please install: {', '.join(missing)}")


def _missing(packages: Mapping[str, str]) -> list[str]:
    return sorted({package for command, package in packages.items() if shutil.which(command) is None})
