"""The socket below an MQTT connection: ours, not paho's, so that reading, waiting and closing are in our hands."""

import select
import socket
import ssl
import struct
import sys
import time

from edge_agent.broker import Config, in_words
from edge_agent.errors import PublisherLostError

CONNECT_TIMEOUT_S = 5.0  # for TCP and TLS
READ_BYTES = 32768  # more than one TLS record (16 KiB), so that none stays behind unseen by `ready`
READS_A_PACKET = 3  # paho reads the kind, the length and the rest
UNCONFIRMED_MS = 2000
"""How long the other side's kernel may leave sent bytes unconfirmed, or its buffer full (tcp(7), TCP_USER_TIMEOUT).

It finds a cut in one direction, which a ping misses while messages still come in, and a receiver that has stopped while
so much is on the way that no ping gets through to it. The kernel looks when it sends again: with a router that swallowed
everything it gave up after 2.4 to 2.8 s. It counts while nothing at all gets through: a slow link is not cut.
"""


class Wire:
    """A connected socket that paho writes to, but reads only what was read ahead for it, and never really closes.

    Each call on a socket gives up the GIL, and paho reads an acknowledgement in three: with another thread computing,
    that is three switch intervals (0.5 ms each in the agent) during which `send` would wait for the lock. For the same
    reason what paho writes while it reads, a PUBACK for each message, can be held back to be written in one go: `hold` and
    `let_go`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ahead = bytearray()
        self._reads_left = 0
        self._held = bytearray()
        self._holding = False
        self.read_ns = time.monotonic_ns()  # when something was read last
        self.encrypted = isinstance(sock, ssl.SSLSocket)
        self.failure: str | None = None

    def read_ahead(self) -> None:
        """Takes what has arrived; never blocks. The end of the stream and errors are kept in `failure`."""
        now_ns = time.monotonic_ns()  # before reading, after which a busy process may come late
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as err:
            self.failure = in_words(err)
        else:
            self._ahead += data
            self.read_ns = now_ns
            if not data:
                self.failure = "the other side closed it"

    def has_more(self) -> bool:
        """Whether there is something to read for paho: bytes, or the news that there will be none."""
        return bool(self._ahead) or self.failure is not None

    def hand_out(self, packets: int) -> None:
        """So many packets paho may read from now on. Else it would read one for each of ours that is not confirmed."""
        self._reads_left = READS_A_PACKET * packets

    def gives(self) -> bool:
        """Whether `recv` has something and may hand it out."""
        return self._reads_left > 0 and self.has_more()

    def recv(self, size: int) -> bytes:
        """For paho: bytes read ahead, `b""` at the end of the stream."""
        if not self.gives():
            raise BlockingIOError
        self._reads_left -= 1
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """For paho: writes what the socket takes."""
        if self._holding:
            self._held += data
            return len(data)
        if self._held:
            raise BlockingIOError
        return self._write(data)

    def hold(self) -> None:
        """From now on what paho writes is only gathered."""
        self._holding = True

    def let_go(self) -> None:
        """Writes what was gathered, as far as the socket takes it; errors are kept in `failure`."""
        self._holding = False
        try:
            while self._held:
                del self._held[: self._write(self._held)]
        except OSError:
            return

    def owes(self) -> bool:
        """Whether something that was gathered is still to be written, before anything else."""
        return bool(self._held)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as err:
            if (
                self.encrypted
            ):  # why it was closed may lie there unread: with TLS 1.3 a certificate is refused afterwards
                self.read_ahead()
            self.failure = self.failure or in_words(err)
            raise

    def fileno(self) -> int:
        """For `poll`."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket interface has it so
        """For paho."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """For paho, which closes under the feet of threads that still use the descriptor: does nothing."""

    def finish(self, until_s: float) -> bool:
        """Ends our half of the stream and waits until the other side has read it all and ended its own: whether it has.

        Closing at once would answer its last acknowledgements with a reset, which may overtake our last messages.
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
            while (left_s := until_s - time.monotonic()) > 0 and ready(self, select.POLLIN, left_s):
                if not self._sock.recv(READ_BYTES):
                    return True
        except OSError:
            return False
        return False

    def release(self, *, reset: bool) -> None:
        """Closes the socket; with `reset` what lies in our kernel's buffers is thrown away, never to arrive late."""
        if reset and self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def dial(config: Config, context: ssl.SSLContext | None) -> Wire:
    """A connected socket. Raises `PublisherLostError`."""
    name = f"{config.host}:{config.port}"
    try:
        sock = socket.create_connection((config.host, config.port), CONNECT_TIMEOUT_S)
    except (OSError, UnicodeError) as err:  # UnicodeError: a label of the name is empty or too long
        raise PublisherLostError(f"{name}: {in_words(err)}") from err
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNCONFIRMED_MS)
        return Wire(context.wrap_socket(sock, server_hostname=config.host) if context else sock)
    except OSError as err:
        sock.close()
        during = "" if context is None or isinstance(err, ssl.SSLError) else "TLS handshake: "
        raise PublisherLostError(f"{name}: {during}{in_words(err)}") from err


def ready(wire: Wire, events: int, timeout_s: float, wake: socket.socket | None = None) -> int:
    """Waits for the events on the socket, or for a byte on `wake`; which events came. Not select(): it ends at 1024."""
    poller = select.poll()
    poller.register(wire.fileno(), events)
    if wake is not None:
        poller.register(wake.fileno(), select.POLLIN)
    came = dict(poller.poll(timeout_s * 1000))
    if wake is not None and came.get(wake.fileno()):
        wake.recv(READ_BYTES)
    return came.get(wire.fileno(), 0)
