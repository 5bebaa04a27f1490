"""Messages as JSON lines on standard output: for a first look, for pipes and for tests."""

import json
import os
import queue
import select
import sys
import threading
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.errors import PublisherLostError
from edge_agent.wire.topics import Prefix


class Config(BaseModel):
    """The table `[stdout]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: Prefix = Field("factory", description="First level or levels of every topic.")


def create(config: Config, client_id: str, will: Message | None = None) -> Publisher:  # noqa: ARG001 - the seam's signature
    """Writes to standard output.

    `client_id` and `will` mean nothing here and are ignored: there is no broker to know us, or to speak after our death.

    Raises:
        PublisherLostError: standard output is closed, or nobody reads it any more.
    """
    return StdoutPublisher()


class StdoutPublisher:
    """One line per message: `{"topic", "qos", "retain", "payload"}`. A reader that stops reading blocks `send`.

    Lines go to the descriptor itself: nothing lies in a Python buffer when the process is killed.
    """

    def __init__(self) -> None:
        try:
            self._fd = sys.stdout.fileno()
        except (AttributeError, ValueError) as err:  # None under pythonw, closed, or replaced by something without one
            raise PublisherLostError("standard output is closed") from err
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._receipts: queue.SimpleQueue[Receipt | None] = queue.SimpleQueue()  # None wakes a waiting poll
        self._check_reader()

    def send(self, message: Message) -> None:
        """Writes the line now, whole.

        Raises:
            PublisherLostError: closed, or nobody reads any more; the message was not written.
        """
        fields = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
        line = json.dumps({**fields, "payload": json.loads(message.payload)}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._lost is not None:
                raise PublisherLostError(self._lost)
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError as err:
                self._lost = f"standard output: {err.strerror}"
                self._receipts.put(None)
                raise PublisherLostError(self._lost) from err
            if message.token is not None:
                self._receipts.put(Receipt(message.token, 0))

    def poll(self, timeout_s: float) -> Sequence[Receipt]:
        """The receipts that came, waiting up to `timeout_s` for the first.

        Raises:
            PublisherLostError: closed, or nobody reads any more.
        """
        receipts: list[Receipt] = []
        try:
            first = self._receipts.get(timeout=0 if self._lost else timeout_s)
            while True:
                receipts += [first] if first else []
                first = self._receipts.get_nowait()
        except queue.Empty:
            pass
        if not receipts:
            self._check_reader()
        return receipts

    def close(self, *, abort: bool = False) -> None:  # noqa: ARG002 - there is nothing to linger
        """Ends the publisher; standard output stays open. Closing twice does nothing. Any thread may call it."""
        with self._lock:
            self._lost = self._lost or "standard output: the publisher was closed here"
        self._receipts.put(None)

    def _check_reader(self) -> None:
        """A pipe without a reader says so before anything is written to it."""
        if self._lost is None:
            poller = select.poll()
            poller.register(self._fd, 0)
            if poller.poll(0):
                self._lost = "standard output: nobody reads it any more"
        if self._lost is not None:
            raise PublisherLostError(self._lost)
