"""The status board for other processes of this device: who connects gets one JSON document, and the connection is closed.

Paths go by the folder's descriptor: an address of a unix socket holds 107 bytes, and folders may be deeper.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from edge_agent.runtime.rarely import Rarely

log = structlog.get_logger()
FILE = "status.sock"
MODE = 0o660
FOLDER_MODE = 0o750
BACKLOG = 16
LOOK_EVERY_S = 5.0  # whether the file is still there
TRY_EVERY_S = 2.0
PAUSE_S = 0.02  # after each answer: who asks without end takes no more than that of the processor
TELL_EVERY_S = 600.0
MOST_BYTES = 1_000_000


class TakenError(Exception):
    """Another process answers there."""


class StatusServer:
    """A thread that answers. It never waits for who asks: an answer fits into the socket's memory, or is left out."""

    def __init__(self, folder: Path, document: Callable[[], bytes]) -> None:
        self._folder, self._document = folder, document
        self._listener: socket.socket | None = None
        self._inode = 0
        self._failed = Rarely(TELL_EVERY_S)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-socket", daemon=True)

    def start(self) -> None:
        """Starts the thread. Where the socket cannot be made it is tried again."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Takes the socket away. False where its thread did not end in time."""
        self._stopping.set()
        if self._listener is not None:
            with suppress(OSError), _short(self._folder) as short:
                _answers(short / FILE)  # wakes the thread; but it may not get the time to clean up
        self._remove()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001 - the line does not depend on it
                if (unlogged := self._failed.now()) is not None:
                    reason = getattr(error, "strerror", None) or str(error) or repr(error)
                    log.warning("status_socket_failed", folder=str(self._folder), reason=reason, unlogged=unlogged)
                self._stopping.wait(TRY_EVERY_S)

    def _serve(self) -> None:
        """Answers until the end, or until the file is not ours any more."""
        with self._listening() as listener:
            while not self._stopping.is_set() and self._is_ours():
                with suppress(TimeoutError):
                    while not self._stopping.is_set():
                        self._answer(listener)

    def _answer(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            if self._stopping.is_set():
                return
            raise
        with connection:
            connection.setblocking(False)
            with suppress(OSError):  # who asked has gone
                connection.send(self._document())
        time.sleep(PAUSE_S)

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        """The socket under its name, in place of one that nobody answers on.

        Raises:
            TakenError: somebody does.
        """
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _short(self._folder) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            if _answers(short / FILE):
                raise TakenError("another agent answers there")
            made = short / f"{FILE}.{os.getpid()}"
            made.unlink(missing_ok=True)
            listener.bind(str(made))
            made.chmod(MODE)  # before anybody can connect
            listener.listen(BACKLOG)
            listener.settimeout(LOOK_EVERY_S)
            self._inode = made.stat().st_ino
            made.replace(short / FILE)
            self._listener = listener
            try:
                yield listener
            finally:
                self._listener = None
                self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            if self._is_ours():
                (self._folder / FILE).unlink()

    def _is_ours(self) -> bool:
        with suppress(OSError):
            return (self._folder / FILE).stat().st_ino == self._inode
        return False


def ask(folder: Path, timeout_s: float = 2.0) -> bytes:
    """The document of the agent whose socket is in the folder.

    Raises:
        TimeoutError: a process is there, but does not answer.
        OSError: nobody is there, or one may not ask.
    """
    until_s, data = time.monotonic() + timeout_s, b""
    with _short(folder) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        _connect(asking, short / FILE, until_s)
        while len(data) < MOST_BYTES:
            asking.settimeout(max(0.001, until_s - time.monotonic()))
            more = asking.recv(65536)
            if not more:
                break
            data += more
    return data


def _answers(path: Path) -> bool:
    """Whether a process holds the socket, be it busy or hanging."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            _connect(asking, path, time.monotonic() + 0.1)
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def _connect(asking: socket.socket, path: Path, until_s: float) -> None:
    """Where too many are waiting already, the kernel refuses at once: then it is tried again until `until_s`."""
    asking.setblocking(False)
    while True:
        try:
            return asking.connect(str(path))
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise TimeoutError("too many are waiting for it") from None
            time.sleep(PAUSE_S)


@contextmanager
def _short(folder: Path) -> Iterator[Path]:
    """A short name of the folder, while this is open."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
