"""The text file with the agent's figures, for the textfile collector of Prometheus' node_exporter."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from edge_agent.runtime.folders import write_whole
from edge_agent.runtime.rarely import Rarely

log = structlog.get_logger()
FIRST_S = 2.0  # after the start, which has other things to do
MODE = 0o644  # node_exporter is another user, and there is nothing in it that is secret
TELL_EVERY_S = 600.0


class MetricsFile:
    """Writes it every `every_s`, and once more at the end, which then says `offline`.

    Args:
        path: of the file. Its folder has to be there when it is written.
        read_text: what goes into it; called by this thread alone.
        every_s: from one to the next.
    """

    def __init__(self, path: Path, read_text: Callable[[], bytes], every_s: float, *, first_s: float = FIRST_S) -> None:
        self._path, self._read_text = path, read_text
        self._every_s, self._first_s = every_s, first_s
        self._stop = threading.Event()
        self._untold = Rarely(TELL_EVERY_S)
        self._thread = threading.Thread(target=self._run, name="metrics-file", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Writes the last one. False where it did not end in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._stop.wait(self._first_s)
        while not self._stop.is_set():
            self._write()
            self._stop.wait(self._every_s)
        self._write()

    def _write(self) -> None:
        try:
            write_whole(self._path, self._read_text(), MODE)
        except OSError as error:
            if (unlogged := self._untold.now()) is not None:
                reason = error.strerror or str(error)
                log.warning("metrics_not_written", file=str(self._path), reason=reason, unlogged=unlogged)
        except Exception:  # a bug must show, but costs figures alone
            if self._untold.now() is not None:
                log.exception("metrics_failed")
