"""Which processes there are: for tests that nothing is left behind."""

import time
from contextlib import suppress
from pathlib import Path

STOP_S = 5 + 5  # what is promised for a stop, and what a machine that is busy with other things may add


def processes_that_name(path):
    """(id, command line) of every process with the path in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                line = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(path) in line:
                    found.append((int(entry.name), line))
    return found


def ended(condition, timeout_s=20.0):
    """Whether it comes true in time."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True
