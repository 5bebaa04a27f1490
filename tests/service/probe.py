"""Tries what the sandbox must forbid and what it must allow. Runs in place of the agent in its own unit; prints JSON.

The first argument is an address with a listener that is not on the loopback interface.
"""

import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
STATE = Path(os.environ["STATE_DIRECTORY"])
RUNTIME = Path(os.environ["RUNTIME_DIRECTORY"])


def call(result: int) -> None:
    """Of a function of the C library: raises what it says by errno."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(folder: str | Path) -> None:
    """A file into the folder."""
    file = Path(folder, "probe")
    file.write_text("x", encoding="ascii")
    file.unlink()


def connect(host: str, port: int) -> None:
    """A TCP connection."""
    socket.create_connection((host, port), timeout=2).close()


def set_user_bit() -> None:
    """A file that runs as its owner."""
    file = STATE / "probe-suid"
    file.touch()
    try:
        file.chmod(0o4755)
    finally:
        file.unlink()


def look(folder: str) -> None:
    """What is in it; an empty one counts as hidden."""
    if not list(Path(folder).iterdir()):
        raise PermissionError("it is empty")


def others() -> None:
    """Processes of other users."""
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    if all(process.stat().st_uid == os.getuid() for process in processes):
        raise PermissionError("none is seen")


FORBIDDEN: dict[str, Callable[[], object]] = {
    "write to /etc/edge-agent": lambda: write("/etc/edge-agent"),
    "write to /etc": lambda: write("/etc"),
    "write to /usr/local": lambda: write("/usr/local"),
    "write to its own program": lambda: write("/opt/edge-agent"),
    "write to /var/log": lambda: write("/var/log"),
    "look into /root": lambda: look("/root"),
    "look into /home": lambda: look("/home"),
    "see /tmp of others": lambda: Path("/tmp/of-others").read_text(encoding="ascii"),
    "see processes of others": others,
    "packet sockets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "bluetooth sockets": lambda: socket.socket(31, socket.SOCK_RAW).close(),
    "a user namespace": lambda: call(LIBC.unshare(CLONE_NEWUSER)),
    "mount": lambda: call(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set the host's name": lambda: socket.sethostname("probe"),
    "a file that runs as its owner": set_user_bit,
    "write to /proc/sys": lambda: Path("/proc/sys/kernel/hostname").write_text("probe", encoding="ascii"),
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "become root": lambda: os.setuid(0),
}
ALLOWED: dict[str, Callable[[], object]] = {
    "write to its data": lambda: write(STATE),
    "write to its runtime folder": lambda: write(RUNTIME),
    "write to its own /tmp": lambda: write("/tmp"),
    "read its configuration": lambda: look("/etc/edge-agent"),
    "read the kernel's state of the clock": lambda: call(LIBC.adjtimex(ctypes.create_string_buffer(512))),
    "read /proc/meminfo": lambda: Path("/proc/meminfo").read_text(encoding="ascii"),
    "connect to the broker on this machine": lambda: connect("127.0.0.1", 1883),
    "write code and run it, as engines do": lambda: __import__("mmap").mmap(-1, 4096, prot=7),
}
ASKED = {"connect to the address elsewhere": lambda: connect(sys.argv[1], 1883)}


def outcome(action: Callable[[], object]) -> str:
    """`done`, or what it was refused with."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever it is, it was not done
        return str(error) or type(error).__name__
    return "done"


if __name__ == "__main__":
    tried = {name: outcome(action) for name, action in (FORBIDDEN | ALLOWED | ASKED).items()}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    marks = {key: status[key].strip() for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
    print(json.dumps({"forbidden": list(FORBIDDEN), "allowed": list(ALLOWED), "tried": tried, "marks": marks}))
