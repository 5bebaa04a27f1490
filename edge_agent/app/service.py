"""What systemd says of a service."""

import subprocess
import time
from dataclasses import dataclass
from typing import Any

WAIT_S = 4.0
_WANTED = ("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "ExecMainExitTimestamp")
_RESULTS = {
    "exit-code": "it ended with exit code {code}",
    "signal": "it was killed by a signal",
    "core-dump": "it crashed",
    "watchdog": "the watchdog ended it, because a thread hung",
    "oom-kill": "the kernel killed it: the memory was full",
    "start-limit-hit": "it failed too often in a row, and is not started any more",
    "timeout": "it did not start or stop in time",
    "protocol": "it ended before it was ready",
    "resources": "it could not be started: a folder or credential is missing",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One unit, as `systemctl show` describes it. `exited_s` is Unix time; None where it has not ended yet."""

    unit: str
    active: str
    sub: str
    result: str
    exit_code: int
    restarts: int
    exited_s: float | None

    @property
    def is_starting(self) -> bool:
        """Whether systemd has started it, or is about to."""
        return self.active in ("activating", "reloading", "active") and self.sub != "auto-restart"

    @property
    def is_well(self) -> bool:
        """Whether it has nothing to tell but that it runs or was stopped."""
        return self.result == "success" and self.sub != "auto-restart"

    @property
    def words(self) -> str:
        """A sentence on how it ended."""
        why = _RESULTS.get(self.result, self.result).format(code=self.exit_code)
        again = f"; started again {self.restarts} times" if self.restarts else ""
        return why + again + ("; it is about to start it again" if self.sub == "auto-restart" else "")

    def failed_after(self, last_seen_s: float) -> bool:
        """Whether it ended badly long after that many seconds ago: a later start did not get so far as to say so."""
        if self.exited_s is None or self.is_well:
            return False
        return time.time() - self.exited_s < last_seen_s - _LONG_S

    def as_json(self) -> dict[str, Any]:
        """By the words of systemd."""
        return {
            "unit": self.unit,
            "active": self.active,
            "sub": self.sub,
            "result": self.result,
            "exit_code": self.exit_code,
            "restarts": self.restarts,
        }


_LONG_S = 15.0  # the last state is written every ten


def show(unit: str) -> Service | None:
    """None where there is no systemd, it does not know the unit, or does not answer."""
    wanted = (f"--property={name}" for name in _WANTED)
    told = output_of("systemctl", "show", unit, "--timestamp=unix", *wanted)
    return None if told is None else read(unit, told)


def output_of(*words: str, wait_s: float = WAIT_S) -> str | None:
    """What a program prints; None where it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=wait_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def read(unit: str, text: str) -> Service | None:
    """From the lines of `systemctl show`; None where the unit is not there."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if said.get("LoadState") != "loaded":
        return None
    exited = said.get("ExecMainExitTimestamp", "").lstrip("@")
    return Service(
        unit,
        said.get("ActiveState", ""),
        said.get("SubState", ""),
        said.get("Result", ""),
        int(said.get("ExecMainStatus") or 0),
        int(said.get("NRestarts") or 0),
        float(exited) if exited.isdecimal() else None,
    )
