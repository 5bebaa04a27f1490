"""A booted container, and what is asked of it: commands, files, units and the journal. It has no network but its own."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.service.report import CheckSkippedError

if TYPE_CHECKING:
    from typing_extensions import Self

BOOT_MOST_S = 60.0
COMMAND_MOST_S = 60.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
ELSEWHERE = "10.99.0.1"  # an address of the container that is not its loopback's

# Without systemd on the host there is none to ask for a cgroup, and it may have the old layout: the container gets a
# control group of its own, in a view of the new layout that nobody else sees.
WITHOUT_SYSTEMD = """
set -e
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$GROUP"
echo $$ >"/sys/fs/cgroup/$GROUP/cgroup.procs"
exec systemd-nspawn --keep-unit "$@"
"""
FORGET_GROUP = """
mount -t cgroup2 cgroup2 /mnt
[ -d "/mnt/$GROUP" ] || exit 0
echo $$ >/mnt/cgroup.procs
find "/mnt/$GROUP" -depth -type d -exec rmdir {} +
"""


class Container:
    """Boots the system in `root`; `with` ends it. `binds` are folders of the host, read-only, by where they are seen."""

    def __init__(self, root: Path, binds: Mapping[str, Path]) -> None:
        self.root = root
        self._binds = binds
        self._group = f"edge-agent-test-{os.getpid()}"
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the container
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> "Self":
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._end()

    def _boot(self) -> None:
        self.path("/etc/hosts").write_text("127.0.0.1 localhost line\n::1 localhost\n", encoding="ascii")
        options = ["--directory", str(self.root), "--boot", "--register=no", "--private-network", "--console=read-only"]
        options += ["--hostname=line", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]
        options += [f"--bind-ro={path}:{seen}" for seen, path in self._binds.items()]
        # As on a machine of its own: units with IPAddressDeny= or DevicePolicy= have the kernel run small programs, and
        # anybody may read how the clock is synchronised.
        options += ["--system-call-filter=bpf adjtimex clock_adjtime", "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON"]
        command = ["systemd-nspawn", *options]
        if not Path("/run/systemd/system").is_dir():
            shell = ["bash", "-c", WITHOUT_SYSTEMD, "nspawn", *options]
            command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", *shell]
        environ = os.environ | {"GROUP": self._group, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self._nspawn = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=self._console, stderr=subprocess.STDOUT
        )
        try:
            wait_until(self._has_booted, BOOT_MOST_S, "it has booted", every_s=0.2)
        except AssertionError:
            raise CheckSkippedError(f"systemd-nspawn could not boot a container here:\n{self._last_words()}") from None
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo")

    def _has_booted(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise CheckSkippedError(f"systemd-nspawn could not boot a container here:\n{self._last_words()}")
        if not self._leader:
            self._leader = _child_of(self._nspawn.pid)
            return False
        if (asked := self.run("systemctl", "is-system-running", check=False)).returncode == 0:
            return True
        return asked.stdout.strip() == "degraded"

    def _last_words(self) -> str:
        self._console.seek(0)
        text = re.sub(r"\x1b\[[0-9;]*m", "", self._console.read().decode(errors="replace"))
        return "\n".join(line for line in text.splitlines()[-8:] if line.strip())

    def _end(self) -> None:
        if self._nspawn is None:
            return
        if self._leader and self._nspawn.poll() is None:
            self.run("systemctl", "poweroff", "--force", check=False)
        for end in (lambda: None, self._nspawn.terminate, self._nspawn.kill):
            end()
            try:
                self._nspawn.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        shell = ["unshare", "--mount", "--propagation", "private", "bash", "-c", FORGET_GROUP]
        subprocess.run(shell, env=os.environ | {"GROUP": self._group}, capture_output=True, check=False)
        self._console.close()

    def run(
        self,
        *command: str,
        user: str | None = None,
        check: bool = True,
        timeout_s: float = COMMAND_MOST_S,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, as root or as `user` with the groups that one has."""
        enter = ["nsenter", "--target", str(self._leader), *NAMESPACES]
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        if user == "nobody":
            become = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        words = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        done = subprocess.run(
            [*enter, "--", *become, "env", "-i", *words, *command],
            input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace",
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}"
            )
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a command inside, with its output in a pipe."""
        enter = ["nsenter", "--target", str(self._leader), *NAMESPACES]
        words = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return subprocess.Popen(
            [*enter, "--", "env", "-i", *words, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def path(self, inside: str) -> Path:
        """Where a file of the container lies on the host; not for what is below /run or /tmp."""
        return self.root / inside.lstrip("/")

    def write(self, inside: str, text: str) -> None:
        """Writes a file, readable by all."""
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1" && chmod 0644 "$1"', "write", inside, stdin=text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, by `systemctl show`."""
        text = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, unit: str, *matches: str) -> list[dict[str, Any]]:
        """What the journal has of a unit, oldest first: one object of fields for each entry."""
        command = ["journalctl", "--output=json", "--all", "--no-pager", f"_SYSTEMD_UNIT={unit}", *matches]
        return [json.loads(line) for line in self.run(*command).stdout.splitlines()]

    def journal_text(self, unit: str) -> str:
        """The journal of a unit as people read it, what systemd says of it included."""
        return self.run("journalctl", "--no-pager", "--output=short-precise", "--unit", unit).stdout


def _child_of(pid: int) -> int:
    """The process that systemd-nspawn has made the container's first, or 0."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        names = {int(child): Path(f"/proc/{child}/comm").read_text(encoding="ascii").strip() for child in children}
    except OSError:
        return 0
    return next((child for child, name in names.items() if name == "systemd"), 0)


def wait_until(condition: Callable[[], object], timeout_s: float, what: str, *, every_s: float = 0.3) -> Any:
    """Asks until there is an answer that counts as true, and returns it.

    Raises:
        AssertionError: it did not come in time.
    """
    until_s = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > until_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(every_s)
    return answer
