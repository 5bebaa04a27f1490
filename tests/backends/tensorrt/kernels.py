"""The agent's own kernels, compiled for the pretended NVIDIA driver."""

from pathlib import Path

from edge_agent.backends import tensorrt
from tests import pretended_cuda

SOURCES = Path(tensorrt.__file__).parent


def build() -> Path:
    """The library that runs them on the CPU, for `pretended_kernels` or PRETENDED_KERNELS."""
    source = Path(__file__).parent / "kernels.cpp"
    options = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wno-unknown-pragmas", f"-I{SOURCES}")
    return pretended_cuda.compiled("kernels.so", source, *options, also=(SOURCES / "letterbox.cu",))
