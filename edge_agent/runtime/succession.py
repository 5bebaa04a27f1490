"""Which engine serves, and how another takes its place.

An engine belongs to the thread that opened it. Where another is to take its place, a second thread opens that one beside
it, and takes over between two frames; the first closes its own and ends.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.core.datatypes import ModelSpec
from edge_agent.core.ports import Decoder
from edge_agent.errors import LabelsError
from edge_agent.runtime.engine import Engine

ROUND_S = 0.1
OpenEngine = Callable[[], Engine]
MakeDecoder = Callable[[ModelSpec], Decoder]
Introduce = Callable[[Engine], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """An engine's time at the mailroom. `over`: it is to leave after the frame under way. `left`: it has."""

    over: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


class Place(Protocol):
    """Where engines serve, one after the other."""

    @property
    def is_ending(self) -> bool:
        """Whether none is to step in any more."""
        ...

    def step_in(self, engine: Engine, introduce: Introduce) -> None:
        """Just before the first frame of an engine that took another's place. Where it raises, nobody serves."""
        ...

    def serve(self, engine: Engine, turn: Turn) -> None:
        """Until its turn is over; sets `turn.left`, and closes the engine."""
        ...


class Succession:
    """The engine that serves, the one that is about to, and the threads of both. Any thread.

    `engine` is to be set where the first one serves, and `turn` is that one's.
    """

    def __init__(self, place: Place, first: threading.Thread) -> None:
        self._place = place
        self._lock = threading.Lock()  # of what follows, and of the engines' decoders
        self._threads = [first]
        self._is_replacing = False
        self.turn = Turn()  # of the engine that serves
        self._coming: Engine | None = None  # that is about to
        self._make_decoder: MakeDecoder | None = None
        self.engine: Engine | None = None

    def join(self, timeout_s: float) -> bool:
        """Waits for the threads; False where one did not end in time."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            alive = [thread for thread in self._threads if thread.is_alive()]
        for thread in alive:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in alive)

    def replace(self, open_engine: OpenEngine, introduce: Introduce) -> "Future[Engine]":
        """See `Pipeline.replace`."""
        future: Future[Engine] = Future()
        arguments = (open_engine, introduce, future)
        successor = threading.Thread(target=self._run_next, args=arguments, name="pipeline", daemon=True)
        with self._lock:
            if self.engine is None or self._is_replacing:
                raise RuntimeError("one engine at a time: none serves yet, or another is being opened")
            if self._place.is_ending:
                future.set_exception(CancelledError())
                return future
            self._is_replacing = True
            self._threads = [*(thread for thread in self._threads if thread.is_alive()), successor]
            successor.start()
        return future

    def tune(self, make_decoder: MakeDecoder) -> None:
        """See `Pipeline.tune`."""
        with self._lock:
            engines = [engine for engine in (self.engine, self._coming) if engine is not None]
            decoders = [make_decoder(engine.model) for engine in engines]
            for engine, decoder in zip(engines, decoders, strict=True):
                engine.decoder = decoder
            self._make_decoder = make_decoder

    def _run_next(self, open_engine: OpenEngine, introduce: Introduce, future: "Future[Engine]") -> None:
        turn = Turn()
        try:
            engine = open_engine()
            try:
                self._take_over(engine, introduce, turn)
            except BaseException:
                engine.backend.close()
                raise
        except BaseException as error:  # noqa: BLE001 - it is for whoever wanted the engine
            self._is_replacing = False
            future.set_exception(error)
            return
        self._is_replacing = False
        future.set_result(engine)
        self._place.serve(engine, turn)

    def _take_over(self, engine: Engine, introduce: Introduce, turn: Turn) -> None:
        """Waits until the engine that serves has left, and steps into its place.

        Raises:
            LabelsError: the engine gives other labels.
            CancelledError: the pipeline ends.
        """
        self._prepare(engine)
        self.turn.over.set()
        while not self.turn.left.wait(ROUND_S) and not self._place.is_ending:
            pass
        with self._lock:
            self._coming = None
            if self._place.is_ending:
                raise CancelledError
            self.turn, self.engine = turn, engine
        self._place.step_in(engine, introduce)

    def _prepare(self, engine: Engine) -> None:
        """Has the engine see what the one that serves does."""
        labels = self.engine.model.labels if self.engine else ()
        if engine.model.labels != labels:
            raise LabelsError(
                f"{engine.model.name}: it gives the labels {', '.join(engine.model.labels)}, and the engine that serves "
                f"{', '.join(labels)}: it can take its place at the next start only"
            )
        with self._lock:
            if self._make_decoder is not None:
                engine.decoder = self._make_decoder(engine.model)
            self._coming = engine
