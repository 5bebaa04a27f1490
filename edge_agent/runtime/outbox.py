"""Results and events wait here until the broker has them: in memory, at least once, in order per topic.

What waits is lost when the process ends; a clean stop first sends what it can.
"""

import queue
import random
import threading
import time
from collections import deque
from dataclasses import replace
from itertools import takewhile
from typing import Literal

from edge_agent.core.ports import Message, Receipt
from edge_agent.runtime.link import Down, Link, Up

WINDOW = 20  # unconfirmed at a time: fewer than any broker's receive maximum we know of
REFUSED_PAUSE_S = 5.0  # for the kind that was refused: the other goes on
HOPELESS = (0x90, 0x95, 0x99)  # MQTT 5, 3.4.2.1: topic, size or format will not do the next time either
FULL_RATE_PER_S = 100_000.0
Kind = Literal["event", "result"]
Entry = tuple[int, Message]
"""A message and its place in the order in which they came."""


class Outbox:
    """Events before results. When it is full the oldest results go, then the oldest events; all are counted."""

    def __init__(self, link: Link, *, max_rows: int, max_mb: float, drain_per_s: float) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._waiting: dict[Kind, deque[Entry]] = {"event": deque(), "result": deque()}
        self._in_flight: dict[int, tuple[Kind, Entry]] = {}
        self._came = 0
        self._bytes = 0
        self._next_token = 1
        self._ups = 0
        self._budget = 0.0
        self._refilled_at_s = time.monotonic()
        self._paused_until_s: dict[Kind, float] = {"event": 0.0, "result": 0.0}
        self.failed: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self.last_tick_ns = time.monotonic_ns()
        self.counts = {"delivered": 0, "dropped_results": 0, "dropped_events": 0, "refused": 0}
        self.set_limits(max_rows=max_rows, max_mb=max_mb, drain_per_s=drain_per_s)

    def set_limits(self, *, max_rows: int, max_mb: float, drain_per_s: float) -> None:
        """May change while running."""
        self._max_rows, self._max_bytes, self._drain_per_s = max_rows, int(max_mb * 1e6), drain_per_s

    def start(self) -> None:
        """Starts sending."""
        self._thread.start()

    def put(self, kind: Kind, message: Message) -> None:
        """Keeps the message for the broker. Any thread; never blocks on the network."""
        with self._lock:
            self._came += 1
            self._waiting[kind].append((self._came, message))
            self._bytes += len(message.payload)
            self._trim()

    def waiting(self) -> int:
        """Messages that the broker has not confirmed."""
        with self._lock:
            return self._count()

    def stop(self, timeout_s: float, *, wait_for_link: bool = False) -> int:
        """Sends what it can within `timeout_s`, at full rate, then ends. Returns how many messages are lost.

        With `wait_for_link` also where there is no connection yet.
        """
        self._drain_per_s = FULL_RATE_PER_S
        until = time.monotonic() + timeout_s
        while self.waiting() and (self._link.connected or wait_for_link) and time.monotonic() < until:
            self._stop.wait(0.02)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        return self.waiting()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.last_tick_ns = time.monotonic_ns()
                self._take_notices()
                self._send_some()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error

    def _take_notices(self) -> None:
        """Waits up to 50 ms for the first notice, then takes what is there."""
        try:
            notice = self._link.inbox.get(timeout=0.05)
            while True:
                if isinstance(notice, Receipt):
                    self._settle(notice)
                elif isinstance(notice, Down):
                    self._take_back()
                elif isinstance(notice, Up):
                    self._ups += 1
                notice = self._link.inbox.get_nowait()
        except queue.Empty:
            return

    def _settle(self, receipt: Receipt) -> None:
        with self._lock:
            kind, entry = self._in_flight.pop(receipt.token, (None, None))
            if kind is None or entry is None:
                return
            if receipt.accepted:
                self.counts["delivered"] += 1
                self._bytes -= len(entry[1].payload)
                return
            self.counts["refused"] += 1
            if receipt.code in HOPELESS:
                self._bytes -= len(entry[1].payload)
                return
            self._put_back(kind, entry)
            self._paused_until_s[kind] = time.monotonic() + REFUSED_PAUSE_S * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def _take_back(self) -> None:
        """The connection broke: what was not confirmed goes back to the front, in its order."""
        with self._lock:
            for kind, entry in self._in_flight.values():
                self._put_back(kind, entry)
            self._in_flight.clear()

    def _put_back(self, kind: Kind, entry: Entry) -> None:
        """To its place again, which is at the front, but behind what was put back before and had come earlier."""
        waiting = self._waiting[kind]
        waiting.insert(sum(1 for _ in takewhile(lambda other: other[0] < entry[0], waiting)), entry)

    def _send_some(self) -> None:
        now_s = time.monotonic()
        full = max(1.0, self._drain_per_s / 10)
        self._budget = min(full, self._budget + (now_s - self._refilled_at_s) * self._drain_per_s)
        self._refilled_at_s = now_s
        while self._budget >= 1 and self._is_settled() and self._send_next(now_s):
            self._budget -= 1

    def _is_settled(self) -> bool:
        """Whether the connection is the one that the notices spoke of last.

        On a newer one nothing may be sent yet: what the one before left unconfirmed comes first.
        """
        return self._link.connected and self._link.connections == self._ups

    def _send_next(self, now_s: float) -> bool:
        kinds: tuple[Kind, ...] = ("event", "result")
        with self._lock:
            kind = next((k for k in kinds if self._waiting[k] and now_s >= self._paused_until_s[k]), None)
            if kind is None or len(self._in_flight) >= WINDOW:
                return False
            entry, token = self._waiting[kind].popleft(), self._next_token
            self._in_flight[token] = (kind, entry)
            self._next_token += 1
        if self._link.send(replace(entry[1], token=token)):
            return True
        with self._lock:
            if self._in_flight.pop(token, None):
                self._put_back(kind, entry)
        return False

    def _count(self) -> int:
        return len(self._waiting["event"]) + len(self._waiting["result"]) + len(self._in_flight)

    def _trim(self) -> None:
        while self._count() > self._max_rows or self._bytes > self._max_bytes:
            kind: Kind = "result" if self._waiting["result"] else "event"
            if not self._waiting[kind]:
                return
            self._bytes -= len(self._waiting[kind].popleft()[1].payload)
            self.counts["dropped_results" if kind == "result" else "dropped_events"] += 1
