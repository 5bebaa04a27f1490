"""The values that travel the road of a frame. All are frozen; arrays are not changed once they are inside."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import BadFrameError

Array = NDArray[Any]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
Image = NDArray[np.uint8]
"""`(H, W, 3) uint8`, BGR as OpenCV has it."""
Fit = Literal["letterbox", "letterbox_top_left", "stretch", "centre_crop"]


class Later:
    """A picture that is made when it is first asked for, and once: compressed ones that are dropped cost no decoding.

    `size` is (width, height) in pixels. `make`, and `make_half` where a picture of half the sides costs less, raise
    `BadFrameError` where there is no picture in it. Any thread may ask; a second one waits for the first.
    """

    __slots__ = ("_half", "_image", "_lock", "_make", "_make_half", "size")

    def __init__(
        self, make: Callable[[], Image], size: tuple[int, int], make_half: Callable[[], Image] | None = None
    ) -> None:
        self._make, self._make_half, self.size = make, make_half, size
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._half: Image | None = None

    @property
    def image(self) -> Image:
        """The picture."""
        with self._lock:
            return self._whole()

    def at_least(self, wh: tuple[int, int]) -> tuple[Image, int]:
        """The picture and 1; or one with sides half as long, which are still at least `wh`, and 2.

        That is where half of it costs less, and nobody has asked for all of it.
        """
        width, height = self.size
        fits = width % 2 == height % 2 == 0 and width >= 2 * wh[0] and height >= 2 * wh[1]
        with self._lock:
            if self._image is not None or self._make_half is None or not fits:
                return self._whole(), 1
            if self._half is None:
                self._half = self._make_half()
            return self._half, 2

    def _whole(self) -> Image:
        image = self._image
        if image is None:
            image = self._image = self._make()
            self._make, self._make_half, self._half = lambda: image, None, None  # what they hold is let go
        return image


def pixels_of(picture: Image | Later) -> Image:
    """All of them; raises `BadFrameError` where what the camera gave is no picture."""
    return picture.image if isinstance(picture, Later) else picture


def require_picture(image: Image) -> None:
    """Raises `BadFrameError` for what is not `(H, W, 3) uint8`: OpenCV would not write it into memory for one that is."""
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise BadFrameError(
            f"the camera gave an array of {image.shape} {image.dtype}, and no picture of (H, W, 3) uint8"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a camera.

    `seq` rises by one per picture the device made: a gap is a picture lost before it reached us. `captured_ns` is
    CLOCK_MONOTONIC, from the sensor or driver where it tells. `source` names the file where there is one.
    """

    picture: Image | Later
    seq: int
    captured_ns: int
    source: str = ""

    @property
    def image(self) -> Image:
        """The pixels; the first to ask for those of a compressed picture waits for its decoding.

        Raises:
            BadFrameError: what the camera gave is no picture.
        """
        return pixels_of(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, known without decoding."""
        return self.picture.size if isinstance(self.picture, Later) else (self.picture.shape[1], self.picture.shape[0])


@dataclass(frozen=True, slots=True)
class Quantisation:
    """`real = (q - zero_point) * scale`, one pair for the whole tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model. A dimension that is not known before the first run is -1."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quant: Quantisation | None = None

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)} {self.dtype}"


@dataclass(frozen=True, slots=True, eq=False)
class BoundTensor:
    """A tensor and the memory the engine reads it from: writing into `array` is all it takes to set it."""

    spec: TensorSpec
    array: Array


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is known about a model before it runs: what decoders choose by.

    `format` is the file's kind (`tflite`, `onnx`, `engine`, `recorded`). `metadata` is what the file says about
    itself, in plain Python values. `labels` is empty where neither the file nor the configuration names the classes.
    """

    name: str
    sha256: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None


@dataclass(frozen=True, slots=True)
class InputFormat:
    """How a model wants its picture.

    Per channel the value is `(pixel * scale - mean) / std` with pixel 0..255; `mean` and `std` follow `channels`; a
    `grey` model has one channel and takes the first of each.
    `fit`: `letterbox` keeps the proportions and pads both sides, `letterbox_top_left` pads right and bottom only,
    `stretch` does not keep them, `centre_crop` keeps them and cuts off what is longer. `pad_value` is a pixel, 0..255.
    `constants`: what stands in the model's other inputs, by their names, all the time; one number fills the whole
    input (`pixel_mask`).
    """

    fit: Fit = "letterbox"
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_value: int = 114
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`conf`: a detection is kept when its score is above. `iou`: of two of a class that overlap more, one is kept."""

    conf: float = 0.25
    iou: float = 0.7
    max_detections: int = 300


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one frame, best score first.

    `boxes` `(N, 4) float32` xyxy in frame pixels, inside the frame; `scores` `(N,) float32` 0..1; `classes`
    `(N,) int32`, indices into the labels.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.classes.shape != (n,):
            raise ValueError(
                f"boxes must be (N, 4) with N scores and N classes, not {self.boxes.shape}, {self.scores.shape} "
                f"and {self.classes.shape}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Array | slice) -> "Detections":
        """The detections that a boolean mask, an index array or a slice selects."""
        return Detections(self.boxes[index], self.scores[index], self.classes[index])

    @staticmethod
    def empty() -> "Detections":
        """No detections."""
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


class Certainty(IntEnum):
    """What a decoder recognised a model by; the surest wins."""

    SHAPES = 1
    NAMES = 2
    METADATA = 3


@dataclass(frozen=True, slots=True)
class Recognition:
    """A decoder's claim that a model is its own: the settings to decode it with, and why, in words."""

    certainty: Certainty
    settings: Mapping[str, Any]
    why: str
