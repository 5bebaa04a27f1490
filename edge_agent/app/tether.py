"""Becomes another program that the kernel kills when its parent dies: `python tether.py PARENT PROGRAM ARGUMENT...`.

A script of its own and not a `preexec_fn`, which is not safe in a process with threads. Linux only. The kernel
kills it as soon as the thread that started it ends, not only with the process.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # prctl(2); it outlives the exec


def tied(command: Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """The command, to be started so that it ends with this process. Python reads neither site packages nor the environment."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ties itself to the parent, and becomes the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the tie held
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
