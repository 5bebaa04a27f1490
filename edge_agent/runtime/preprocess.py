"""From a camera's picture to the model's input, in the engine's own memory.

Each of the 256 pixel values has its target value in a table that is computed once in double precision, so that the
result is exactly rounded; where a cheaper operation gives the same 256 values, that is used. Only the inner region is
written per picture: the padding around it is written where a picture of another shape lay before. What is made ready for
a size of pictures stays, so that cameras of several sizes may take turns.

Pictures are resized with INTER_LINEAR, as Ultralytics does; but what `centre_crop` cuts out with INTER_AREA where it
shrinks. Classifiers are trained on pictures that PIL or TensorFlow shrank with a filter as wide as the step between
pixels: on four photographs, shrunk to 224 x 224, INTER_AREA differs from what PIL's bilinear filter gives by 2.0 of
255 on average (1.0 to 3.8), INTER_LINEAR by 5.5 (3.4 to 10.6). A grey picture is made after the resize.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np

from edge_agent.core.datatypes import Array, BoundTensor, Fit, Image, InputFormat, Later, TensorSpec, require_picture
from edge_agent.core.heads import input_wh, is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.errors import ModelError

_DTYPES = (np.float32, np.float16, np.uint8, np.int8)
_COLOURS = 3
_PIXELS = np.arange(256, dtype=np.uint8)
_SIGN = np.uint8(0x80)
_WAYS_MOST = 16  # sizes of pictures; more than cameras on one engine have

_Convert = Callable[[Array, Array], None]
"""From pixels, uint8, to what stands for them in the model's input, an array of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What is converted at once: all channels where they lie together, else one. `pixels` may be `out` itself."""

    pixels: Array
    out: Array
    convert: _Convert


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """What becomes of pictures of one size: they are cut and, unless `interpolation` is None, resized into `resized`."""

    letterbox: Letterbox
    cut: tuple[slice, slice]
    interpolation: int | None
    resized: Array
    parts: list[_Part]


class Preprocessor:
    """Writes pictures into a model's input: `(1, H, W, 3)` or `(1, 3, H, W)`; float32, float16, uint8 or int8.

    A `grey` format wants one channel in place of three. Nobody else may write into that input, the engine neither.
    `table` is `(channels, 256)` of the input's dtype: what stands there for each pixel value.

    Raises:
        ModelError: the input cannot take a picture in that format.
    """

    def __init__(self, input: BoundTensor, fmt: InputFormat) -> None:  # noqa: A002 - the word that the port uses
        self._fmt = fmt
        self._depth = 1 if fmt.channels == "grey" else _COLOURS
        self._model_wh, self._planar = _geometry(input.spec, self._depth)
        self.table = _table(input.spec, fmt, self._depth)
        self._table = _as_opencv_knows_it(self.table)
        self._memory = _as_opencv_knows_it(input.array)
        if self._depth == 1:  # one plane, whichever the layout
            self._memory = self._memory.reshape(1, 1, *self._model_wh[::-1])
        self._scratch = np.empty((2, self._model_wh[0] * self._model_wh[1] * _COLOURS), np.uint8)
        self._ways: dict[tuple[tuple[int, int], int], _Way] = {}
        depth = 1 if self._planar else self._depth
        self._padding = np.tile(self._table[:, fmt.pad_value].reshape(-1, 1, depth), (1, 1, self._model_wh[0]))
        self._inside = 0, self._model_wh[1], 0, self._model_wh[0]  # of the last picture; nothing is padded yet

    def prepare(self, picture: Image | Later) -> Letterbox:
        """Puts a picture, `(H, W, 3) uint8` BGR, into the model's input and says where it lies there.

        Of a compressed one it takes half of the sides, where that costs less and is still more than the model sees.

        Raises:
            BadFrameError: what the camera gave is no picture.
        """
        if isinstance(picture, Later):
            image, shrunk = picture.at_least(_least(picture.size, self._model_wh, self._fmt.fit))
            frame_wh = picture.size
        else:
            image, shrunk, frame_wh = picture, 1, (picture.shape[1], picture.shape[0])
        require_picture(image)
        way = self._ways.get((frame_wh, shrunk)) or self._find_way(frame_wh, shrunk)
        self.pad_around(way.letterbox)
        bgr: Array = image[way.cut]
        if way.interpolation is not None:
            cv2.resize(bgr, way.resized.shape[1::-1], dst=way.resized, interpolation=way.interpolation)
            bgr = way.resized
        self._order(bgr, [part.pixels for part in way.parts])
        for part in way.parts:
            part.convert(part.pixels, part.out)
        return way.letterbox

    def _order(self, bgr: Array, pixels: list[Array]) -> None:
        if self._depth == 1:
            cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY, dst=pixels[0])
        elif self._planar:
            cv2.split(bgr, pixels[::-1] if self._fmt.channels == "rgb" else pixels)
        elif self._fmt.channels == "rgb":
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=pixels[0])
        elif bgr is not pixels[0]:
            np.copyto(pixels[0], bgr)

    def _find_way(self, frame_wh: tuple[int, int], shrunk: int) -> _Way:
        letterbox = Letterbox.fit(frame_wh, self._model_wh, self._fmt.fit)
        if len(self._ways) == _WAYS_MOST:
            self._ways.clear()
        resized, parts = self._lay_out(*_inside(letterbox))
        top, left, height, width = (
            side // shrunk for side in (letterbox.crop_top, letterbox.crop_left, letterbox.crop_h, letterbox.crop_w)
        )
        how = _interpolation((width, height), (letterbox.inner_w, letterbox.inner_h), self._fmt.fit)
        cut = slice(top, top + height), slice(left, left + width)
        way = self._ways[frame_wh, shrunk] = _Way(letterbox, cut, how, resized, parts)
        return way

    def pad_around(self, letterbox: Letterbox) -> None:
        """Where the picture before lay and this one will not: by rows of W * 3 numbers, or of W in each plane."""
        inside = _inside(letterbox)
        if inside == self._inside:
            return
        (top, bottom, left, right), (old_top, old_bottom, old_left, old_right) = inside, self._inside
        width, height = self._model_wh
        depth = 1 if self._planar else self._depth
        rows = self._memory.reshape(self._depth // depth, height, width * depth)
        columns = slice(old_left * depth, old_right * depth)
        rows[:, old_top : max(old_top, top), columns] = self._padding[..., columns]
        rows[:, max(old_top, bottom) : old_bottom, columns] = self._padding[..., columns]
        for columns in (slice(old_left * depth, left * depth), slice(right * depth, old_right * depth)):
            rows[:, old_top:old_bottom, columns] = self._padding[..., columns]
        self._inside = inside

    def _lay_out(self, top: int, bottom: int, left: int, right: int) -> tuple[Array, list[_Part]]:
        """Where the inner region is resized into; and put in order in, and converted into."""
        height, width = bottom - top, right - left
        resized, ordered = (buffer[: height * width * _COLOURS] for buffer in self._scratch)
        if self._planar:
            outs = [plane[top:bottom, left:right] for plane in self._memory[0]]
            spare = list(ordered.reshape(_COLOURS, height, width)[: self._depth])
        else:
            outs = [self._memory[0, top:bottom, left:right]]
            spare = [ordered.reshape(height, width, _COLOURS)]
        converts = _converts(self._table, planar=self._planar, in_one_piece=outs[0].flags.c_contiguous)
        parts = [
            _Part(out if convert in (_keep, _flip_sign) else own, out, convert)
            for out, own, convert in zip(outs, spare, converts, strict=True)
        ]
        in_order = not self._planar and self._fmt.channels == "bgr"
        return parts[0].pixels if in_order else resized.reshape(height, width, _COLOURS), parts


def _geometry(spec: TensorSpec, depth: int) -> tuple[tuple[int, int], bool]:
    """Width and height, and whether each channel is a plane of its own; so is a grey picture's only one."""
    wh, planar = input_wh(spec), bool(is_planar(spec))
    if wh is None or spec.shape[1 if planar else 3] != depth:
        raise ModelError(
            f"the input {spec} does not take a {'grey ' if depth == 1 else ''}picture; it must be [1, H, W, {depth}] or "
            f"[1, {depth}, H, W] with a fixed size"
        )
    if spec.shape[0] != 1:
        raise ModelError(f"the input {spec} takes {spec.shape[0]} pictures at a time; export the model with batch=1")
    if spec.dtype not in _DTYPES:
        raise ModelError(f"the input {spec} takes neither float32, float16, uint8 nor int8; export the model so")
    return wh, planar or depth == 1


@lru_cache(maxsize=_WAYS_MOST)
def _least(frame_wh: tuple[int, int], model_wh: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """How large a picture in place of the frame must be, so that it is not enlarged."""
    box = Letterbox.fit(frame_wh, model_wh, fit)
    return -(-box.frame_w * box.inner_w // box.crop_w), -(-box.frame_h * box.inner_h // box.crop_h)


def _interpolation(from_wh: tuple[int, int], to_wh: tuple[int, int], fit: Fit) -> int | None:
    """See the module; None for the same size. INTER_AREA is a filter only where it shrinks both sides; else it repeats.

    Where both sides shrink to a third, a fifth and so on, INTER_LINEAR gives the pixel in the middle of each block and
    nothing of its neighbours; INTER_NEAREST_EXACT gives the same, in half the time.
    """
    if from_wh == to_wh:
        return None
    shrinks = to_wh[0] < from_wh[0] and to_wh[1] < from_wh[1]
    if fit != "centre_crop" and all(a % b == 0 and a // b % 2 == 1 for a, b in zip(from_wh, to_wh, strict=True)):
        return int(cv2.INTER_NEAREST_EXACT)
    return cv2.INTER_AREA if fit == "centre_crop" and shrinks else cv2.INTER_LINEAR


def _inside(letterbox: Letterbox) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the inner region."""
    top, left = letterbox.pad_top, letterbox.pad_left
    return top, top + letterbox.inner_h, left, left + letterbox.inner_w


def _table(spec: TensorSpec, fmt: InputFormat, depth: int) -> Array:
    """`(depth, 256)` of the input's dtype: for each channel, in the model's order, what stands for each pixel value."""
    mean, std = (np.array(values[:depth], np.float64).reshape(depth, 1) for values in (fmt.mean, fmt.std))
    real = (_PIXELS * np.float64(fmt.scale) - mean) / std
    if spec.dtype.kind == "f":
        floats: Array = real.astype(spec.dtype)
        return floats
    info = np.iinfo(spec.dtype)
    scale, zero_point = (spec.quant.scale, spec.quant.zero_point) if spec.quant else (1.0, 0)
    table: Array = np.clip(np.rint(real / scale) + zero_point, info.min, info.max).astype(spec.dtype)
    if (table[:, :-1] == table[:, 1:]).mean() > 0.9:  # noqa: PLR2004 - fewer than about 26 of the 256 values are left
        raise ModelError(
            f"the input {spec} cannot hold pictures whose values go from {real.min():g} to {real.max():g}: "
            "its quantisation is wrong or missing; export the model again, or with a float input"
        )
    return table


def _as_opencv_knows_it(array: Array) -> Array:
    """A view of the same bits in a type that OpenCV can look up and numpy need not convert."""
    same_bits: dict[Any, Any] = {np.dtype(np.int8): np.uint8, np.dtype(np.float16): np.uint16}
    view: Array = array.view(same_bits.get(array.dtype, array.dtype))
    return view


def _converts(table: Array, *, planar: bool, in_one_piece: bool) -> list[_Convert]:
    """For each plane; or the one for all channels together. `in_one_piece`: whether rows follow each other in memory."""
    if planar:
        return [_convert(row, in_one_piece=in_one_piece) for row in table]
    if (table == table[0]).all():
        return [_convert(table[0], in_one_piece=in_one_piece)]
    return [partial(_look_up, np.ascontiguousarray(table.T).reshape(1, 256, _COLOURS))]


def _convert(row: Array, *, in_one_piece: bool) -> _Convert:
    """The cheapest operation that gives the 256 values of `row`; numpy calculates in a copy where rows are apart."""
    if row.dtype == np.uint8:
        if np.array_equal(row, _PIXELS):
            return _keep
        if np.array_equal(row, _PIXELS ^ _SIGN):
            return _flip_sign
    if row.dtype == np.float32 and row[255] != 0:
        if np.array_equal(row, _PIXELS):
            return _copy
        if not in_one_piece:
            return partial(_look_up, row)
        for operation, factor in ((np.divide, 255 / float(row[255])), (np.multiply, float(row[255]) / 255)):
            if np.array_equal(operation(_PIXELS.astype(np.float32), np.float32(factor)), row):
                return partial(_scale, operation, np.float32(factor))
    return partial(_look_up, row)


def _keep(pixels: Array, out: Array) -> None:
    """The pixels are the numbers, and are there already."""


def _flip_sign(pixels: Array, out: Array) -> None:
    """The pixels are there already; q = pixel - 128, as int8."""
    np.bitwise_xor(pixels, _SIGN, out=out)


def _copy(pixels: Array, out: Array) -> None:
    np.copyto(out, pixels)


def _scale(operation: np.ufunc, factor: np.float32, pixels: Array, out: Array) -> None:
    """In two passes: numpy would convert and calculate in small pieces otherwise, which is slower."""
    np.copyto(out, pixels)
    operation(out, factor, out=out)


def _look_up(table: Array, pixels: Array, out: Array) -> None:
    cv2.LUT(pixels, table, dst=out)
