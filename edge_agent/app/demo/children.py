"""Child processes that never outlive us, and the files that they write."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.app.tether import tied
from edge_agent.errors import EdgeAgentError

STOP_S = 5.0
"""How long a child may take to end by itself; then it is killed."""

_LAST_LINES, _LINE_END = 5, 300  # of a long line its end: that is where the error is


class ChildDiedError(EdgeAgentError):
    """A process that is needed ended by itself; the message has its last words."""


class Child:
    """One process, in a session of its own: Ctrl-C at the terminal is for us, who end the children in order.

    Standard output and error go to `NAME.out` and `NAME.log` in the folder.
    """

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path) -> None:
        self.name = name
        self.out, self.log_file = folder / f"{name}.out", folder / f"{name}.log"
        with self.out.open("wb") as out, self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                tied(command), stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    def check(self) -> None:
        """Raises `ChildDiedError` where it has ended."""
        if self.exit_code is not None:
            raise ChildDiedError(self.last_words())

    def ask_to_stop(self) -> None:
        """SIGTERM; does not wait."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL where that is not enough; returns when it is gone."""
        self.ask_to_stop()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """How it ended, with the last lines of its log."""
        code = self.exit_code or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}{self.log_end()}"

    def log_end(self) -> str:
        """The last lines of its log, to be put behind a sentence: the file may be gone when somebody reads it."""
        lines = [line[-_LINE_END:] for line in self.log_file.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]]
        return "; the last lines of its log:\n  " + "\n  ".join(lines) if lines else ", and logged nothing"


class Tail:
    """The lines of a file that grows, each once it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._rest = path, 0, b""

    def lines(self) -> list[str]:
        """Those that were added since the last call; none while there is no such file."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
            self._at += len(new)
            *whole, self._rest = (self._rest + new).split(b"\n")
            return [line.decode("utf-8", "replace") for line in whole]
        return []


@contextmanager
def children() -> Iterator[list[Child]]:
    """A list to put children into; when this ends they all do, the last first, within `STOP_S` together."""
    started: list[Child] = []
    try:
        yield started
    finally:
        until_s = time.monotonic() + STOP_S
        for child in reversed(started):
            child.stop(max(0.1, until_s - time.monotonic()))


def own_command(*words: str | Path) -> list[str | Path]:
    """The command line of one of our own commands."""
    return [sys.executable, "-m", "edge_agent", *words]
