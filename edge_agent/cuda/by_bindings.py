"""CUDA by NVIDIA's package cuda-bindings."""

import ctypes
from typing import Any

import numpy as np

from edge_agent.cuda.failures import CudaError
from edge_agent.cuda.promises import Arguments, DeviceMemory, Dimensions, Gpu, HostMemory, Kernel
from edge_agent.errors import UnavailableError

# Flags and attributes as cuda.h has them.
_STREAM_NON_BLOCKING = 1
_EVENT_BLOCKING_SYNC = 1
_EVENT_DISABLE_TIMING = 2
_HOST_DEVICEMAP = 2


class CudaBindings:
    """See `Library`.

    Raises:
        UnavailableError: the package is not installed, or is too old.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import __version__, driver
            from cuda.bindings.utils import get_cuda_native_handle  # came with the release of the GIL in every call
        except ImportError as error:
            raise UnavailableError(
                f"cuda-bindings: {error}: pip install 'cuda-bindings>=12.9.1,<13', or for CUDA 13 'cuda-bindings>=13'"
            ) from error
        self.name = f"cuda-bindings {__version__}"
        self._cuda = driver
        self._address_of = get_cuda_native_handle
        self._device: Any = None

    def look(self, device: int) -> Gpu:
        """See `Library`."""
        self._call("cuInit", 0)
        handle = self._call("cuDeviceGet", device)
        attribute = self._cuda.CUdevice_attribute
        major = self._call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle)
        minor = self._call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle)
        return Gpu(
            name=self._call("cuDeviceGetName", 256, handle).split(b"\0")[0].decode(errors="replace"),
            compute=(major, minor),
            multiprocessors=self._call(
                "cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, handle
            ),
            integrated=bool(self._call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED, handle)),
            memory_mb=self._call("cuDeviceTotalMem", handle) >> 20,
            driver=self._call("cuDriverGetVersion"),
        )

    def enter(self, device: int) -> None:
        """See `Library`."""
        self._call("cuInit", 0)
        handle = self._call("cuDeviceGet", device)
        context = self._call("cuDevicePrimaryCtxRetain", handle)
        try:
            self._call("cuCtxPushCurrent", context)
        except CudaError:
            self._call("cuDevicePrimaryCtxRelease", handle)
            raise
        self._device = handle

    def leave(self) -> None:
        """See `Library`."""
        try:
            self._call("cuCtxPopCurrent")
        finally:
            self._call("cuDevicePrimaryCtxRelease", self._device)

    def create_stream(self) -> int:
        """See `Library`."""
        return int(self._address_of(self._call("cuStreamCreate", _STREAM_NON_BLOCKING)))

    def destroy_stream(self, stream: int) -> None:
        """See `Library`."""
        self._call("cuStreamDestroy", stream)

    def create_event(self) -> Any:
        """See `Library`."""
        return self._call("cuEventCreate", _EVENT_BLOCKING_SYNC | _EVENT_DISABLE_TIMING)

    def destroy_event(self, event: Any) -> None:
        """See `Library`."""
        self._call("cuEventDestroy", event)

    def wait(self, event: Any, stream: int) -> None:
        """See `Library`."""
        self._call("cuEventRecord", event, stream)
        self._call("cuEventSynchronize", event)

    def host(self, nbytes: int) -> HostMemory:
        """See `Library`."""
        ptr = int(self._call("cuMemHostAlloc", nbytes, _HOST_DEVICEMAP))
        try:
            device_ptr = int(self._call("cuMemHostGetDevicePointer", ptr, 0))
        except CudaError:
            self._call("cuMemFreeHost", ptr)
            raise
        array = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(ptr))
        return HostMemory(array, ptr, device_ptr)

    def free_host(self, memory: HostMemory) -> None:
        """See `Library`."""
        self._call("cuMemFreeHost", memory.ptr)

    def device(self, nbytes: int) -> DeviceMemory:
        """See `Library`."""
        return DeviceMemory(int(self._call("cuMemAlloc", nbytes)), nbytes)

    def free_device(self, memory: DeviceMemory) -> None:
        """See `Library`."""
        self._call("cuMemFree", memory.ptr)

    def upload(self, to: DeviceMemory, source: HostMemory, nbytes: int, stream: int) -> None:
        """See `Library`."""
        self._call("cuMemcpyHtoDAsync", to.ptr, source.ptr, nbytes, stream)

    def download(self, to: HostMemory, source: DeviceMemory, nbytes: int, stream: int) -> None:
        """See `Library`."""
        self._call("cuMemcpyDtoHAsync", to.ptr, source.ptr, nbytes, stream)

    def load(self, ptx: bytes, name: str) -> Kernel:
        """See `Library`."""
        module = self._call("cuModuleLoadData", ptx)
        try:
            return Kernel(name, (module, self._call("cuModuleGetFunction", module, name.encode())))
        except CudaError:
            self._call("cuModuleUnload", module)
            raise

    def unload(self, kernel: Kernel) -> None:
        """See `Library`."""
        self._call("cuModuleUnload", kernel.handle[0])

    def launch(self, kernel: Kernel, grid: Dimensions, block: Dimensions, arguments: Arguments, stream: int) -> None:
        """See `Library`."""
        self._call("cuLaunchKernel", kernel.handle[1], *grid, *block, 0, stream, arguments.table, 0)

    def memory_bytes(self) -> tuple[int, int]:
        """See `Library`."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def _call(self, name: str, *arguments: Any) -> Any:
        """What the call gives beside its code: nothing, one value, or several."""
        try:
            code, *results = getattr(self._cuda, name)(*arguments)
        except ValueError as error:  # "998 is not a valid CUresult": a driver that is newer than the bindings
            raise CudaError(name, int(str(error).split()[0])) from error
        if code:
            raise CudaError(name, int(code))
        return results[0] if len(results) == 1 else results
