"""Small models, made byte by byte, so that tests of the engines need no files from elsewhere.

ONNX files are protobuf (onnx.proto3 of the ONNX project gives the field numbers); TFLite files are flatbuffers, written
with the schema that comes with `ai-edge-litert`.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

FLOAT, INT64, STRING, BOOL = 1, 7, 8, 9  # onnx.TensorProto.DataType


def write_onnx(
    path: Path,
    nodes: Sequence[tuple[str, Sequence[str], str] | tuple[str, Sequence[str], str, Mapping[str, int]]],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    weights: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """`nodes` are operation, inputs, output, perhaps attributes; a tensor is its type and its shape, with names for free
    sides. Weights are int64 where they are of integers, else float32."""
    graph = b"".join(
        [
            *(_field(1, _node(*node)) for node in nodes),
            _field(2, "graph"),
            *(_field(5, _weight(name, array)) for name, array in (weights or {}).items()),
            *(_field(11, _value(name, *kind)) for name, kind in inputs.items()),
            *(_field(12, _value(name, *kind)) for name, kind in outputs.items()),
        ]
    )
    properties = (_field(14, _field(1, key) + _field(2, value)) for key, value in (metadata or {}).items())
    path.write_bytes(_field(1, 8) + _field(8, _field(1, "") + _field(2, 13)) + _field(7, graph) + b"".join(properties))
    return path


def write_tflite(
    path: Path,
    operation: str,
    shape: Sequence[int],
    *,
    output: tuple[str, Sequence[int]] | None = None,
    signature: Sequence[int] | None = None,
    repeat: int = 1,
    second: bool = False,
) -> Path:
    """A chain of one operation with one input, float32; `BATCH_MATMUL` multiplies it with itself.

    With `second` there is an input `s` of the same form, which each operation takes as well: `MAXIMUM`, for example.
    `output` is type and shape where they differ. An operation in capitals is built in, any other is custom.
    """
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="TFLite models are made with its schema")

    def tensor(name, sides, kind="FLOAT32", signed=None):
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, list(sides), 0
        made.type = getattr(schema.TensorType, kind)
        made.shapeSignature = list(signed) if signed else None
        return made

    code = schema.OperatorCodeT()
    builtin = getattr(schema.BuiltinOperator, operation, schema.BuiltinOperator.CUSTOM)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    code.customCode = operation if builtin == schema.BuiltinOperator.CUSTOM else None
    graph = schema.SubGraphT()
    kind, sides = output or ("FLOAT32", shape)
    graph.tensors = [tensor("x", shape, signed=signature)]
    graph.tensors += [tensor(f"t{number}", shape) for number in range(1, repeat)] + [tensor("y", sides, kind)]
    graph.tensors += [tensor("s", shape)] if second else []
    graph.inputs, graph.outputs, graph.operators = [0, repeat + 1] if second else [0], [repeat], []
    for number in range(repeat):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.outputs = 0, [number + 1]
        operator.inputs = [number, 0] if operation == "BATCH_MATMUL" else [number, *graph.inputs[1:]]
        if operation == "BATCH_MATMUL":
            operator.builtinOptionsType = schema.BuiltinOptions.BatchMatMulOptions
            operator.builtinOptions = schema.BatchMatMulOptionsT()
        graph.operators.append(operator)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def append_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """As exporters append metadata to a TFLite model."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    path.write_bytes(path.read_bytes() + archive.getvalue())
    return path


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _node(operation: str, inputs: Sequence[str], output: str, attributes: Mapping[str, int] | None = None) -> bytes:
    whole = (_field(1, name) + _field(3, value) + _field(20, 2) for name, value in (attributes or {}).items())
    named = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operation)
    return named + b"".join(_field(5, attribute) for attribute in whole)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    sides = b"".join(_field(1, _field(2 if isinstance(side, str) else 1, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sides)))


def _weight(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, side) for side in array.shape)
    kind, dtype = (INT64, np.int64) if array.dtype.kind == "i" else (FLOAT, np.float32)
    return dims + _field(2, kind) + _field(8, name) + _field(9, array.astype(dtype).tobytes())
