"""The pretended NVIDIA driver (see driver.c, which is made of the .h files beside it): compiled once, loaded into this process or given to child processes."""

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_SOURCES = (_HERE / "driver.c", *sorted(_HERE.glob("*.h")))
_NAME = "libcuda.so.1"
_WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiled(name: str, source: Path, *options: str, also: tuple[Path, ...] = ()) -> Path:
    """A shared library of one C or C++ source, compiled once for all test runs; skips the test without a compiler."""
    compiler = shutil.which("g++" if source.suffix in {".cpp", ".cu"} else "gcc")
    if compiler is None:
        pytest.skip("needs gcc and g++, to compile the pretended NVIDIA driver")
    content = b"\0".join([*(path.read_bytes() for path in (source, *also)), *map(os.fsencode, options)])
    folder = Path(tempfile.gettempdir()) / f"pretended-cuda-{os.getuid()}" / hashlib.sha256(content).hexdigest()[:16]
    library = folder / name
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{name}.{os.getpid()}"
        command = [
            compiler,
            "-O1",
            "-g",
            "-shared",
            "-fPIC",
            *options,
            str(source),
            "-o",
            str(unfinished),
            "-lpthread",
            "-ldl",
        ]
        subprocess.run(command, check=True)
        unfinished.rename(library)
    return library


@functools.cache
def build() -> Path:
    """The pretended libcuda.so.1."""
    return compiled(_NAME, _SOURCES[0], "-std=gnu11", *_WARNINGS, f"-Wl,-soname,{_NAME}", also=_SOURCES[1:])


@functools.cache
def load() -> Any:
    """The driver in this process: whoever asks for libcuda.so.1 from now on gets it.

    Skips the test where a real driver was loaded before.
    """
    with contextlib.suppress(OSError):
        if not hasattr(ctypes.CDLL(_NAME, os.RTLD_NOLOAD), "pretended_live"):
            pytest.skip("the driver of a real GPU is loaded in this process")
    library = ctypes.CDLL(str(build()), ctypes.RTLD_GLOBAL)
    library.pretended_live.restype = library.pretended_live_of.restype = library.pretended_calls.restype = ctypes.c_long
    return library


def is_loaded() -> bool:
    """True once `load` was called: no real GPU can be used in this process any more."""
    return load.cache_info().currsize > 0


def environment(**settings: object) -> dict[str, str]:
    """For child processes: `environment(driver=12020)` is this process's, with the driver and PRETENDED_DRIVER."""
    path = os.pathsep.join(filter(None, [str(build().parent), os.environ.get("LD_LIBRARY_PATH")]))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": path,
        **{f"PRETENDED_{name.upper()}": str(value) for name, value in settings.items()},
    }


WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_kept: list[Any] = []  # the driver has their addresses


def enqueue(stream: int, work: Callable[[], object]) -> int:
    """Puts a call of `work` on a stream, as a library that runs on CUDA would; it runs in the stream's own thread.

    Returns the driver's code, 0 for success.
    """
    call = WORK(lambda _: work())
    _kept.append(call)
    return int(load().pretended_enqueue(ctypes.c_void_p(stream), call, None))
