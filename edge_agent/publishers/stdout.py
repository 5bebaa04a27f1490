"""Messages as JSON lines on standard output: for a first look, for pipes and for tests."""

import errno
import json
import os
import queue
import select
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.errors import PublisherLostError
from edge_agent.wire.topics import Prefix

WAIT_S = 1.0
"""How long a reader may leave the pipe full before it counts as gone: those who send wait no longer for it."""


class Config(BaseModel):
    """The table `[stdout]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: Prefix = Field("factory", description="First level or levels of every topic.")


def create(
    config: Config,  # noqa: ARG001 - the seam's signature
    client_id: str,  # noqa: ARG001
    will: Message | None = None,  # noqa: ARG001
    subscriptions: Sequence[str] = (),
) -> Publisher:
    """Writes to standard output.

    `client_id` and `will` mean nothing here and are ignored: there is no broker to know us, or to speak after our death.
    Nor does anything come in: every subscription is refused.

    Raises:
        PublisherLostError: standard output is closed, or nobody reads it any more.
    """
    return StdoutPublisher(subscriptions)


class StdoutPublisher:
    """One line per message: `{"topic", "qos", "retain", "payload"}`.

    Lines go to the descriptor itself: nothing lies in a Python buffer when the process is killed. They stay whole,
    whoever else in the process writes them and however slowly they are read: one that a reader left half written is
    finished before the next. A pipe takes a line of up to PIPE_BUF (4096 bytes) whole or not at all, as it does every
    verdict; so it is results and births alone that may still come after `send` has given them up.
    """

    def __init__(self, subscriptions: Sequence[str] = ()) -> None:
        self.refused = dict.fromkeys(subscriptions, "standard output does not listen")
        self._lost: str | None = None
        self._receipts: queue.SimpleQueue[Receipt | None] = queue.SimpleQueue()  # None wakes a waiting poll
        try:
            self._fd = _own_descriptor(sys.stdout.fileno())
        except (AttributeError, ValueError, OSError) as err:  # None, closed, or replaced by something without one
            raise PublisherLostError("standard output is closed") from err
        try:
            self._check_reader()
            self._write(b"")
        except PublisherLostError:
            os.close(self._fd)
            raise

    def send(self, message: Message) -> None:
        """Writes the line now, whole; waits up to `WAIT_S` for room.

        Raises:
            PublisherLostError: closed, or nobody reads any more; the message was not written.
        """
        fields = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
        line = json.dumps({**fields, "payload": json.loads(message.payload)}, separators=(",", ":")).encode() + b"\n"
        self._write(line)
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
        with _OUTPUT.turn():
            self._lost = self._lost or "standard output: the publisher was closed here"
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        self._receipts.put(None)

    def _write(self, line: bytes) -> None:
        until_s = time.monotonic() + WAIT_S
        try:
            with _OUTPUT.turn(until_s):
                self._check_open()
                _OUTPUT.write(self._fd, line, until_s)
        except PublisherLostError:
            raise
        except OSError as err:
            self._lost = self._lost or f"standard output: {err.strerror}"
            self._receipts.put(None)
            raise PublisherLostError(self._lost) from err

    def _check_reader(self) -> None:
        """A pipe without a reader says so before anything is written to it."""
        with _OUTPUT.turn():
            if self._lost is None and _ready(self._fd, 0, time.monotonic()):
                self._lost = "standard output: nobody reads it any more"
            self._check_open()

    def _check_open(self) -> None:
        if self._lost is not None:
            raise PublisherLostError(self._lost)


class _Output:
    """Standard output, of which a process has one: its publishers take turns, and finish a line that one has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed = b""  # of the line that is being written

    @contextmanager
    def turn(self, until_s: float | None = None) -> Iterator[None]:
        """Alone with it. Raises `TimeoutError` after `until_s` (CLOCK_MONOTONIC), None: waits for the others to end."""
        if not self._lock.acquire(timeout=-1 if until_s is None else max(0.0, until_s - time.monotonic())):
            raise _no_room()
        try:
            yield
        finally:
            self._lock.release()

    def write(self, fd: int, line: bytes, until_s: float) -> None:
        """Writes the line, after what is owed; only within a turn. Raises `OSError`, and `TimeoutError`."""
        _wait_for_room(fd, until_s)  # an empty line too: whoever opens a full pipe hears of it at once
        self._pay(fd, until_s)
        self._owed = line
        try:
            self._pay(fd, until_s)
        finally:
            if len(self._owed) == len(line):  # a line that was not begun is not owed
                self._owed = b""

    def _pay(self, fd: int, until_s: float) -> None:
        while self._owed:
            _wait_for_room(fd, until_s)
            with suppress(BlockingIOError):
                # No more than PIPE_BUF: for so much there is room, where the descriptor is one that blocks.
                self._owed = self._owed[os.write(fd, self._owed[: select.PIPE_BUF]) :]


_OUTPUT = _Output()


def _own_descriptor(fd: int) -> int:
    """A descriptor of our own for the same output; of a pipe or a terminal one that does not block.

    It is opened anew, because O_NONBLOCK on a copy would hold for the shell and for stderr too. Where that is not
    allowed, and for files and sockets, it is a copy.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return os.dup(fd)


def _ready(fd: int, events: int, until_s: float) -> bool:
    """Whether one of `select.POLL...`, or an error, comes in time."""
    poller = select.poll()
    poller.register(fd, events)
    return bool(poller.poll(max(0.0, until_s - time.monotonic()) * 1000))


def _wait_for_room(fd: int, until_s: float) -> None:
    if not _ready(fd, select.POLLOUT, until_s):
        raise _no_room()


def _no_room() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"no room for {WAIT_S:g} s: whoever reads it has stopped, or is too slow")
