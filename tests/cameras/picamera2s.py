"""Puts the stand-in for Raspberry Pi's library where `import picamera2` finds it."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent / "fake_picamera2"


@contextmanager
def standing_in():
    """The stand-in, fresh; afterwards it is as if it had never been imported."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("picamera2")
    finally:
        sys.path.remove(str(FOLDER))
        library = sys.modules.pop("picamera2")
        for camera in library.RIG.opened:
            camera.close()
