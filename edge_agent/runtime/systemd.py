"""What a service tells systemd: sd_notify(3) and sd_watchdog_enabled(3), over their own socket."""

import os
import socket
import time
from collections.abc import Mapping

SEND_TIMEOUT_S = 1.0


class Notifier:
    """Tells systemd how the service is. Does nothing where systemd did not ask for it.

    `watchdog_interval_s` is how often `watchdog` is due, half of what systemd waits for; None where it does not watch.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval_s = _watchdog_interval_s(environ)

    def ready(self) -> None:
        """Everything is open; also the end of a reload."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> None:
        """Every thread still moves."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The service is going down."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def extend_timeout(self, seconds: float) -> None:
        """Start, stop or running may take so much longer, counted from now (a TensorRT engine is being built)."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            try:
                sender.connect(self._address)
                sender.send(state.encode(errors="replace"))
            except OSError:  # systemd is gone or takes nothing: no reason to stop judging parts
                return


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6
