"""A model that is loaded, warmed up and ready to look at pictures."""

from dataclasses import dataclass
from typing import Protocol

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Detections, Image, Later, ModelSpec
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Backend, Decoder, Preprocessing


@dataclass(frozen=True, slots=True)
class Lap:
    """When each stage of one picture ended, CLOCK_MONOTONIC."""

    started_ns: int
    prepared_ns: int
    inferred_ns: int
    decoded_ns: int

    @property
    def preprocess_ms(self) -> float:
        """Decode, resize, pad and convert into the engine's memory, as far as that was still to be done.

        What a GPU does of it belongs to `infer_ms`.
        """
        return (self.prepared_ns - self.started_ns) / 1e6

    @property
    def infer_ms(self) -> float:
        """The engine alone."""
        return (self.inferred_ns - self.prepared_ns) / 1e6

    @property
    def decode_ms(self) -> float:
        """Raw outputs to detections."""
        return (self.decoded_ns - self.inferred_ns) / 1e6


class Preparing(Protocol):
    """Prepares pictures ahead of time. `Ahead` does."""

    def prepare(self, picture: Image | Later) -> Letterbox:
        """In place of the engine's own preprocessor."""
        ...

    def run_begins(self) -> None:
        """The engine is about to run."""
        ...

    def run_ended(self) -> None:
        """It has run."""
        ...


_ON_DEVICE = ("tensorrt",)


@dataclass(slots=True)
class Engine:
    """One thread makes it, uses it and closes it. `decoder` may be replaced between two pictures."""

    backend: Backend
    preprocessor: Preprocessing
    decoder: Decoder
    model: ModelSpec
    backend_kind: str
    decoder_kind: str
    reason: str

    @property
    def is_on_device(self) -> bool:
        """Whether the thread that drives it sleeps while it runs: it computes on something else than the CPU."""
        return self.backend_kind in _ON_DEVICE

    def look(
        self, picture: Image | Later, clock: Clock = SYSTEM, ahead: Preparing | None = None
    ) -> tuple[Detections, Lap]:
        """What is in the picture, and where the time went."""
        started_ns = clock.mono_ns()
        letterbox = (ahead or self.preprocessor).prepare(picture)
        if ahead:
            ahead.run_begins()
        prepared_ns = clock.mono_ns()
        outputs = self.backend.infer()
        inferred_ns = clock.mono_ns()
        if ahead:
            ahead.run_ended()
        detections = self.decoder(outputs, letterbox)
        return detections, Lap(started_ns, prepared_ns, inferred_ns, clock.mono_ns())
