"""Which preprocessing a model gets: the CPU's, or that of the engine's device where it gives the same and is faster."""

from statistics import median
from typing import Any

import numpy as np
import structlog

from edge_agent.clock import SYSTEM
from edge_agent.core.datatypes import Array, BoundTensor, Image, InputFormat, TensorSpec
from edge_agent.core.heads import is_planar
from edge_agent.core.ports import Backend, DevicePreprocessing, Preprocessing
from edge_agent.errors import EdgeAgentError
from edge_agent.runtime.preprocess import Preprocessor

log = structlog.get_logger()
_OTHER_WH = (333, 517)
"""A second picture to compare: one that is enlarged in most models, to and from odd sizes."""
_ROUNDS_LEAST, _ROUNDS_MOST, _ROUNDS_S = 2, 4, 1.0
_RUNS = 5
_NO_PIXEL = 255


def choose_preprocessor(
    backend: Backend, picture: BoundTensor, fmt: InputFormat, frame_wh: tuple[int, int] = (1280, 720)
) -> Preprocessing:
    """For the input that takes the picture, and pictures of about `frame_wh`. The engine runs some times.

    Where there is any doubt about what the device writes, the CPU does it, with a warning.

    Raises:
        ModelError: the input cannot take a picture in that format.
    """
    cpu = Preprocessor(picture, fmt)
    offer: Any = getattr(backend, "device_preprocessor", None)
    if offer is None:
        return cpu
    try:
        device: DevicePreprocessing | None = offer(fmt, cpu.table)
    except EdgeAgentError as error:
        log.warning("gpu_preprocessing_unused", reason=str(error))
        return cpu
    if device is None:
        log.info("preprocessing", chosen="cpu", reason=f"the engine's device does not do {fmt.fit}")
        return cpu
    if _device_wins(backend, picture, cpu, device, frame_wh):
        return device
    _let_device_write(backend, wanted=False)
    device.close()
    return cpu


def _device_wins(
    backend: Backend,
    picture: BoundTensor,
    cpu: Preprocessor,
    device: DevicePreprocessing,
    frame_wh: tuple[int, int],
) -> bool:
    try:
        doubt = _difference(picture, cpu, device, _OTHER_WH) or _difference(picture, cpu, device, frame_wh)
        if not doubt:
            cpu_ms, device_ms = _time_both(backend, cpu, device, frame_wh)
    except EdgeAgentError as error:
        doubt = str(error)
    if doubt:
        log.warning("gpu_preprocessing_unused", reason=doubt)
        return False
    chosen = "gpu" if device_ms < cpu_ms else "cpu"
    log.info("preprocessing", chosen=chosen, cpu_ms=round(cpu_ms, 3), gpu_ms=round(device_ms, 3), size=list(frame_wh))
    return chosen == "gpu"


def _difference(picture: BoundTensor, cpu: Preprocessor, device: DevicePreprocessing, frame_wh: tuple[int, int]) -> str:
    """What is wrong with what the device makes of a picture, in words; empty where it is as good as the CPU's."""
    image = _noise(frame_wh)
    place = cpu.prepare(image)
    wanted = picture.array.copy()
    if device.prepare(image) != place:
        return "the GPU puts pictures in another place than the CPU"
    apart = steps_apart(picture.spec, cpu.table, wanted, device.read())
    if apart.max() <= 1:  # OpenCV has code of its own for some processors, which rounds otherwise
        return ""
    count, size = int((apart > 1).sum()), "x".join(map(str, frame_wh))
    return f"in a test picture of {size}, {count} of {apart.size} pixel values differ from the CPU's by up to {apart.max()}"


def steps_apart(spec: TensorSpec, table: Array, one: Array, other: Array) -> Array:
    """`(channels, N)`: how many pixel values of 0..255 lie between two inputs; 255 where one stands for no pixel.

    `table` is `(channels, 256)`. Pixel values for which the same stands there count as one.
    """
    channel_axis = 1 if is_planar(spec) else 3
    planes = (np.moveaxis(numbers, channel_axis, 0).reshape(len(table), -1) for numbers in (one, other))
    ranks = [
        np.stack([_ranks(np.unique(row), plane) for row, plane in zip(table, both, strict=True)]) for both in planes
    ]
    apart: Array = np.where(np.minimum(*ranks) < 0, _NO_PIXEL, np.abs(ranks[0] - ranks[1]))
    return apart


def _ranks(values: Array, plane: Array) -> Array:
    """The place of each number among `values`, which rise; -1 where it is none of them."""
    ranks = np.minimum(np.searchsorted(values, plane), len(values) - 1)
    found: Array = np.where(values[ranks] == plane, ranks, -1).astype(np.int16)
    return found


def _time_both(
    backend: Backend, cpu: Preprocessing, device: Preprocessing, frame_wh: tuple[int, int]
) -> tuple[float, float]:
    """What a picture and the engine's run on it take, in ms: that is where the device's work shows."""
    image, end_ns = _noise(frame_wh), SYSTEM.mono_ns() + int(_ROUNDS_S * 1e9)
    times: tuple[list[int], list[int]] = ([], [])
    for number in range(_ROUNDS_MOST):
        if number >= _ROUNDS_LEAST and SYSTEM.mono_ns() > end_ns:
            break
        for preprocessing, spent in zip((cpu, device), times, strict=True):
            _let_device_write(backend, wanted=preprocessing is device)
            _time(backend, preprocessing, image)  # the first is slower
            spent.extend(_time(backend, preprocessing, image) for _ in range(_RUNS))
    return median(times[0]) / 1e6, median(times[1]) / 1e6


def _time(backend: Backend, preprocessing: Preprocessing, image: Image) -> int:
    start_ns = SYSTEM.mono_ns()
    preprocessing.prepare(image)
    backend.infer()
    return SYSTEM.mono_ns() - start_ns


def _let_device_write(backend: Any, *, wanted: bool) -> None:
    backend.picture_from_gpu(wanted=wanted)


def _noise(frame_wh: tuple[int, int]) -> Image:
    """The hardest picture: every pixel differs from its neighbours."""
    width, height = frame_wh
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
