"""Sends what waits, events before results, and takes back what the broker did not confirm."""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core.ports import Message, Receipt
from edge_agent.runtime.link import Down, Link, Up
from edge_agent.runtime.outbox.keeper import Keeper, Quarantine
from edge_agent.runtime.outbox.losses import Loss
from edge_agent.runtime.outbox.rows import KINDS, Depth, Kind, Row
from edge_agent.runtime.outbox.sessions import SessionMark
from edge_agent.runtime.outbox.stock import Stock

WINDOW = 20  # unconfirmed at a time: fewer than any broker's receive maximum we know of
REFUSED_PAUSE_S = 5.0  # for the kind that was refused: the other goes on. Doubled each time,
LONGEST_PAUSE_S = 60.0  # up to this
HOPELESS = (0x90, 0x95, 0x99)  # MQTT 5, 3.4.2.1: topic, size or format will not do the next time either
SOON_S = 1.0  # a connection that breaks so soon after a message was sent may have broken of it:
STEADY_S = 1.5  # the next one must first stand for so long without it,
STRIKES = 3  # and after so many it was the message, and not the network
CONFIRM_S = 10.0  # a broker that lives, but leaves a message unconfirmed for so long, never will confirm it
FULL_RATE_PER_S = 100_000.0
WRITE_AT_STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class _Flight:
    row: Row
    sent_s: float


class Outbox:
    """Events before results. When it is full the oldest results go, then the oldest events; all are counted.

    Without a folder it keeps all in memory. `put` may be called by any thread and waits for nothing, disk or network.
    """

    def __init__(
        self,
        link: Link,
        *,
        max_rows: int,
        max_mb: float,
        drain_per_s: float,
        min_free_mb: float = 0,
        folder: Path | None = None,
    ) -> None:
        self._link = link
        self._stock = Stock()
        self._keeper = Keeper(self._stock, folder)
        self._in_flight: dict[int, _Flight] = {}
        self._next_token = 1
        self._ups = 0
        self._careful = 0  # so many are sent one at a time, after a connection broke or a message was refused
        self._suspect: Row | None = None  # the last connection may have broken of it
        self._budget = 0.0
        self._refilled_at_s = time.monotonic()
        self._paused_until_s: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
        self._pause_s: dict[Kind, float] = dict.fromkeys(KINDS, REFUSED_PAUSE_S)
        self._told = {"delivered": 0, "refused": 0, "unheard": 0}
        self.refused: dict[Kind, int] = {}  # kinds that the broker does not take now, and its reason code
        self.unheard: set[Kind] = set()  # kinds that nobody had subscribed to when the last one was sent
        self.failed: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self.last_tick_ns = time.monotonic_ns()
        self.set_limits(max_rows=max_rows, max_mb=max_mb, drain_per_s=drain_per_s, min_free_mb=min_free_mb)

    def set_limits(self, *, max_rows: int, max_mb: float, drain_per_s: float, min_free_mb: float = 0) -> None:
        """May change while running."""
        self._stock.max_rows, self._stock.max_bytes = max_rows, int(max_mb * 1e6)
        self._keeper.min_free_bytes = int(min_free_mb * 1e6)
        self._drain_per_s = drain_per_s
        self._keeper.wake.set()

    def start(self) -> None:
        """Reads what is left from before, and starts sending.

        Raises:
            FatalError: another agent keeps its records in the folder.
        """
        self._keeper.open()
        self._keeper.start()
        self._thread.start()

    def take_unclean(self) -> SessionMark | None:
        """An earlier session that was killed, or lost its power, as far as the disk knows; once. None: there is none.

        It is known after `start`; where the disk comes later, after that.
        """
        marker = self._keeper.marker
        unclean, marker.unclean = marker.unclean, None
        return unclean

    def note_session(self, session: str, read_last_seq: Callable[[], Mapping[str, int]]) -> None:
        """From now on the disk knows how far this session is: written about once a second, and at a stop as ended well.

        Call it when what `take_unclean` gave was put as events: these reach the disk first.

        Args:
            session: its id.
            read_last_seq: by camera, the last number that a verdict used; called by another thread.
        """
        self._keeper.marker.note(session, read_last_seq)
        self._keeper.wake.set()

    def put(self, kind: Kind, message: Message) -> None:
        """Keeps topic and payload for the broker, to be sent with QoS 1."""
        self._stock.put(kind, message)
        self._keeper.wake.set()

    def waiting(self) -> int:
        """Messages that the broker has not confirmed."""
        return self._stock.waiting()

    def depths(self) -> dict[Kind, Depth]:
        """Each kind of them by itself."""
        return self._stock.depths()

    @property
    def disk_free_bytes(self) -> int | None:
        """The room on the disk of the records when it was looked at last; None where they are not on one."""
        return None if self.trouble else self._keeper.disk_free_bytes

    @property
    def counts(self) -> dict[str, int]:
        """What became of them since the start."""
        return {**self._told, **self._stock.counts}

    @property
    def trouble(self) -> str | None:
        """Why what comes is kept in memory only, where it should be on disk."""
        return self._keeper.trouble or self._keeper.silence()

    def losses(self) -> list[Loss]:
        """What will not be delivered, since the last call."""
        return self._stock.losses.take()

    def quarantined(self) -> list[Quarantine]:
        """Files that could not be used, since the last call."""
        taken = []
        while self._keeper.quarantined:  # which another thread adds to meanwhile
            taken.append(self._keeper.quarantined.pop(0))
        return taken

    def stop(self, timeout_s: float, *, wait_for_link: bool = False) -> int:
        """Sends what it can within `timeout_s`, at full rate, then ends. Returns how many messages are lost.

        With `wait_for_link` also where there is no connection yet. What is on disk waits there for the next start.
        """
        self._drain_per_s = FULL_RATE_PER_S
        until = time.monotonic() + timeout_s
        while self.waiting() and (self._link.connected or wait_for_link) and time.monotonic() < until:
            self._stop.wait(0.02)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._keeper.stop(WRITE_AT_STOP_S)
        return self._stock.unwritten()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.last_tick_ns = time.monotonic_ns()
                self._take_notices()
                self._leave_if_unconfirmed()
                self._send_some()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error

    # ---- what the connection reports

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
                    self._came_up()
                notice = self._link.inbox.get_nowait()
        except queue.Empty:
            return

    def _leave_if_unconfirmed(self) -> None:
        """Where the oldest message waits for too long, only a fresh connection helps: else the window stays full."""
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is not None and self._is_settled() and time.monotonic() - oldest.sent_s > CONFIRM_S:
            if len(self._in_flight) == 1:
                self._strike(oldest.row)
                self._in_flight.clear()
            self._link.abort(f"a record was not confirmed within {CONFIRM_S:g} s")

    def _came_up(self) -> None:
        self._ups += 1
        if self._suspect is not None:
            steady_s = time.monotonic() + STEADY_S
            self._paused_until_s = {kind: max(until_s, steady_s) for kind, until_s in self._paused_until_s.items()}

    def _settle(self, receipt: Receipt) -> None:
        flight = self._in_flight.pop(receipt.token, None)
        if flight is None:
            return
        if receipt.accepted:
            self._delivered(flight.row, nobody_listens=receipt.nobody_listens)
            return
        self._told["refused"] += 1
        if receipt.code in HOPELESS:
            self._stock.set_aside(flight.row, f"the broker refused it for good (0x{receipt.code:02x})")
        else:
            self._refused(flight.row, receipt.code)

    def _delivered(self, row: Row, *, nobody_listens: bool) -> None:
        self._stock.delivered(row)
        self._told["delivered"] += 1
        self._careful = max(0, self._careful - 1)
        self._suspect = None
        self._pause_s[row.kind] = REFUSED_PAUSE_S
        self.refused.pop(row.kind, None)
        if nobody_listens:
            self._told["unheard"] += 1
            self.unheard.add(row.kind)
        else:
            self.unheard.discard(row.kind)

    def _refused(self, row: Row, code: int) -> None:
        """Not now: the kind waits, and goes on from its oldest, one at a time until one is taken."""
        self._stock.put_back(row)
        self._careful = max(self._careful, 1)
        self.refused[row.kind] = code
        now_s = time.monotonic()
        if now_s < self._paused_until_s[row.kind]:  # it was sent before the first of them was refused
            return
        self._paused_until_s[row.kind] = now_s + self._pause_s[row.kind] * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        self._pause_s[row.kind] = min(2 * self._pause_s[row.kind], LONGEST_PAUSE_S)

    def _take_back(self) -> None:
        """The connection broke: what was not confirmed goes back to the front, in its order."""
        flights = list(self._in_flight.values())
        self._in_flight.clear()
        self._careful = max(self._careful, len(flights))
        if len(flights) == 1 and time.monotonic() - flights[0].sent_s < SOON_S:
            self._strike(flights[0].row)
            return
        for flight in flights:
            self._stock.put_back(flight.row)

    def _strike(self, row: Row) -> None:
        """The connection broke with this one alone in flight."""
        row.strikes = row.strikes + 1 if self._suspect is row else 1
        if row.strikes < STRIKES:
            self._suspect = row
            self._stock.put_back(row)
        else:
            self._suspect = None
            self._stock.set_aside(row, f"the connection broke {STRIKES} times when it was sent")

    # ---- sending

    def _send_some(self) -> None:
        now_s = time.monotonic()
        full = max(1.0, self._drain_per_s / 10)
        self._budget = min(full, self._budget + (now_s - self._refilled_at_s) * self._drain_per_s)
        self._refilled_at_s = now_s
        while self._budget >= 1 and self._is_settled() and self._send_next(now_s):
            self._budget -= 1
        if any(self._stock.to_read(kind) is not None for kind in KINDS):
            self._keeper.wake.set()

    def _is_settled(self) -> bool:
        """Whether the connection is the one that the notices spoke of last.

        On a newer one nothing may be sent yet: what the one before left unconfirmed comes first.
        """
        return self._link.connected and self._link.connections == self._ups

    def _send_next(self, now_s: float) -> bool:
        if len(self._in_flight) >= (1 if self._careful else WINDOW):
            return False
        ready = (self._stock.next(kind) for kind in KINDS if now_s >= self._paused_until_s[kind])
        row = next((row for row in ready if row is not None), None)
        if row is None:
            return False
        token, self._next_token = self._next_token, self._next_token + 1
        self._in_flight[token] = _Flight(row, now_s)
        if self._link.send(Message(row.topic, row.payload, qos=1, token=token)):
            return True
        if self._in_flight.pop(token, None) is not None:
            self._not_sent(row)
        return False

    def _not_sent(self, row: Row) -> None:
        """The connection is gone, or could not write this one."""
        if self._in_flight or not self._careful:
            self._careful = max(self._careful, len(self._in_flight) + 1)
            self._stock.put_back(row)
        else:
            self._strike(row)
