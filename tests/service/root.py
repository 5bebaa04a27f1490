"""A Linux of its own in a folder, made by debootstrap, kept, and copied for each run."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.service.report import CheckSkippedError

MIRRORS = {
    "bookworm": ("http://deb.debian.org/debian", "main", "debian-archive-keyring"),
    "trixie": ("http://deb.debian.org/debian", "main", "debian-archive-keyring"),
    "jammy": ("http://archive.ubuntu.com/ubuntu", "main,universe", "ubuntu-archive-keyring"),
    "noble": ("http://archive.ubuntu.com/ubuntu", "main,universe", "ubuntu-archive-keyring"),
}
"""Of each suite: where its packages come from, in which of its parts, and the keys that sign them."""

ON_EVERY_BOARD = ("python3", "python3-venv", "ca-certificates", "procps", "iproute2")
BOOTED = (*ON_EVERY_BOARD, "systemd", "systemd-sysv", "dbus", "libpam-systemd", "mosquitto", "mosquitto-clients")
DEBOOTSTRAP_MOST_S = 600
KEYRINGS = Path("/usr/share/keyrings")


@dataclass(frozen=True, slots=True)
class Root:
    """What is in it. `arch` is Debian's word for the processor."""

    suite: str
    arch: str
    packages: tuple[str, ...]

    def make(self, cache: Path) -> Path:
        """The folder in the cache, made if it is not there yet.

        Raises:
            CheckSkippedError: it is not there and cannot be made, for want of the network, say.
        """
        made_of = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()[:8]
        done = cache / f"root-{self.suite}-{self.arch}-{made_of}"
        if not done.is_dir():
            begun = cache / f"{done.name}.part{os.getpid()}"
            try:
                self._debootstrap(begun)
                if not done.is_dir():  # somebody else may have been quicker
                    begun.rename(done)
            finally:
                shutil.rmtree(begun, ignore_errors=True)
        return done

    def _debootstrap(self, folder: Path) -> None:
        mirror, components, keyring = MIRRORS[self.suite]
        keys = KEYRINGS / f"{keyring}.gpg"
        if not keys.exists():
            raise CheckSkippedError(f"there is no {keys}: apt-get install {keyring.replace('-archive', '')}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--arch={self.arch}", f"--include={','.join(self.packages)}"]
        command += [f"--components={components}", f"--keyring={keys}", self.suite, str(folder), mirror]
        made = subprocess.run(command, capture_output=True, text=True, timeout=DEBOOTSTRAP_MOST_S, check=False)
        if made.returncode:
            last = "\n".join(made.stdout.splitlines()[-3:] + made.stderr.splitlines()[-3:])
            raise CheckSkippedError(f"debootstrap could not make {self.suite} for {self.arch}:\n{last}")
        for package in (folder / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()


def copy(root: Path, folder: Path) -> Path:
    """A copy to write in; quick where the file system shares blocks."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(folder)], check=True)
    return folder
