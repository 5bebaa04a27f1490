"""Makes one thread of the service hang: stands in for a call into a driver that never returns.

Lies in the container's virtual environment, loaded by a `.pth` file, and does nothing but where the instance is called
`hang-...`. A file `hang` in the instance's runtime folder has lines `THREAD MODULE`: that thread sleeps the next time it
calls a function of that module or of one below it. systemd clears the folder before the process that comes next.
"""

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

RUNTIME = Path(os.environ.get("RUNTIME_DIRECTORY", "/"))
TRIGGER = RUNTIME / "hang"
LOOK_EVERY_S = 0.2
FOR_EVER_S = 3600.0
_due_s: dict[str, float] = {}
_wanted: dict[str, tuple[str, ...]] = {}


def _profile(frame: FrameType, event: str, _argument: object) -> None:
    if event != "call":
        return
    name = threading.current_thread().name
    now_s = time.monotonic()
    if now_s >= _due_s.get(name, 0.0):
        _due_s[name] = now_s + LOOK_EVERY_S
        _wanted[name] = _modules_for(name)
    module = f"{frame.f_globals.get('__name__')}."
    if any(module.startswith(wanted) for wanted in _wanted[name]):
        os.write(2, f"thread {name} hangs in {module}{frame.f_code.co_name}, on purpose\n".encode())
        time.sleep(FOR_EVER_S)


def _modules_for(thread: str) -> tuple[str, ...]:
    """Where it is to hang, each with a dot at its end."""
    try:
        lines = [line.split() for line in TRIGGER.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ()
    return tuple(f"{module}." for name, module in lines if name == thread)


if RUNTIME.name.startswith("hang-"):
    threading.setprofile(_profile)
    sys.setprofile(_profile)
