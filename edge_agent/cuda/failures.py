"""What the NVIDIA driver says when a call fails. The driver's own library, by ctypes: it is wherever a GPU is."""

import ctypes
import functools
from typing import Any

from edge_agent.errors import EdgeAgentError, UnavailableError

DRIVER = "libcuda.so.1"
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY in cuda.h
_HIGHEST_CODE = 999  # CUDA_ERROR_UNKNOWN in cuda.h


class CudaError(EdgeAgentError, RuntimeError):
    """A call of CUDA failed.

    Attributes:
        call: the name of the call, such as cuMemAlloc.
        code: the driver's number for what went wrong (`CUresult` in cuda.h), 0 where it is not the driver that says so.
    """

    def __init__(self, call: str, code: int, words: str = "") -> None:
        self.call = call
        self.code = code
        super().__init__(f"{words or f'{_name(code)} ({code}): {_words(code)}'}, in {call}")

    @property
    def is_out_of_memory(self) -> bool:
        """True where less memory asked for, or more free, would help."""
        return self.code == OUT_OF_MEMORY


@functools.cache
def driver() -> Any:
    """The library of the NVIDIA driver.

    Raises:
        UnavailableError: there is none.
    """
    try:
        return ctypes.CDLL(DRIVER)
    except OSError as error:
        raise UnavailableError(f"CUDA needs the driver of an NVIDIA GPU: {error}") from error


def check(call: str, code: int) -> None:
    """Raises CudaError unless `code`, which `call` returned, says success."""
    if code:
        raise CudaError(call, code)


def code_of(words: str) -> int:
    """The number for the driver's words, such as "out of memory"; that of an unknown error where no number has them."""
    return next((code for code in range(1, _HIGHEST_CODE) if _words(code) == words), _HIGHEST_CODE)


def _name(code: int) -> str:
    return _text("cuGetErrorName", code) or "CUDA_ERROR"


def _words(code: int) -> str:
    return _text("cuGetErrorString", code) or "the driver has no words for it"


def _text(function: str, code: int) -> str:
    text = ctypes.c_char_p()
    getattr(driver(), function)(ctypes.c_int(code), ctypes.byref(text))
    return (text.value or b"").decode()
