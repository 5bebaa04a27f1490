"""A model that is loaded, warmed up and ready to look at pictures."""

from dataclasses import dataclass

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Detections, Image, ModelSpec
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
        """Resize, pad and convert into the engine's memory; what a GPU does of it belongs to `infer_ms`."""
        return (self.prepared_ns - self.started_ns) / 1e6

    @property
    def infer_ms(self) -> float:
        """The engine alone."""
        return (self.inferred_ns - self.prepared_ns) / 1e6

    @property
    def decode_ms(self) -> float:
        """Raw outputs to detections."""
        return (self.decoded_ns - self.inferred_ns) / 1e6


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

    def look(self, image: Image, clock: Clock = SYSTEM) -> tuple[Detections, Lap]:
        """What is in the picture, and where the time went."""
        started_ns = clock.mono_ns()
        letterbox = self.preprocessor.prepare(image)
        prepared_ns = clock.mono_ns()
        outputs = self.backend.infer()
        inferred_ns = clock.mono_ns()
        detections = self.decoder(outputs, letterbox)
        return detections, Lap(started_ns, prepared_ns, inferred_ns, clock.mono_ns())
