"""What an ONNX file says about itself, read without the onnx package.

The file is protobuf: fields of a number and a value, one after the other. The numbers are those of onnx.proto3 of the
ONNX project. Weights are stepped over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.models.bare import normalise

_FLOAT16 = 10  # TensorProto.DataType
_EXTERNAL = 1  # TensorProto.DataLocation
_QUANTISES = frozenset({b"QuantizeLinear", b"DequantizeLinear"})
_COLOURS = (1, 3)
_SIDES_OF_A_PICTURE = 4
_VARINT_BITS = 64

Shape = tuple[int, ...]
Field = tuple[int, int | memoryview]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The facts of one file.

    Attributes:
        metadata: what its exporter wrote beside the graph, all text.
        inputs: name and sides of every input that is no weight; -1 where a side is not fixed.
        is_quantised: INT8 by pairs of quantise and dequantise (Q/DQ) in the graph.
        has_halves: some of its weights are FP16.
    """

    path: Path
    metadata: Mapping[str, str]
    inputs: tuple[tuple[str, Shape], ...]
    is_quantised: bool
    has_halves: bool


def read(path: Path) -> OnnxFile:
    """The facts of the file.

    Raises:
        ModelError: it cannot be read, is not ONNX, or keeps its weights in other files.
    """
    try:
        return _model(path, memoryview(path.read_bytes()))
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, IndexError, TypeError):
        raise ModelError(f"{path}: is damaged, or not an ONNX model; copy or export it again") from None


def fixed_shapes(file: OnnxFile) -> tuple[tuple[str, Shape], ...]:
    """The inputs with sides that are fixed: a batch is 1, height and width are those of `imgsz` in the metadata.

    Raises:
        ModelError: a side is not fixed, and nothing says how long it shall be.
    """
    return tuple((name, _fixed(file, name, shape)) for name, shape in file.inputs)


def _fixed(file: OnnxFile, name: str, shape: Shape) -> Shape:
    sides = [1, *shape[1:]] if shape and shape[0] < 0 else list(shape)
    size = _picture_size(file.metadata)
    if size and len(sides) == _SIDES_OF_A_PICTURE:
        first = 2 if sides[1] in _COLOURS else 1
        for position, wanted in zip((first, first + 1), size, strict=True):
            sides[position] = wanted if sides[position] < 0 else sides[position]
    if not all(side > 0 for side in sides):
        declared = ["?" if side < 0 else side for side in shape]
        raise ModelError(
            f"{file.path}: the size of the input {name} [{', '.join(map(str, declared))}] is not fixed; "
            "export the model with a fixed size, for example imgsz=640 and dynamic=False"
        )
    return tuple(sides)


def _picture_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Height and width, as Ultralytics writes them: one number for both, or two."""
    size: Any = normalise(metadata).get("imgsz")
    sides = [size, size] if isinstance(size, int) else size
    if isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):  # noqa: PLR2004
        return sides[0], sides[1]
    return None


def _model(path: Path, data: memoryview) -> OnnxFile:
    metadata: dict[str, str] = {}
    graph: memoryview | None = None
    for number, value in _fields(data):
        if number == 7:  # noqa: PLR2004 - ModelProto.graph
            graph = _message(value)
        elif number == 14:  # noqa: PLR2004 - ModelProto.metadata_props
            entry = dict(_fields(_message(value)))
            metadata[_text(entry.get(1))] = _text(entry.get(2))
    if graph is None:
        raise ValueError("no graph")
    return _graph(path, metadata, graph)


def _graph(path: Path, metadata: Mapping[str, str], graph: memoryview) -> OnnxFile:
    operations: set[bytes] = set()
    weights: dict[str, Mapping[int, int | memoryview]] = {}
    inputs: list[tuple[str, Shape]] = []
    for number, value in _fields(graph):
        if number == 1:  # GraphProto.node
            operations.add(bytes(_message(dict(_fields(_message(value))).get(4, memoryview(b"")))))
        elif number == 5:  # noqa: PLR2004 - GraphProto.initializer
            weight = dict(_fields(_message(value)))
            weights[_text(weight.get(8))] = weight
        elif number == 11:  # noqa: PLR2004 - GraphProto.input
            inputs.append(_input(_message(value)))
    if any(weight.get(14) == _EXTERNAL for weight in weights.values()):
        raise ModelError(f"{path}: its weights lie in other files; export it with the weights inside")
    return OnnxFile(
        path,
        metadata,
        tuple((name, shape) for name, shape in inputs if name not in weights),
        is_quantised=bool(operations & _QUANTISES),
        has_halves=any(weight.get(2) == _FLOAT16 for weight in weights.values()),
    )


def _input(value: memoryview) -> tuple[str, Shape]:
    """ValueInfoProto: name 1, type 2, of that tensor_type 1, of that shape 2, of that dim 1."""
    facts = dict(_fields(value))
    tensor = _inside(_inside(_message(facts.get(2, memoryview(b""))), 1), 2)
    return _text(facts.get(1)), tuple(_side(_message(side)) for number, side in _fields(tensor) if number == 1)


def _side(value: memoryview) -> int:
    """TensorShapeProto.Dimension: dim_value 1, or a name for what is not fixed."""
    length = dict(_fields(value)).get(1, 0)
    return length if isinstance(length, int) and 0 < length < 1 << 31 else -1


def _inside(value: memoryview, number: int) -> memoryview:
    return _message(dict(_fields(value)).get(number, memoryview(b"")))


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where a message should be")
    return value


def _text(value: int | memoryview | None) -> str:
    return bytes(_message(value)).decode("utf-8", "replace") if value is not None else ""


def _fields(data: memoryview) -> Iterator[Field]:
    """Number and value of each field. Raises `ValueError` or `IndexError` where it is none."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        length, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)  # noqa: PLR2004 - wire types
        if length < 0 or at + length > len(data):
            raise ValueError("a field that is none, or is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: Sequence[int], at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS + 6, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no top bit
            return value, at
    raise ValueError("a number that does not end")
