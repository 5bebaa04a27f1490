"""The seams: what each kind of driver promises. Drivers open in `create`, block with a timeout, return and close.

Retries, threads and clocks are the runtime's business. A driver is used by one thread, unless a method says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_agent.core.datatypes import Array, BoundTensor, Detections, Frame, Image, InputFormat, Later, TensorSpec
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.parts import Decision


class Camera(Protocol):
    """`create(config)` opens it, or raises `CameraLostError`.

    A driver that knows more says so in attributes, each of which may be missing. `given`: what the device really gives, by
    the configuration's keys and in its units; a new mapping when it changes. `refused`: each setting that differs, with
    what was asked and what is given, None where it cannot be set. `skipped`: how many pictures could not be read.
    """

    def read(self, timeout_s: float) -> Frame:
        """The next frame, with `seq` and `captured_ns` rising.

        Raises:
            FrameTimeoutError: no frame came within `timeout_s`; reading again is allowed.
            CameraLostError: the camera must be closed and opened anew.
            EndOfStreamError: a finite source has ended.
        """
        ...

    def close(self) -> None:
        """Lets go of the device. Closing twice does nothing."""
        ...


class Preprocessing(Protocol):
    """Writes pictures into a model's input."""

    def prepare(self, picture: Image | Later) -> Letterbox:
        """Puts a picture into the input, or has that begun: the next run of the engine sees it. Says where it lies there.

        Raises:
            BadFrameError: what the camera gave is no picture.
        """
        ...


class DevicePreprocessing(Preprocessing, Protocol):
    """By the engine's own device, into its memory there."""

    def read(self) -> Array:
        """What stands in the input on the device now; waits for it."""
        ...

    def close(self) -> None:
        """Gives its memory back; the engine's `close` does so too. Closing twice does nothing."""
        ...


class Backend(Protocol):
    """An inference engine with a model loaded. `create(config)` loads it, or raises `ModelError`.

    One whose device can write pictures has two more methods. `device_preprocessor(fmt, table)` gives a
    `DevicePreprocessing` for the input that takes the picture, and lets `infer` run on what that writes; None, and nothing
    has changed, where it cannot do what `fmt` asks for. `table` is `(channels, 256)`: what stands in the input for each
    pixel value. `picture_from_gpu(wanted=False)` lets `infer` run on the input's array again, `wanted=True` on what the
    device wrote.
    """

    @property
    def runtime(self) -> str:
        """The engine in words, with its version and options: `ai-edge-litert 2.3.0, 4 threads`."""
        ...

    @property
    def inputs(self) -> Sequence[BoundTensor]:
        """Each input with a writable view of the engine's own memory, valid until `close`; a run leaves it unchanged."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What `infer` returns, in its order."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the model file says about itself, as it stands there; empty where it says nothing."""
        ...

    def infer(self) -> Sequence[Array]:
        """Runs the model on what stands in `inputs`. The arrays are read-only views, valid until the next call."""
        ...

    def close(self) -> None:
        """Frees the engine. Views must not be used afterwards. Closing twice does nothing."""
        ...


class Decoder(Protocol):
    """Raw outputs to detections. Pure: the same outputs give the same detections."""

    @property
    def input_format(self) -> InputFormat:
        """How the model wants its picture."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every class it can give."""
        ...

    def check(self, outputs: Sequence[Array]) -> None:
        """Looks at what a warm-up run gave: raises `ModelError` where it is not what this decoder expects."""
        ...

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """Detections in frame pixels, best first, clipped to the frame; NaN and infinite rows are left out."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish. With a `token`, a `Receipt` follows when the other side has it."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry_s: int | None = None
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message. `code` is the MQTT 5 reason code: below 0x80 the broker has it."""

    token: int
    code: int

    @property
    def accepted(self) -> bool:
        """Whether the broker has the message."""
        return self.code < 0x80  # noqa: PLR2004 - MQTT 5, 2.4: reason codes from 0x80 are failures

    @property
    def nobody_listens(self) -> bool:
        """Whether the broker said that nobody subscribed to the topic."""
        return self.code == 0x10  # noqa: PLR2004 - MQTT 5, 3.4.2.1: no matching subscribers


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that came in on a subscription. `retained`: it was published to be kept, or had been.

    `expiry_s` is what is left of its validity, None where it has no end. `received_ns` is CLOCK_MONOTONIC when it was read;
    it may have been here for up to `waited_ns`, because nobody looked.
    """

    topic: str
    payload: bytes
    retained: bool
    expiry_s: int | None
    received_ns: int
    waited_ns: int = 0


class Publisher(Protocol):
    """One connection to where messages go. `create(config, ...)` returns when it is up, or raises `PublisherLostError`.

    It has subscribed then too, where `create` was given topics. `refused`: what the other side said to those it did not
    grant, in words, by topic.

    Nothing is queued behind the caller's back and nothing is sent again after a reconnect: a message that was handed
    over and has no receipt when the connection breaks is the caller's to send again, or not.
    """

    @property
    def refused(self) -> Mapping[str, str]:
        """The topics that it could not subscribe to, and why."""
        ...

    def send(self, message: Message) -> None:
        """Writes the message to the connection now. Any thread may call it.

        Raises:
            PublisherLostError: there is no connection; the message was not sent and will not be.
        """
        ...

    def poll(self, timeout_s: float) -> Sequence[Receipt | Heard]:
        """Does the connection's work for up to `timeout_s` and returns what came. One thread calls it.

        Raises:
            PublisherLostError: the connection broke.
        """
        ...

    def close(self, *, abort: bool = False) -> None:
        """Says goodbye, so that the will is not sent; `abort` cuts without lingering. Closing twice does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found on one part in one frame: names and scores 0..1 of the detections whose centre it contains.

    `scores` are the same by name, the lowest first: sorted once, so that many rules and many detections together cost what
    each would cost alone.
    """

    found: tuple[tuple[str, float], ...]
    scores: Mapping[str, Sequence[float]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        scores: dict[str, list[float]] = {}
        for label, score in self.found:
            scores.setdefault(label, []).append(score)
        for of_label in scores.values():
            of_label.sort()
        object.__setattr__(self, "scores", scores)


class Rule(Protocol):
    """Watches one part from its first frame to its last; `create(config)` makes one for each part. Pure."""

    def update(self, seen: Observation) -> None:
        """One more frame of the part."""
        ...

    def decide(self) -> Decision:
        """What all frames so far say."""
        ...


@dataclass(frozen=True, slots=True)
class Edge:
    """A change of an input line: when (CLOCK_MONOTONIC), by the kernel, and how many before it were lost."""

    at_ns: int
    lost: int = 0


class Sensor(Protocol):
    """An input that says when a part comes. `create(config)` opens it, or raises `SensorLostError`."""

    def read(self, timeout_s: float) -> Sequence[Edge]:
        """The edges that came, in their order; none where none came within `timeout_s`.

        Raises:
            SensorLostError: it must be closed and opened anew.
        """
        ...

    def close(self) -> None:
        """Lets go of it. Closing twice does nothing."""
        ...
