"""What is known of a GPU, its memory and kernels, and the few calls that a library for CUDA must offer."""

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gpu:
    """A GPU, as the driver describes it.

    Attributes:
        compute: the compute capability, such as (8, 7) for sm_87.
        multiprocessors: how many of them; Jetson modules of one family differ in nothing else that tells.
        integrated: it shares the memory of the CPU, as on Jetson.
        driver: the CUDA version of the driver, 12060 for 12.6.
    """

    name: str
    compute: tuple[int, int]
    multiprocessors: int
    integrated: bool
    memory_mb: int
    driver: int


@dataclass(frozen=True, eq=False)
class HostMemory:
    """Page-locked memory of the CPU that the GPU reads and writes, too.

    Attributes:
        array: shape (n,), uint8. Views of it may not be used once it was released.
        ptr: its address for the CPU.
        device_ptr: its address for the GPU.
    """

    array: NDArray[np.uint8]
    ptr: int
    device_ptr: int

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.array.nbytes


@dataclass(frozen=True, eq=False)
class DeviceMemory:
    """Memory of the GPU, at an address that is the GPU's own."""

    ptr: int
    nbytes: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function that runs on the GPU, with what the library knows it by."""

    name: str
    handle: Any


class Arguments:
    """The one argument of a kernel: a C struct, which the kernel takes by value, prepared once for all launches.

    Values may be changed between launches; what a graph launches keeps those of its capture.
    """

    def __init__(self, values: ctypes.Structure) -> None:
        self.values = values
        self._table = (ctypes.c_void_p * 1)(ctypes.addressof(values))
        self.table = ctypes.addressof(self._table)


Dimensions = tuple[int, int, int]
"""Blocks of a grid, or threads of a block, along x, y and z."""


class Library(Protocol):
    """A library for CUDA, reduced to what is used of it. All of it may raise CudaError.

    It checks nothing and remembers only what the library itself wants remembered; `Cuda` does both. What it makes must
    be given back in the thread that made it, before `leave`.
    """

    name: str

    def look(self, device: int) -> Gpu:
        """The GPU of that number, without a context."""
        ...

    def enter(self, device: int) -> None:
        """Retains the primary context of the device and makes it current in the calling thread."""
        ...

    def leave(self) -> None:
        """Takes back what `enter` did."""
        ...

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Ends a stream."""
        ...

    def create_event(self) -> Any:
        """An event without times, for which a thread sleeps instead of spinning."""
        ...

    def destroy_event(self, event: Any) -> None:
        """Ends an event."""
        ...

    def wait(self, event: Any, stream: int) -> None:
        """Returns when all work given to the stream is done; other Python threads go on meanwhile."""
        ...

    def host(self, nbytes: int) -> HostMemory:
        """Page-locked memory, mapped for the GPU."""
        ...

    def free_host(self, memory: HostMemory) -> None:
        """Gives it back."""
        ...

    def device(self, nbytes: int) -> DeviceMemory:
        """Memory of the GPU."""
        ...

    def free_device(self, memory: DeviceMemory) -> None:
        """Gives it back."""
        ...

    def upload(self, to: DeviceMemory, source: HostMemory, nbytes: int, stream: int) -> None:
        """Puts a copy to the GPU on the stream."""
        ...

    def download(self, to: HostMemory, source: DeviceMemory, nbytes: int, stream: int) -> None:
        """Puts a copy from the GPU on the stream."""
        ...

    def load(self, ptx: bytes, name: str) -> Kernel:
        """A kernel of a PTX text that ends in a zero byte."""
        ...

    def unload(self, kernel: Kernel) -> None:
        """Gives it back."""
        ...

    def launch(self, kernel: Kernel, grid: Dimensions, block: Dimensions, arguments: Arguments, stream: int) -> None:
        """Puts a run of the kernel on the stream."""
        ...

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory of the GPU."""
        ...
