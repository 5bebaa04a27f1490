"""CUDA, as much of it as an engine needs: memory, copies, kernels, graphs, on one stream of one thread.

By pycuda where it is installed, else by cuda-bindings; neither is imported before it is needed.
"""

from typing import Literal

from edge_agent.cuda.by_bindings import CudaBindings
from edge_agent.cuda.by_pycuda import Pycuda
from edge_agent.cuda.failures import CudaError, driver
from edge_agent.cuda.promises import Arguments, DeviceMemory, Dimensions, Gpu, HostMemory, Kernel, Library
from edge_agent.cuda.session import Cuda, Graph
from edge_agent.errors import UnavailableError

__all__ = [
    "Arguments",
    "Cuda",
    "CudaError",
    "DeviceMemory",
    "Dimensions",
    "Gpu",
    "Graph",
    "HostMemory",
    "Kernel",
    "available",
    "look",
    "open_cuda",
]

LibraryName = Literal["auto", "pycuda", "cuda-bindings"]


def available() -> str | None:
    """None where CUDA can be used, else a sentence with what to install. It does not ask whether there is a GPU."""
    try:
        _library("auto")
    except UnavailableError as error:
        return str(error)
    return None


def look(library: LibraryName = "auto", device: int = 0) -> Gpu:
    """The GPU of that number, without a context.

    Raises:
        CudaError: there is none, or the driver is out of order.
        UnavailableError: see `available`.
    """
    return _library(library).look(device)


def open_cuda(library: LibraryName = "auto", device: int = 0) -> Cuda:
    """Makes the GPU's primary context current in this thread, with one stream. Only this thread may use and close it.

    Raises:
        CudaError: there is no such GPU, or it cannot be used.
        UnavailableError: see `available`.
    """
    return Cuda(_library(library), device)


def _library(name: LibraryName) -> Library:
    driver()
    if name == "pycuda":
        return Pycuda()
    if name == "cuda-bindings":
        return CudaBindings()
    try:
        return Pycuda()
    except UnavailableError:
        return CudaBindings()
