"""CUDA for one thread: its context, its stream, and all it asked for, given back in order."""

import contextlib
import threading
from collections.abc import Callable

from edge_agent.cuda import graphs
from edge_agent.cuda.promises import Arguments, DeviceMemory, Dimensions, HostMemory, Kernel, Library

# What is given back first has the lowest number: what uses something goes before what it uses.
_GRAPHS, _KERNELS, _MEMORY = range(3)


class Graph:
    """Work that was recorded once, launched as one."""

    def __init__(self, cuda: "Cuda", executable: int) -> None:
        self._cuda = cuda
        self._executable = executable

    def launch(self) -> None:
        """Puts it on the stream."""
        self._cuda.check(self)
        graphs.launch(self._executable, self._cuda.stream)

    def close(self) -> None:
        """Gives it back; twice does nothing."""
        self._cuda.release(self)

    def destroy(self) -> None:
        """For `Cuda`, which knows the order."""
        graphs.destroy(self._executable)


class Cuda:
    """A GPU's primary context, current in the thread that made this, and one stream; for that thread and no other.

    It must be closed before its thread ends: pycuda ends the process otherwise. Every method raises CudaError where a
    call of CUDA fails, and RuntimeError in another thread or after `close`.

    Attributes:
        name: the library and its version, such as "cuda-bindings 12.9.10".
        gpu: the GPU.
        stream: the handle of the stream, as TensorRT takes it.
    """

    def __init__(self, library: Library, device: int = 0) -> None:
        self._library = library
        self._thread = threading.get_ident()
        self._held: dict[object, tuple[int, Callable[[], None]]] = {}
        self._is_closed = False
        self.name = library.name
        self.gpu = library.look(device)
        with contextlib.ExitStack() as undo:
            library.enter(device)
            undo.callback(library.leave)
            self.stream = library.create_stream()
            undo.callback(library.destroy_stream, self.stream)
            self._done = library.create_event()
            undo.callback(library.destroy_event, self._done)
            self._undo = undo.pop_all()

    def host(self, nbytes: int) -> HostMemory:
        """Page-locked memory of the CPU that the GPU reads and writes, too. Its first content is undefined."""
        self.check()
        memory = self._library.host(nbytes)
        self._held[memory] = (_MEMORY, lambda: self._library.free_host(memory))
        return memory

    def device(self, nbytes: int) -> DeviceMemory:
        """Memory of the GPU. Its first content is undefined."""
        self.check()
        memory = self._library.device(nbytes)
        self._held[memory] = (_MEMORY, lambda: self._library.free_device(memory))
        return memory

    def kernel(self, ptx: bytes, name: str) -> Kernel:
        """The kernel of that name, compiled by the driver for this GPU. It must take one struct, by value."""
        self.check()
        kernel = self._library.load(ptx + b"\0", name)
        self._held[kernel] = (_KERNELS, lambda: self._library.unload(kernel))
        return kernel

    def upload(self, to: DeviceMemory, source: HostMemory, nbytes: int | None = None) -> None:
        """Puts a copy to the GPU on the stream: of the first `nbytes`, or of the whole source."""
        self.check(to, source)
        self._library.upload(to, source, _fitting(to, source, nbytes), self.stream)

    def download(self, to: HostMemory, source: DeviceMemory, nbytes: int | None = None) -> None:
        """Puts a copy from the GPU on the stream: of the first `nbytes`, or of the whole source."""
        self.check(to, source)
        self._library.download(to, source, _fitting(to, source, nbytes), self.stream)

    def launch(self, kernel: Kernel, grid: Dimensions, block: Dimensions, arguments: Arguments) -> None:
        """Puts a run of the kernel on the stream, with the arguments as they are now."""
        self.check(kernel)
        self._library.launch(kernel, grid, block, arguments, self.stream)

    def wait(self) -> None:
        """Returns when the stream has done all its work. The thread sleeps, and other Python threads go on."""
        self.check()
        self._library.wait(self._done, self.stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Calls `work` once and records, instead of running, what it puts on the stream.

        Raises:
            CudaError: it cannot be captured, or is nothing. The stream can be used as before, as it can where `work`
                itself raises.
        """
        self.check()
        graph = Graph(self, graphs.capture(work, self.stream))
        self._held[graph] = (_GRAPHS, graph.destroy)
        return graph

    def memory_mb(self) -> tuple[float, float]:
        """Free and total memory of the GPU, in MiB; on Jetson that is the memory of the CPU, too."""
        self.check()
        free, total = self._library.memory_bytes()
        return free / 2**20, total / 2**20

    def release(self, thing: HostMemory | DeviceMemory | Kernel | Graph) -> None:
        """Gives it back, once the stream has done its work; twice does nothing."""
        if thing not in self._held:
            return
        self.wait()
        _, give_back = self._held.pop(thing)
        give_back()

    def close(self) -> None:
        """Gives everything back: graphs, kernels, memory, the stream, the context. Twice does nothing.

        Raises:
            CudaError: something could not be given back. All the rest was.
        """
        if self._is_closed:
            return
        self.check()
        self._is_closed = True
        in_order = sorted(self._held.values(), key=lambda held: held[0])
        self._held = {}
        with self._undo, contextlib.ExitStack() as last_comes_first:
            for _, give_back in reversed(in_order):
                last_comes_first.callback(give_back)
            last_comes_first.callback(self._library.wait, self._done, self.stream)

    def check(self, *used: object) -> None:
        """Refuses another thread, a closed `Cuda`, and what was released."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"CUDA was opened in thread {self._thread} and may be used there only")
        if self._is_closed:
            raise RuntimeError("CUDA was closed")
        for thing in used:
            if thing not in self._held:
                raise RuntimeError(f"{type(thing).__name__} was released, or is from another Cuda object")


def _fitting(to: HostMemory | DeviceMemory, source: HostMemory | DeviceMemory, nbytes: int | None) -> int:
    nbytes = source.nbytes if nbytes is None else nbytes
    if not 0 < nbytes <= min(to.nbytes, source.nbytes):
        raise ValueError(f"cannot copy {nbytes} bytes from {source.nbytes} to {to.nbytes}")
    return nbytes
