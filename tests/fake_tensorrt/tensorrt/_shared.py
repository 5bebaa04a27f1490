"""What several parts of the module need: its enums, what is alive, and what a test wants to fail."""

import os
import weakref

from tensorrt import _says
from tensorrt._api import enums
from tensorrt._values import ILogger

ENUMS = enums()
LIVE = weakref.WeakSet()  # what has not been freed


def failing(word):
    """Whether a test wants this to fail: words in FAKE_TENSORRT_FAIL, looked at every time."""
    return word in os.environ.get("FAKE_TENSORRT_FAIL", "").split(",")


def no_memory(logger, nbytes, function):
    """The three lines of the real one."""
    error, warning, last = _says.no_memory(nbytes, function)
    logger.log(ILogger.ERROR, error)
    logger.log(ILogger.WARNING, warning)
    logger.log(ILogger.ERROR, last)


class Freed:
    """Frees its memory on the GPU with itself, or before, where a test asks."""

    def __del__(self):
        memory = getattr(self, "_memory", None)
        if memory is not None:
            memory.free()
