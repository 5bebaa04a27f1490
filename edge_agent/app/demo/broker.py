"""A private mosquitto on a free loopback port."""

import os
import shutil
import socket
import time
from pathlib import Path

from edge_agent.app.demo.children import Child, ChildDiedError

HOST = "127.0.0.1"
_WHERE = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # Debian: not in a user's PATH
_UP_S = 10.0
_ATTEMPTS = 3  # somebody else may take the port before mosquitto has it

CONFIG = """listener {port} {host}
allow_anonymous true
set_tcp_nodelay true
"""
_AS_ROOT = "user root\n"  # it would become `mosquitto` otherwise, and not read the folder


def find_mosquitto() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("mosquitto", path=_WHERE)


def start_broker(program: str, folder: Path, started: list[Child]) -> int:
    """Starts it and waits until it listens; its port. The child is added to `started`.

    Raises:
        ChildDiedError: it did not come up.
    """
    for attempt in range(_ATTEMPTS):
        port, config = _free_port(), folder / "mosquitto.conf"
        config.write_text(CONFIG.format(port=port, host=HOST) + (_AS_ROOT if os.geteuid() == 0 else ""))
        child = Child("mosquitto", [program, "-c", config], folder)
        started.append(child)
        try:
            _wait_until_up(child, port)
        except ChildDiedError:
            if attempt == _ATTEMPTS - 1:
                raise
            started.remove(child)
            child.stop()
        else:
            return port
    raise AssertionError("unreachable")


def _wait_until_up(child: Child, port: int) -> None:
    until_s = time.monotonic() + _UP_S
    while not _listens(port):
        child.check()
        if time.monotonic() > until_s:
            raise ChildDiedError(f"mosquitto does not listen on {HOST}:{port} after {_UP_S:.0f} s")
        time.sleep(0.02)
    child.check()  # what listens there may be another's


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port
