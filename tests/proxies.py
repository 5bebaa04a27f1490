"""A TCP proxy that fails on demand, between MQTT clients and a broker on loopback. All faults are switched while it runs.

with running_proxy(broker.port) as proxy:
    ...                          # a client connects to proxy.port
    proxy.lose("up")             # a black hole towards the broker: connections stand, what is sent never arrives
    proxy.heal()
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.brokers import HOST, free_port

Way = Literal["up", "down"]  # up: from the client to the broker
WAYS: tuple[Way, ...] = ("up", "down")
TICK_MS = 10  # how often what waits is looked at
READ_BYTES = 65536
PUBACK = 0x40  # MQTT 5, 3.4: first byte of its fixed header
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


@dataclass
class Faults:
    """What is wrong at the moment."""

    lost: set[Way] = field(default_factory=set)
    held: set[Way] = field(default_factory=set)
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    pubacks: Literal["swallowed"] | int | None = None  # a number: the reason code that they get


class Pipe:
    """One way of one connection. The end of the stream, or its reset, waits behind the bytes before it."""

    def __init__(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        self.way, self.source, self.sink = way, source, sink
        self.is_reading, self.is_done = True, False
        self._is_lost = False  # a stream that lacks bytes is of no more use
        self._queue: deque[tuple[float, bytes | None]] = deque()  # when it may go on; b"" is the end, None a reset
        self._packets = Packets()
        self._budget = 0.0  # bytes that may go on now
        self._looked_s = time.monotonic()

    def read(self, faults: Faults, now_s: float) -> None:
        """Takes what has come."""
        data: bytes | None
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = None
        self.is_reading = bool(data)
        self._is_lost = self._is_lost or self.way in faults.lost
        if self._is_lost:
            return
        if data and self.way == "down":
            data = self._packets.pass_on(data, faults.pubacks)
            if not data:
                return
        self._queue.append((now_s + faults.delay_s, data))

    def write(self, faults: Faults, now_s: float) -> bool:
        """Hands on what is due. False: the connection is to be reset."""
        self._earn(faults.bytes_per_s, now_s)
        try:
            while self._queue and self._queue[0][0] <= now_s and self._budget >= 1 and self.way not in faults.held:
                if not self._write_next():
                    return False
        except BlockingIOError:
            return True
        except OSError:  # what comes back the other way says that to the source
            self._is_lost = True
            self._queue.clear()
        return True

    def _write_next(self) -> bool:
        due_s, data = self._queue[0]
        if not data:
            self._queue.popleft()
            self.is_done = True
            if data is not None:
                self.sink.shutdown(socket.SHUT_WR)
            return data is not None
        sent = self.sink.send(data[: int(self._budget)])
        self._budget -= sent
        self._queue.popleft()
        if data[sent:]:
            self._queue.appendleft((due_s, data[sent:]))
        return True

    def _earn(self, rate: float | None, now_s: float) -> None:
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        self._budget = READ_BYTES if rate is None else min(self._budget + rate * passed_s, max(1.0, rate / 10))


class Packets:
    """A stream of MQTT packets from a broker; as long as no PUBACK is to be changed, of any bytes (TLS)."""

    def __init__(self) -> None:
        self._rest = b""  # of a packet that is not whole yet
        self._gone = 0  # bytes of it that went on already

    def pass_on(self, data: bytes, pubacks: Literal["swallowed"] | int | None) -> bytes:
        """What may go on: everything, or the whole packets so far, each PUBACK changed as asked."""
        self._rest += data
        passed = b""
        while size := _size(self._rest):
            packet, self._rest = self._rest[:size], self._rest[size:]
            passed += packet[self._gone :] if self._gone else _changed(packet, pubacks)
            self._gone = 0
        if pubacks is None:
            passed += self._rest[self._gone :]
            self._gone = len(self._rest)
        return passed


def _changed(packet: bytes, pubacks: Literal["swallowed"] | int | None) -> bytes:
    if packet[0] != PUBACK or pubacks is None:
        return packet
    if pubacks == "swallowed":
        return b""
    return bytes([PUBACK, 3]) + packet[2:4] + bytes([pubacks])  # the message's id, and the reason


def _size(data: bytes) -> int:
    """Bytes of the packet that begins here, 0 where it is not whole yet (MQTT 5, 2.1.4: seven bits a byte)."""
    remaining = 0
    for index, byte in enumerate(data[1:5]):
        remaining += (byte & 0x7F) << 7 * index
        if byte < 0x80:
            size = 2 + index + remaining
            return size if size <= len(data) else 0
    return 0


class Proxy:
    """Listens on `port` and hands every connection on. Faults hold for all connections, present and future."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._faults = Faults()
        self._lock = threading.Lock()  # guards all below
        self.port = free_port()
        self._listener, self._is_open = socket.create_server((HOST, self.port)), True
        self._listener.setblocking(False)
        self._connections: list[tuple[Pipe, Pipe]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()

    def close(self) -> None:
        """Resets all connections and ends."""
        self._ended.set()
        self._thread.join()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Resets all connections, at both ends."""
        with self._lock:
            for pipes in self._connections:
                _reset(pipes)
            self._connections.clear()

    def refuse(self) -> None:
        """Takes no new connections: nobody listens on the port."""
        with self._lock:
            if self._is_open:
                self._listener.shutdown(socket.SHUT_RDWR)  # it stays bound: nobody else gets the port meanwhile
                self._is_open = False

    def lose(self, *ways: Way) -> None:
        """A black hole: what is sent is taken and never arrives. A connection that has lost something stays one."""
        with self._lock:
            self._faults.lost = set(ways)

    def hold(self, *ways: Way) -> None:
        """What is sent arrives once `heal` is called; so does the end of a connection."""
        with self._lock:
            self._faults.held = set(ways)

    def slow(self, delay_s: float, bytes_per_s: float) -> None:
        """Each byte comes later, and there are no more than so many a second on each way of a connection."""
        with self._lock:
            self._faults.delay_s, self._faults.bytes_per_s = delay_s, bytes_per_s

    def change_pubacks(self, how: Literal["swallowed"] | int) -> None:
        """PUBACKs do not come, or carry this reason code. The broker has the messages all the same."""
        with self._lock:
            self._faults.pubacks = how

    def heal(self) -> None:
        """Nothing is wrong any more; new connections are taken."""
        with self._lock:
            self._faults = Faults()
            if not self._is_open:
                self._listener.listen()
                self._is_open = True

    def _run(self) -> None:
        while not self._ended.is_set():
            readable = self._wait()
            with self._lock:
                now_s = time.monotonic()
                if self._is_open and self._listener.fileno() in readable:
                    self._accept()
                self._connections = [pipes for pipes in self._connections if self._serve(pipes, readable, now_s)]

    def _wait(self) -> set[int]:
        poller = select.poll()
        with self._lock:
            sources = [pipe.source for pipes in self._connections for pipe in pipes if pipe.is_reading]
            for sock in [self._listener] * self._is_open + sources:
                poller.register(sock, select.POLLIN)
        return {descriptor for descriptor, _ in poller.poll(TICK_MS)}

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:  # it was refused meanwhile
            return
        try:
            broker = socket.create_connection((HOST, self._broker_port), 1)
        except OSError:  # there is none: the client is told at once
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        for sock in (client, broker):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.append((Pipe("up", client, broker), Pipe("down", broker, client)))

    def _serve(self, pipes: tuple[Pipe, Pipe], readable: set[int], now_s: float) -> bool:
        """Whether the connection goes on."""
        for pipe in pipes:
            if pipe.is_reading and pipe.source.fileno() in readable:
                pipe.read(self._faults, now_s)
            if not pipe.write(self._faults, now_s):
                _reset(pipes)
                return False
        if all(pipe.is_done for pipe in pipes):
            for pipe in pipes:
                pipe.source.close()
            return False
        return True


def _reset(pipes: tuple[Pipe, Pipe]) -> None:
    for pipe in pipes:
        pipe.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        pipe.source.close()


@contextlib.contextmanager
def running_proxy(broker_port: int) -> Iterator[Proxy]:
    """A proxy that is gone afterwards, with all its connections."""
    proxy = Proxy(broker_port)
    try:
        yield proxy
    finally:
        proxy.close()
