"""An engine that is a recording: it plays stored outputs back, whatever stands in its inputs.

It needs no library and no hardware. `save` writes the file, an `.npz` without pickles: `header`, the JSON of `Header`
as bytes, and one array for each call and output, `CALL/OUTPUT` counted from 0.
"""

import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.core.datatypes import Array, BoundTensor, Quantisation, TensorSpec
from edge_agent.core.ports import Backend
from edge_agent.errors import ModelError

SUFFIXES: tuple[str, ...] = (".npz",)

_CALLS_MOST = 100_000
_DAMAGED = (
    OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Config(BaseModel):
    """A recording in place of an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="The .npz file that `save` wrote")
    threads: int | None = Field(None, ge=1, le=256, description="Not used; there for those who set it for all engines")


class Tensor(BaseModel):
    """One tensor in the header; `quant` is scale and zero point."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: tuple[float, int] | None = None

    def spec(self) -> TensorSpec:
        """As the rest of the code knows it; raises TypeError where the dtype is none of numpy's."""
        quant = Quantisation(*self.quant) if self.quant else None
        return TensorSpec(self.name, self.shape, np.dtype(self.dtype), quant)


class Header(BaseModel):
    """What a recording says of itself.

    Each call takes `latency_ms`. From call `hang_after` on, counted from 1, each hangs for `hang_s`, or for ever where
    that is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: int = Field(ge=1, le=_CALLS_MOST)
    metadata: dict[str, Any] = {}
    latency_ms: float = Field(0.0, ge=0, allow_inf_nan=False)
    hang_after: int | None = Field(None, ge=1)
    hang_s: float | None = Field(None, ge=0, allow_inf_nan=False)


def available() -> str | None:
    """None: it can be used everywhere."""
    return None


def create(config: Config) -> Backend:
    """Loads the recording.

    Raises:
        ModelError: the file is missing, damaged, or no recording.
    """
    return RecordedBackend(config)


class RecordedBackend:
    """See `Backend`. `close` may be called from any thread and ends a call that hangs, which then returns."""

    def __init__(self, config: Config) -> None:
        header, self.inputs, self._calls = _load(config.path)
        self._header = header
        self.runtime = f"recording of {header.calls} call{'s' if header.calls > 1 else ''}"
        self.metadata: Mapping[str, Any] = header.metadata
        self.outputs: Sequence[TensorSpec] = tuple(tensor.spec() for tensor in header.outputs)
        self._count = 0
        self._closed = threading.Event()

    def infer(self) -> Sequence[Array]:
        """See `Backend.infer`. The calls of the recording come in turn, again and again."""
        outputs = self._calls[self._count % len(self._calls)]
        self._count += 1
        header = self._header
        if header.hang_after is not None and self._count >= header.hang_after:
            self._closed.wait(header.hang_s)
        elif header.latency_ms:
            self._closed.wait(header.latency_ms / 1e3)
        return outputs

    def close(self) -> None:
        """See `Backend.close`."""
        self._closed.set()


def save(  # noqa: PLR0913 - all but three have a default and are given by name
    path: Path,
    inputs: Sequence[TensorSpec],
    outputs_per_call: Sequence[Sequence[Array]],
    metadata: Mapping[str, Any],
    *,
    outputs: Sequence[TensorSpec] | None = None,
    latency_ms: float = 0.0,
    hang_after: int | None = None,
    hang_s: float | None = None,
) -> None:
    """Writes a recording; see `Header` for the latency and the hang.

    `metadata` must be what JSON can hold. Without `outputs` they are named output0, output1, … with the dtype of the
    first call and its shape, -1 where another call has another size.
    """
    named = outputs if outputs is not None else _named(outputs_per_call)
    header = Header(
        inputs=tuple(map(_tensor, inputs)),
        outputs=tuple(map(_tensor, named)),
        calls=len(outputs_per_call),
        metadata=dict(metadata),
        latency_ms=latency_ms,
        hang_after=hang_after,
        hang_s=hang_s,
    )
    arrays = {f"{i}/{k}": array for i, call in enumerate(outputs_per_call) for k, array in enumerate(call)}
    text = np.frombuffer(header.model_dump_json().encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, header=text, **arrays)


def _named(calls: Sequence[Sequence[Array]]) -> list[TensorSpec]:
    specs = []
    for number, same in enumerate(zip(*calls, strict=True)):
        sides = zip(*(array.shape for array in same), strict=True)
        shape = tuple(side[0] if len(set(side)) == 1 else -1 for side in sides)
        specs.append(TensorSpec(f"output{number}", shape, same[0].dtype))
    return specs


def _tensor(spec: TensorSpec) -> Tensor:
    quant = (spec.quant.scale, spec.quant.zero_point) if spec.quant else None
    return Tensor(name=spec.name, shape=spec.shape, dtype=spec.dtype.str, quant=quant)


def _load(path: Path) -> tuple[Header, Sequence[BoundTensor], list[list[Array]]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            header = Header.model_validate_json(stored["header"].tobytes())
            calls = [[stored[f"{i}/{k}"] for k in range(len(header.outputs))] for i in range(header.calls)]
        inputs = tuple(BoundTensor(tensor.spec(), np.zeros(tensor.shape, tensor.dtype)) for tensor in header.inputs)
        for call in calls:
            for tensor, array in zip(header.outputs, call, strict=True):
                _check(tensor.spec(), array)
                array.flags.writeable = False
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file; set path under [model]") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path}: the header of the recording is wrong: {where}: {first['msg']}") from error
    except _DAMAGED as error:
        raise ModelError(f"{path}: is not a recording, or is damaged: {error}; record it again") from error
    return header, inputs, calls


def _check(spec: TensorSpec, array: Array) -> None:
    fits = len(array.shape) == len(spec.shape) and all(
        want in (-1, side) for want, side in zip(spec.shape, array.shape, strict=True)
    )
    if array.dtype != spec.dtype or not fits:
        raise ValueError(f"an array {array.dtype} {list(array.shape)} is stored for the output {spec}")
