"""A Linux for arm64 in a folder, and commands in it; the kernel has qemu run them where the processor cannot."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.wheels import pip_environment

VENV = "/opt/venv"
PROCESSORS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
"""That of a Raspberry Pi 4, and of a 5, by qemu's names: part and features as /proc/cpuinfo there has them."""
ENTER = """
set -e
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sysfs "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/tmp"
[ ! -e "$0/root/cpuinfo" ] || mount --bind "$0/root/cpuinfo" "$0/proc/cpuinfo"
while [ "$1" != -- ]; do
  mkdir -p "$0$1"
  mount --bind "$2" "$0$1"
  shift 2
done
shift
exec chroot "$0" "$@"
"""


@dataclass(frozen=True, slots=True)
class Chroot:
    """Commands see the folder as the whole system, with processes and temporary files of their own.

    `binds` are folders of the host, by where they are seen. Where qemu stands in, it does so as `processor`.
    """

    folder: Path
    binds: Mapping[str, Path] = field(default_factory=dict)
    processor: str = "cortex-a72"

    def __post_init__(self) -> None:
        if is_emulated():  # qemu before 8 shows the host's, at which LiteRT crashes
            (self.folder / "root/cpuinfo").write_text(_cpuinfo(self.processor), encoding="ascii")

    def run(
        self, *command: str, timeout_s: float, environ: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command with the host's network, and ends all that it started."""
        isolate = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        binds = [word for seen, path in self.binds.items() for word in (seen, str(path))]
        done = subprocess.run(
            [*isolate, "bash", "-c", ENTER, str(self.folder), *binds, "--", *command],
            env=pip_environment() | {"QEMU_CPU": self.processor} | dict(environ or {}),
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
        """The same with the virtual environment's Python; its libraries take one thread each."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return self.run(f"{VENV}/bin/python", *words, timeout_s=timeout_s, environ=threads, check=check)


def _cpuinfo(processor: str) -> str:
    part, features = PROCESSORS[processor]
    facts = f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\n"
    return "\n".join(f"processor\t: {number}\n{facts}" for number in range(os.cpu_count() or 1))


def is_emulated() -> bool:
    """Whether this machine's own processor is another."""
    return os.uname().machine != "aarch64"


def emulator_is_missing() -> bool:
    """Whether the kernel does not know what to do with a program for arm64."""
    entries = Path("/proc/sys/fs/binfmt_misc").glob("qemu-aarch64*")
    return is_emulated() and not any("enabled" in entry.read_text(encoding="ascii") for entry in entries)
