"""The pretended driver (`tests/pretended_cuda`), as far as TensorRT calls the driver; without it work is done at once."""

import ctypes
import os

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_OUT_OF_MEMORY = 2
WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_driver = None


def driver():
    """The pretended driver, once it can be found; None without."""
    global _driver  # noqa: PLW0603 - looked for until it is there
    if _driver is None:
        try:
            library = ctypes.CDLL("libcuda.so.1")
            library.pretended_enqueue.argtypes = [ctypes.c_void_p, WORK, ctypes.c_void_p]
        except (OSError, AttributeError):
            return None
        library.cuMemFree_v2.argtypes = [ctypes.c_uint64]
        library.cuMemAlloc_v2.argtypes = [ctypes.POINTER(ctypes.c_uint64), ctypes.c_size_t]
        _driver = library
    return _driver


def start():
    """0, or CUDA's error number."""
    library = driver()
    return library.cuInit(0) if library else 0


def compute():
    """Of the GPU: (8, 7) is an Orin's."""
    library = driver()
    if library is None:
        return tuple(int(part) for part in os.environ.get("FAKE_TENSORRT_COMPUTE", "8.7").split("."))
    library.cuInit(0)
    number, found = ctypes.c_int(), []
    for attribute in (_MAJOR, _MINOR):
        library.cuDeviceGetAttribute(ctypes.byref(number), attribute, 0)
        found.append(number.value)
    return tuple(found)


def name():
    library = driver()
    if library is None:
        return "Orin"
    library.cuInit(0)
    text = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(text, len(text), 0)
    return text.value.decode()


class Memory:
    """Memory on the GPU, freed with its owner. Raises MemoryError where there is not enough."""

    def __init__(self, nbytes, *, refused):
        self._pointer = None
        if refused:
            raise MemoryError
        library = driver()
        if library is None:
            return
        pointer = ctypes.c_uint64()
        error = library.cuMemAlloc_v2(ctypes.byref(pointer), nbytes)
        if error == _OUT_OF_MEMORY:
            raise MemoryError
        if error:
            raise RuntimeError(f"CUDA error {error} where TensorRT allocates: is a context current in this thread?")
        self._pointer = pointer.value

    def free(self):
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            error = driver().cuMemFree_v2(pointer)
            if error:
                raise RuntimeError(f"CUDA error {error} where TensorRT frees: its context is gone already")


def capturing(stream):
    """Whether what goes into the stream now becomes part of a graph."""
    library, status = driver(), ctypes.c_int()
    return (
        bool(library)
        and library.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)) == 0
        and status.value == 1
    )


def enqueue(stream, work, number):
    """Has `work(number)` done in the stream: at once without a driver. 0, or CUDA's error number."""
    library = driver()
    if library is None:
        work(number)
        return 0
    return library.pretended_enqueue(stream, work, number) or 0
