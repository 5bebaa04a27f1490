"""Pictures into a model's input by the GPU: one kernel (letterbox.cu) resizes, pads, orders colours and converts.

It calculates in integers as OpenCV does for INTER_LINEAR, and takes the input's values from the table of the CPU's
preprocessor: a picture comes out the same, bit for bit, but where OpenCV itself has other code for a processor. Pixels
and weights are those of OpenCV's `resize`, the same from 4.5 to 5.0 (modules/imgproc/src/resize.cpp).
"""

import ctypes
import math
from contextlib import ExitStack
from importlib.resources import files

import numpy as np

from edge_agent.core.datatypes import Array, Image, InputFormat, Later, TensorSpec, pixels_of, require_picture
from edge_agent.core.heads import input_wh, is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.cuda import Arguments, Cuda, DeviceMemory, HostMemory

_BLOCK = (32, 8, 1)
"""Threads: a warp of 32 writes to neighbouring places."""
_ONE = np.float32(2048)
"""The weight 1 in OpenCV's 11 bits."""
_TAP_BYTES = 16
"""Of `struct Tap` of letterbox.cu: two places and two weights."""
_COLOURS = 3


class _Work(ctypes.Structure):
    """`struct Work` of letterbox.cu."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("frame", "taps", "table", "input")),
        *((f"inner_{name}", ctypes.c_int32) for name in ("left", "top", "width", "height")),
        *((f"part_{name}", ctypes.c_int32) for name in ("left", "top", "width", "height")),
        *((f"{name}_step", ctypes.c_int32) for name in ("pixel", "row", "channel")),
        *((name, ctypes.c_int32) for name in ("channels", "rgb", "padding", "bytes")),
    )


class GpuPreprocessor:
    """Writes pictures into a model's input in the GPU's memory, as `runtime.preprocess.Preprocessor` does in the host's.

    `prepare` copies the rows of the picture that are needed into page-locked memory, puts the rest on the stream and
    does not wait: what the GPU takes for it is part of the run's time. Nothing is allocated but when pictures become
    larger. One thread uses it, that of `cuda`.
    """

    @staticmethod
    def for_(
        cuda: Cuda, spec: TensorSpec, memory: DeviceMemory, fmt: InputFormat, table: Array, *, mapped: bool
    ) -> "GpuPreprocessor | None":
        """For an input that takes a picture and lies in `memory`; None for `centre_crop`.

        Where that shrinks, pixels are averaged (OpenCV's INTER_AREA), which the kernel does not do. `table` is
        `(channels, 256)`: what stands in the input for each pixel value. `mapped`: the GPU reads a picture from the
        host's memory, else it is uploaded first.

        Raises:
            CudaError: there is no memory, or the driver does not take the kernel. Nothing is left behind.
        """
        if fmt.fit == "centre_crop":
            return None
        return GpuPreprocessor(cuda, spec, memory, fmt, table, mapped=mapped)

    def __init__(
        self, cuda: Cuda, spec: TensorSpec, memory: DeviceMemory, fmt: InputFormat, table: Array, *, mapped: bool
    ) -> None:
        self._cuda, self._spec, self._memory, self._fit = cuda, spec, memory, fmt.fit
        self._model_wh = input_wh(spec) or (0, 0)
        self._table, self._taps = _Shared(cuda, mapped=False), _Shared(cuda, mapped=False)
        self._frame = _Shared(cuda, mapped=mapped)
        self._letterbox: Letterbox | None = None
        self._is_packed = False
        self._rows: Array | None = None
        self._staged: Array = np.empty(0, np.uint8)
        with ExitStack() as stack:
            for shared in (self._table, self._taps, self._frame):
                stack.callback(shared.release)
            self._table.room(table.nbytes)[:] = np.ascontiguousarray(table).view(np.uint8).reshape(-1)
            self._table.hand_over()
            self._taps.room(sum(self._model_wh) * _TAP_BYTES)
            self._kernel = cuda.kernel(files(__package__).joinpath("letterbox.ptx").read_bytes(), "letterbox")
            stack.callback(cuda.release, self._kernel)
            self._undo = stack.pop_all()
        self._work = _work(spec, fmt, channels=len(table))
        self._work.taps, self._work.table, self._work.input = self._taps.address, self._table.address, memory.ptr
        self._arguments, self._grid = Arguments(self._work), (1, 1, 1)

    def prepare(self, picture: Image | Later) -> Letterbox:
        """Puts a picture, `(H, W, 3) uint8` BGR, into the model's input and says where it lies there."""
        image = pixels_of(picture)
        require_picture(image)
        frame_wh, is_packed = (image.shape[1], image.shape[0]), image.flags.c_contiguous
        letterbox = self._letterbox
        if letterbox is None or (letterbox.frame_w, letterbox.frame_h) != frame_wh or is_packed != self._is_packed:
            letterbox = self._change_geometry(frame_wh, is_packed=is_packed)
        if self._rows is None:
            np.copyto(self._staged, image)
        else:
            np.take(image, self._rows, axis=0, out=self._staged, mode="clip")
        self._frame.hand_over()
        self._cuda.launch(self._kernel, self._grid, _BLOCK, self._arguments)
        return letterbox

    def read(self) -> Array:
        """What stands in the input, in the host's memory; waits for it. Makes a new array."""
        nbytes = math.prod(self._spec.shape) * self._spec.dtype.itemsize
        host = self._cuda.host(nbytes)
        try:
            self._cuda.download(host, self._memory, nbytes)
            self._cuda.wait()
            numbers: Array = host.array.view(self._spec.dtype).reshape(self._spec.shape).copy()
            return numbers
        finally:
            self._cuda.release(host)

    def close(self) -> None:
        """Gives its memory back. Closing twice does nothing."""
        self._undo.close()

    def _change_geometry(self, frame_wh: tuple[int, int], *, is_packed: bool) -> Letterbox:
        self._letterbox = None  # until all is in order again
        self._cuda.wait()  # what is changed here may still be read
        new = Letterbox.fit(frame_wh, self._model_wh, self._fit)
        columns, rows = _taps(new.frame_w, new.inner_w, ends_are_whole=True), _taps(new.frame_h, new.inner_h)
        height = self._choose_rows(rows, new.frame_h, is_packed=is_packed)
        columns[:, :2] *= _COLOURS
        rows[:, :2] *= new.frame_w * _COLOURS
        taps = np.concatenate((columns, rows))
        self._taps.room(taps.nbytes)[:] = taps.view(np.uint8).reshape(-1)
        self._taps.hand_over()
        staged = self._frame.room(height * new.frame_w * _COLOURS)
        self._staged = staged.reshape(height, new.frame_w, _COLOURS)
        self._work.frame = self._frame.address
        self._aim(new)
        self._is_packed, self._letterbox = is_packed, new
        return new

    def _choose_rows(self, rows: Array, height: int, *, is_packed: bool) -> int:
        """How many rows of the picture are staged; `rows`, places in the picture, become places among those.

        Where it shrinks to less than half, some are not looked at. Rows of a view would be copied one time more.
        """
        needed = np.unique(rows[:, :2])
        if not is_packed or len(needed) == height:
            self._rows = None
            return height
        self._rows = needed.astype(np.intp)
        rows[:, :2] = np.searchsorted(needed, rows[:, :2])
        return len(needed)

    def _aim(self, new: Letterbox) -> None:
        """Writes all of the input once, padding and what happens to be staged; after that the kernel writes inside."""
        work, inside = self._work, (new.pad_left, new.pad_top, new.inner_w, new.inner_h)
        work.inner_left, work.inner_top, work.inner_width, work.inner_height = inside
        self._aim_at(0, 0, *self._model_wh)
        self._cuda.launch(self._kernel, self._grid, _BLOCK, self._arguments)
        self._aim_at(*inside)

    def _aim_at(self, left: int, top: int, width: int, height: int) -> None:
        work = self._work
        work.part_left, work.part_top, work.part_width, work.part_height = left, top, width, height
        self._grid = -(-width // _BLOCK[0]), -(-height // _BLOCK[1]), 1


class _Shared:
    """Memory that the CPU writes and the GPU reads: in place (`mapped`), or as a copy on the device."""

    def __init__(self, cuda: Cuda, *, mapped: bool) -> None:
        self._cuda, self._mapped = cuda, mapped
        self._host: HostMemory | None = None
        self._device: DeviceMemory | None = None
        self._used = 0

    def room(self, nbytes: int) -> Array:
        """Its first bytes, to write into. Where it is too small, there is other memory from now on."""
        if self._host is None or self._host.nbytes < nbytes:
            self.release()
            self._host = self._cuda.host(nbytes)
            self._device = None if self._mapped else self._cuda.device(nbytes)
        self._used = nbytes
        return self._host.array[:nbytes]

    @property
    def address(self) -> int:
        """Where the GPU finds it."""
        if self._device is not None:
            return self._device.ptr
        return self._host.device_ptr if self._host is not None else 0

    def hand_over(self) -> None:
        """What goes on the stream from now on finds what was written."""
        if self._host is not None and self._device is not None:
            self._cuda.upload(self._device, self._host, self._used)

    def release(self) -> None:
        """Gives it back; twice does nothing."""
        for memory in (self._host, self._device):
            if memory is not None:
                self._cuda.release(memory)
        self._host = self._device = None


def _work(spec: TensorSpec, fmt: InputFormat, *, channels: int) -> _Work:
    """With what does not depend on pictures and places in memory."""
    width, height = input_wh(spec) or (0, 0)
    planar = bool(is_planar(spec)) or channels == 1
    return _Work(
        pixel_step=1 if planar else channels,
        row_step=width if planar else width * channels,
        channel_step=width * height if planar else 1,
        channels=channels,
        rgb=fmt.channels == "rgb",
        padding=fmt.pad_value,
        bytes=spec.dtype.itemsize,
    )


def _taps(source: int, target: int, *, ends_are_whole: bool = False) -> Array:
    """`(target, 4) int32`: two places of `source` and their weights, for each place of an axis that is resized.

    Centres of pixels come to lie on centres. Beyond the outermost ones `ends_are_whole` takes these alone, as OpenCV does
    for columns; for rows it blends the outermost with itself, which rounds otherwise.
    """
    at = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(at)
    part = at - first
    if ends_are_whole:
        part[(first < 0) | (first >= source - 1)] = 0
    places = np.clip((first, first + 1), 0, source - 1)
    weights = np.rint(((1 - part) * _ONE, part * _ONE))
    taps: Array = np.concatenate((places, weights)).T.astype(np.int32, order="C")
    return taps
