"""Makes one thread of the service hang: stands in for a call into a driver that never returns.

Lies in the container's virtual environment, loaded by a `.pth` file, and does nothing but where the instance is called
`hang-...`. The thread whose name is written into `hang` in the instance's runtime folder sleeps at its next call of a
Python function; the file is taken away first, so that the process that comes after it runs.
"""

import os
import sys
import threading
import time
from pathlib import Path

RUNTIME = Path(os.environ.get("RUNTIME_DIRECTORY", "/"))
TRIGGER = RUNTIME / "hang"
LOOK_EVERY_S = 0.2
FOR_EVER_S = 3600.0
_due_s: dict[str, float] = {}


def _profile(_frame: object, event: str, _argument: object) -> None:
    if event != "call":
        return
    name = threading.current_thread().name
    now_s = time.monotonic()
    if now_s < _due_s.get(name, 0.0):
        return
    _due_s[name] = now_s + LOOK_EVERY_S
    try:
        if TRIGGER.read_text(encoding="utf-8").strip() != name:
            return
        TRIGGER.unlink()
    except OSError:
        return
    os.write(2, f"thread {name} hangs, on purpose\n".encode())
    time.sleep(FOR_EVER_S)


if RUNTIME.name.startswith("hang-"):
    threading.setprofile(_profile)
    sys.setprofile(_profile)
