"""The file of a camera's baseline: written by `snapshot --baseline`, read by the agent. It stays on the device."""

import base64
import json
import zlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.core.baseline import Baseline, Spread
from edge_agent.core.datatypes import Array
from edge_agent.core.eyesight import PLANE
from edge_agent.errors import ConfigError, UsageError

MAX_BYTES = 200_000
Number = Annotated[float, Field(allow_inf_nan=False, ge=0)]


class _Spread(BaseModel):
    model_config = ConfigDict(extra="forbid")
    low: Number
    median: Number
    high: Number


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal["edge-agent/baseline/1"] = "edge-agent/baseline/1"
    camera: str
    size: tuple[int, int]
    fps: Number | None
    brightness: _Spread
    clipped: _Spread
    structure: _Spread
    sharpness: _Spread | None
    plane_size: tuple[Annotated[int, Field(ge=1, le=PLANE[0])], Annotated[int, Field(ge=1, le=PLANE[1])]]
    plane: str = Field(description="Green of every n-th pixel, row by row: zlib, then base64.")
    steady: str = Field(description="1 where nothing moves, likewise.")


def write(path: Path, baseline: Baseline) -> None:
    """Writes the file whole, or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    spreads = {
        name: None if (spread := getattr(baseline, name)) is None else _rounded(spread)
        for name in ("brightness", "clipped", "structure", "sharpness")
    }
    document = {
        "format": "edge-agent/baseline/1",
        "camera": baseline.camera,
        "size": baseline.size,
        "fps": None if baseline.fps is None else round(baseline.fps, 3),
        **spreads,
        "plane_size": baseline.plane.shape,
        "plane": _packed(baseline.plane),
        "steady": _packed(baseline.steady),
    }
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(json.dumps(document, indent=1) + "\n")
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path, camera: str) -> Baseline:
    """The baseline of that camera.

    Raises:
        ConfigError: it is missing, broken, or another camera's; the sentence says what to do.
    """
    again = f"take it anew: edge-agent snapshot --config FILE --camera {camera} --baseline"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        found = _File.model_validate_json(data if len(data) <= MAX_BYTES else b"")
        plane, steady = _unpacked(found.plane, found.plane_size), _unpacked(found.steady, found.plane_size)
    except FileNotFoundError:
        raise ConfigError(f"there is no baseline {path}; {again.replace('anew', 'first')}") from None
    except OSError as error:
        raise ConfigError(f"the baseline {path} cannot be read: {error.strerror}") from None
    except (ValidationError, ValueError, zlib.error):
        raise ConfigError(f"{path} is no baseline, or a damaged one; {again}") from None
    if found.camera != camera:
        raise ConfigError(f"{path} is the baseline of camera {found.camera[:32]!r}, not of {camera!r}; {again}")
    return Baseline(
        camera=camera,
        size=found.size,
        fps=found.fps,
        brightness=_spread(found.brightness),
        clipped=_spread(found.clipped),
        structure=_spread(found.structure),
        sharpness=None if found.sharpness is None else _spread(found.sharpness),
        plane=plane,
        steady=steady.astype(bool),
    )


def _spread(told: _Spread) -> Spread:
    return Spread(told.low, told.median, told.high)


def _rounded(spread: Spread) -> dict[str, float]:
    return {name: float(f"{getattr(spread, name):.5g}") for name in ("low", "median", "high")}


def _packed(array: Array) -> str:
    return base64.b64encode(zlib.compress(array.astype(np.uint8).tobytes(), 9)).decode()


def _unpacked(text: str, size: tuple[int, int]) -> Array:
    bytes_ = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size[0] * size[1] + 1)
    return np.frombuffer(bytes_, np.uint8).reshape(size)
