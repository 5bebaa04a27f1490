"""TensorRT engines on an NVIDIA GPU, from TensorRT 8.5 to 11: plain plans, and `.engine` files with metadata before them.

Importing this imports neither TensorRT nor CUDA.
"""

import importlib.util
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edge_agent import cuda
from edge_agent.backends.tensorrt.plans import MISSING
from edge_agent.core.ports import Backend

SUFFIXES: tuple[str, ...] = (".engine", ".plan")


class Config(BaseModel):
    """An engine that TensorRT has built for this GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="The .engine or .plan file")
    threads: int | None = Field(None, ge=1, le=256, description="Not used; there for those who set it for all engines")
    allow_host_code: bool = Field(
        default=False, description="Whether a version-compatible engine may run the code that it brings along"
    )


def available() -> str | None:
    """None where TensorRT and CUDA can be used here, else a sentence with what to install."""
    if importlib.util.find_spec("tensorrt") is None:
        return MISSING
    missing = cuda.available()
    return f"TensorRT is installed, but cannot be used: {missing}" if missing else None


def create(config: Config) -> Backend:
    """Loads the engine, finds out how it runs fastest, and runs it. The thread that calls this uses it and closes it.

    Raises:
        EngineUnfitError: it was built for another TensorRT or GPU, or is damaged.
        DeviceMemoryError: the GPU has too little memory for it.
        ModelError: it cannot be read, or cannot be run as it is.
        UnavailableError: TensorRT or CUDA is not installed.
        GpuError: there is no GPU, or it cannot be used now.
    """
    from edge_agent.backends.tensorrt.backend import open_backend

    return open_backend(config.path, allow_host_code=config.allow_host_code)
