"""The agent's figures over HTTP, on this machine only: there is no password, and no other address to choose."""

import socketserver
import sys
import threading
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler

from edge_agent.runtime.metrics import Metrics
from edge_agent.runtime.rarely import Rarely

log = structlog.get_logger()
LOOPBACK = "127.0.0.1"
LOOK_S = 0.2  # how late it may notice that it is to end
AGAIN_S = 10.0
PATIENCE_S = 1.0  # with a client that says nothing: one is served at a time
TELL_EVERY_S = 600.0


class _Handler(MetricsHandler):
    timeout = PATIENCE_S


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    timeout = LOOK_S

    def __init__(self, port: int, metrics: Metrics) -> None:
        registry = CollectorRegistry(support_collectors_without_names=True)  # ours alone, without the library's own
        registry.register(metrics)
        super().__init__((LOOPBACK, port), _Handler.factory(registry))
        self._failed = Rarely()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Clients that leave early are none."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError) and self._failed.now() is not None:
            log.error("metrics_failed", exc_info=error)


class MetricsServer:
    """Serves in a thread of its own, one client at a time. A port that is taken is tried again."""

    def __init__(self, port: int, metrics: Metrics, *, again_s: float = AGAIN_S) -> None:
        self._port, self._metrics, self._again_s = port, metrics, again_s
        self._stop = threading.Event()
        self._untold = Rarely(TELL_EVERY_S)
        self._thread = threading.Thread(target=self._run, name="metrics-http", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Closes the port. False where it did not end in time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                server = _Server(self._port, self._metrics)
            except OSError as error:
                self._refused(error)
                self._stop.wait(self._again_s)
                continue
            with server:
                log.info("metrics_served", url=f"http://{LOOPBACK}:{self._port}/metrics")
                while not self._stop.is_set():
                    server.handle_request()

    def _refused(self, error: OSError) -> None:
        if (unlogged := self._untold.now()) is not None:
            log.warning("metrics_not_served", port=self._port, reason=error.strerror or str(error), unlogged=unlogged)
