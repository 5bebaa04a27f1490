"""One connection, kept: a thread opens it, does its work, and opens it anew when it breaks."""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from structlog.typing import FilteringBoundLogger

from edge_agent.core.ports import Heard, Message, Publisher, Receipt
from edge_agent.errors import FatalError, TransientError
from edge_agent.runtime.rarely import Rarely

POLL_S = 0.25  # how often the thread ticks, and how late it may notice `stop` and `reopen`
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
UNSTABLE = 3  # short lives in a row: one may be chance, and a broker that is started again makes two
LASTED_S = 10.0  # a connection that lived that long was a good one: back-off starts anew after it


@dataclass(frozen=True, slots=True)
class Up:
    """A fresh connection stands: what was sent on the one before and has no receipt is open."""


@dataclass(frozen=True, slots=True)
class Down:
    """There is no connection: it broke, or opening it failed for another reason than the time before."""

    reason: str


Notice = Up | Down | Receipt


class Link:
    """Owns the thread of one connection. All methods may be called from any thread.

    `inbox` is for one owner: `Up`, the receipts of that connection, `Down`, and so on, in order. `hear` gets what comes
    in on subscriptions, in the connection's thread: it has to be quick.
    """

    def __init__(
        self,
        name: str,
        open_: Callable[[], Publisher],
        log: FilteringBoundLogger | None = None,
        *,
        hear: Callable[[Heard], None] | None = None,
    ) -> None:
        self.inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self.connections = 0
        self.refused: Mapping[str, str] = {}  # topics that the last connection could not subscribe to, and why
        self.outage_s = 0.0  # before the present connection; and why the one before ended:
        self.outage_reason = ""
        self._ended_s = time.monotonic()
        self.short_lives = 0  # connections in a row that the other side let live for less than LASTED_S
        self.unheard = 0  # messages that came in and were lost, because of an error or because nobody listens
        self.last_tick_ns = time.monotonic_ns()
        self.is_connecting = False  # a resolver may take long over that: no reason to restart
        self.failed: BaseException | None = None
        self._open, self._hear = open_, hear
        self._unheard_told = Rarely()
        self._log = (log or structlog.get_logger()).bind(link=name)
        self._thread = threading.Thread(target=self._run, name=f"link-{name}", daemon=True)
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._cut: str | None = None  # why `abort` cut the present connection
        self._stopping = self._reopening = False
        self._hurry = threading.Event()  # ends a back-off
        self._wait_s = FIRST_WAIT_S
        self._last_reason: str | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self._publisher is not None

    @property
    def is_unstable(self) -> bool:
        """Whether the other side ends its connections soon after they stand, again and again."""
        return self.short_lives >= UNSTABLE

    def start(self) -> None:
        """Starts connecting and returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Closes cleanly, so that the will is not sent, and ends the thread; waits up to `timeout_s` for it."""
        self._stopping = True
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def send(self, message: Message) -> bool:
        """Writes the message to the connection now. False: it was not sent and never will be."""
        publisher = self._publisher
        if publisher is None:
            return False
        try:
            publisher.send(message)
        except TransientError:
            return False
        except Exception:  # noqa: BLE001 - a bug in a driver must not end the pipeline
            self._log.exception("link_send_failed")
            self.abort("a message could not be written because of an error")
            return False
        return True

    def abort(self, reason: str) -> None:
        """Cuts the present connection now, with all that is in flight; a fresh one is opened at once."""
        with self._lock:
            if self._publisher is None or self._cut is not None:
                return
            self._cut = reason
            self._publisher.close(abort=True)

    def hurry(self) -> None:
        """Ends a back-off: there is reason to believe that the other side is back."""
        self._hurry.set()

    def reopen(self) -> None:
        """Closes cleanly and opens anew, for new credentials. Ends a back-off too."""
        self._reopening = True
        self._hurry.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._tick()
                self._hurry.clear()
                self._reopening = False
                wait_s = self._live_once()
                if wait_s > 0 and not self._stopping:
                    self._wait(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - so that a plant does not knock in step
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.failed = error

    def _live_once(self) -> float:
        """Opens a connection and stays with it until it ends. Seconds to wait before the next."""
        self.is_connecting = True
        try:
            publisher = self._open()
        except TransientError as err:
            return self._failed(str(err), self._back_off())
        except FatalError as err:  # a secret or certificate that was changed while we run
            return self._failed(str(err), LONGEST_WAIT_S)
        except Exception as err:  # noqa: BLE001 - a bug must show, but not end the line's connection for good
            self._log.exception("link_open_failed")
            return self._failed(f"internal error: {err!r}", LONGEST_WAIT_S)
        finally:
            self.is_connecting = False
            self._tick()
        self._up(publisher)
        opened_s = time.monotonic()
        broken = self._serve(publisher, opened_s)
        return self._down(publisher, broken, time.monotonic() - opened_s)

    def _serve(self, publisher: Publisher, opened_s: float) -> str | None:
        """Does the connection's work until it breaks, or None: until it is to be closed."""
        try:
            while not (self._stopping or self._reopening):
                self._tick()
                for item in publisher.poll(POLL_S):
                    if isinstance(item, Heard):
                        self._pass_on(item)
                    else:
                        self.inbox.put(item)
                self._note_age(time.monotonic() - opened_s)
        except TransientError as err:
            return str(err)
        except Exception as err:  # noqa: BLE001 - likewise
            self._log.exception("link_poll_failed")
            return f"internal error: {err!r}"
        return None

    def _pass_on(self, heard: Heard) -> None:
        try:
            if self._hear is not None:
                self._hear(heard)
                return
        except Exception:  # noqa: BLE001 - likewise; and the next message may be a good one
            if (unlogged := self._unheard_told.now()) is not None:
                self._log.exception("link_hear_failed", topic=heard.topic, unlogged=unlogged)
        self.unheard += 1

    def _up(self, publisher: Publisher) -> None:
        self.outage_s = time.monotonic() - self._ended_s
        self.connections += 1
        self._last_reason = None
        refused = self.refused = publisher.refused
        self._log.info("link_up", connection=self.connections)
        if refused:
            self._log.error("link_subscription_refused", topics=dict(refused))
        self._publisher = publisher  # before the news of it, which makes its reader send
        self.inbox.put(Up())

    def _down(self, publisher: Publisher, broken: str | None, lasted_s: float) -> float:
        with self._lock:
            self._publisher = None
            cut, self._cut = self._cut, None
        publisher.close(abort=broken is not None)
        reason = cut or broken or ("stopped" if self._stopping else "reopened")
        self._ended_s, self.outage_reason = time.monotonic(), reason
        by_other_side = broken is not None and not cut
        self.short_lives += by_other_side
        self._note_age(lasted_s)
        say = self._log.info if self._stopping else self._log.warning
        say("link_down", reason=reason, lasted_s=round(lasted_s, 1), short_lives=self.short_lives)
        self.inbox.put(Down(reason))
        return self._back_off() if by_other_side else 0.0

    def _note_age(self, lived_s: float) -> None:
        if lived_s >= LASTED_S:
            self._wait_s, self.short_lives = FIRST_WAIT_S, 0

    def _failed(self, reason: str, wait_s: float) -> float:
        if reason == self._last_reason:
            self._log.debug("link_retry", reason=reason, wait_s=wait_s)
        else:
            self._last_reason = reason
            self._log.warning("link_retry", reason=reason, wait_s=wait_s)
            self.inbox.put(Down(reason))
        return wait_s

    def _back_off(self) -> float:
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        return wait_s

    def _wait(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._hurry.wait(min(left_s, POLL_S)):
            self._tick()

    def _tick(self) -> None:
        self.last_tick_ns = time.monotonic_ns()
