"""Has a better engine made while the line runs, and put in the place of the one that serves."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Protocol

import structlog

from edge_agent.errors import EdgeAgentError
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.pipeline import Pipeline
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.succession import OpenEngine

log = structlog.get_logger()


class Supply(Protocol):
    """Where the engine comes from."""

    @property
    def words(self) -> str:
        """How far the work is, for a person; empty while there is none."""
        ...

    def build(self) -> OpenEngine | None:
        """Takes minutes. How to open the new engine, or None where there is no better one than that which serves.

        Raises:
            EdgeAgentError: it cannot be had.
        """
        ...

    def stop(self) -> None:
        """Ends the work soon. Any thread."""
        ...

    def hold(self, *, is_held: bool) -> None:
        """Work that goes on, or comes, stands still, and goes on later. Any thread."""
        ...


class Workshop:
    """One thread, which ends with its work.

    Args:
        introduce: told of the new engine before its first frame.
        announce: called once it serves.
    """

    def __init__(
        self,
        supply: Supply,
        pipeline: Pipeline,
        reporter: Reporter,
        *,
        introduce: Callable[[Engine], None],
        announce: Callable[[], None],
    ) -> None:
        self._supply, self._pipeline, self._reporter = supply, pipeline, reporter
        self._introduce, self._announce = introduce, announce
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)

    @property
    def words(self) -> str:
        """How far the work is; empty while there is none."""
        return self._supply.words

    def start(self) -> None:
        """Once the pipeline has an engine."""
        self._thread.start()

    def hold(self, *, is_held: bool) -> None:
        """Has the work stand still for a while: the board is hot. Any thread."""
        self._supply.hold(is_held=is_held)

    def ask_to_stop(self) -> None:
        """Ends the work, that for the first engine too."""
        self._is_stopped = True
        self._supply.stop()

    def stop(self, timeout_s: float) -> bool:
        """After the pipeline's; False where it did not end in time."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            open_engine = self._supply.build()
            if open_engine is None:
                return
            engine = self._pipeline.replace(open_engine, self._introduce).result()
        except CancelledError:
            return
        except Exception as error:
            if not isinstance(error, EdgeAgentError):
                log.exception("engine_replace_failed")
            if not self._is_stopped:
                text = f"the engine that serves goes on: {error}"
                self._reporter.event("engine_build_failed", "warning", text, {"reason": str(error)})
        else:
            self._announce()
            data = {"backend": engine.backend_kind, "runtime": engine.backend.runtime, "reason": engine.reason}
            self._reporter.event("engine_replaced", "info", f"{engine.backend_kind} serves from now on", data)
