"""The pretended driver is as the real one where that can be seen."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from edge_agent.cuda import open_cuda

HEADER = Path("/usr/local/cuda/include/cuda.h")
SOURCE = Path(__file__).parents[1] / "pretended_cuda" / "driver.c"


def test_signatures_are_those_of_the_cuda_header():
    if not HEADER.exists():
        pytest.skip(f"needs the CUDA toolkit: {HEADER}")
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DWITH_CUDA_H", f"-I{HEADER.parent}"]
    subprocess.run(["gcc", *options, str(SOURCE)], check=True)


def test_an_address_of_the_cpu_is_none_of_the_gpu(driver):
    session = open_cuda("cuda-bindings")
    host = session.host(8)
    code = driver.cuMemcpyHtoDAsync_v2(*map(ctypes.c_void_p, (host.ptr, host.ptr, 8, session.stream)))
    assert code == 1  # CUDA_ERROR_INVALID_VALUE
    code = driver.cuMemcpyHtoDAsync_v2(*map(ctypes.c_void_p, (host.device_ptr, host.ptr, 8, session.stream)))
    assert code == 0
    session.close()


def test_a_thread_without_a_context_is_refused(driver):
    assert driver.cuMemAlloc_v2(ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(8)) == 201  # INVALID_CONTEXT
