"""CUDA by pycuda.

pycuda keeps contexts of its own, one stack for each thread, and gives back what it made when the last reference goes,
in the context that was current when it was made. So all users in a thread share one context of pycuda's, and what
pycuda makes is kept here, by address, until it is given back.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_agent.cuda.failures import CudaError, check, code_of, driver
from edge_agent.cuda.promises import Arguments, DeviceMemory, Dimensions, Gpu, HostMemory, Kernel
from edge_agent.errors import UnavailableError

_STREAM_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING in cuda.h; pycuda has no name for it


class _Entered(threading.local):
    """The contexts that are current in this thread, by device, with the number of their users."""

    def __init__(self) -> None:
        self.contexts: dict[int, tuple[Any, int]] = {}


_entered = _Entered()


def _pop() -> None:
    """Takes the context off the driver's stack of this thread, where pycuda's own `detach` leaves a primary one."""
    check("cuCtxPopCurrent", driver().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())))


class Pycuda:
    """See `Library`.

    Raises:
        UnavailableError: the package is not installed, or was compiled for another driver.
    """

    def __init__(self) -> None:
        try:
            import pycuda.driver
        except ImportError as error:
            raise UnavailableError(f"pycuda: {error}: pip install 'pycuda>=2024.1', with nvcc in PATH") from error
        self.name = f"pycuda {pycuda.VERSION_TEXT}"
        self._cuda = pycuda.driver
        self._device = 0
        self._made: dict[Any, Any] = {}

    def look(self, device: int) -> Gpu:
        """See `Library`."""
        self._call(self._cuda.init)
        gpu = self._call(self._cuda.Device, device)
        return Gpu(
            name=self._call(gpu.name),
            compute=self._call(gpu.compute_capability),
            multiprocessors=self._call(gpu.get_attribute, self._cuda.device_attribute.MULTIPROCESSOR_COUNT),
            integrated=bool(self._call(gpu.get_attribute, self._cuda.device_attribute.INTEGRATED)),
            memory_mb=self._call(gpu.total_memory) >> 20,
            driver=self._call(self._cuda.get_driver_version),
        )

    def enter(self, device: int) -> None:
        """See `Library`."""
        context, users = _entered.contexts.get(device, (None, 0))
        if context is None:
            self._call(self._cuda.init)
            context = self._call(self._call(self._cuda.Device, device).retain_primary_context)
            try:
                self._call(context.push)
            except CudaError:
                self._call(context.detach)  # which pushes it
                _pop()
                raise
        _entered.contexts[device] = (context, users + 1)
        self._device = device

    def leave(self) -> None:
        """See `Library`."""
        context, users = _entered.contexts.pop(self._device)
        if users > 1:
            _entered.contexts[self._device] = (context, users - 1)
            return
        try:
            _pop()
        finally:
            self._call(context.detach)

    def create_stream(self) -> int:
        """See `Library`."""
        stream = self._call(self._cuda.Stream, _STREAM_NON_BLOCKING)
        self._made[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """See `Library`."""
        del self._made[stream]

    def create_event(self) -> Any:
        """See `Library`."""
        flags = self._cuda.event_flags
        event = object()
        self._made[event] = self._call(self._cuda.Event, flags.BLOCKING_SYNC | flags.DISABLE_TIMING)
        return event

    def destroy_event(self, event: Any) -> None:
        """See `Library`."""
        del self._made[event]

    def wait(self, event: Any, stream: int) -> None:
        """See `Library`."""
        self._call(self._made[event].record, self._made[stream])
        self._call(self._made[event].synchronize)

    def host(self, nbytes: int) -> HostMemory:
        """See `Library`."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP
        array = self._call(self._cuda.pagelocked_empty, nbytes, np.uint8, "C", flags)
        try:
            device_ptr = int(self._call(array.base.get_device_pointer))
        except CudaError:
            self._call(array.base.free)
            raise
        return HostMemory(array, array.ctypes.data, device_ptr)

    def free_host(self, memory: HostMemory) -> None:
        """See `Library`."""
        self._call(memory.array.base.free)  # type: ignore[union-attr]  # pycuda's PagelockedHostAllocation

    def device(self, nbytes: int) -> DeviceMemory:
        """See `Library`."""
        allocation = self._call(self._cuda.mem_alloc, nbytes)
        self._made[int(allocation)] = allocation
        return DeviceMemory(int(allocation), nbytes)

    def free_device(self, memory: DeviceMemory) -> None:
        """See `Library`."""
        self._call(self._made.pop(memory.ptr).free)

    def upload(self, to: DeviceMemory, source: HostMemory, nbytes: int, stream: int) -> None:
        """See `Library`."""
        self._call(self._cuda.memcpy_htod_async, to.ptr, source.array[:nbytes], self._made[stream])

    def download(self, to: HostMemory, source: DeviceMemory, nbytes: int, stream: int) -> None:
        """See `Library`."""
        self._call(self._cuda.memcpy_dtoh_async, to.array[:nbytes], source.ptr, self._made[stream])

    def load(self, ptx: bytes, name: str) -> Kernel:
        """See `Library`."""
        handle = object()
        module = self._call(self._cuda.module_from_buffer, ptx)
        self._made[handle] = self._call(module.get_function, name)  # which keeps its module
        return Kernel(name, handle)

    def unload(self, kernel: Kernel) -> None:
        """See `Library`."""
        del self._made[kernel.handle]

    def launch(self, kernel: Kernel, grid: Dimensions, block: Dimensions, arguments: Arguments, stream: int) -> None:
        """See `Library`."""
        # The public ways pack the arguments anew for each launch.
        run = self._made[kernel.handle]._launch_kernel  # noqa: SLF001
        self._call(run, grid, block, arguments.values, 0, self._made[stream])

    def memory_bytes(self) -> tuple[int, int]:
        """See `Library`."""
        free, total = self._call(self._cuda.mem_get_info)
        return int(free), int(total)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._cuda.Error as error:
            del function, arguments  # a traceback would keep them, and with them what must be given back in time
            call, _, rest = str(error).partition(" failed: ")  # "cuMemAlloc failed: out of memory - details"
            raise CudaError(call, code_of(rest.partition(" - ")[0])) from error
