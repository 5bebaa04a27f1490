"""ONNX models: what is in them, and running them on memory at given addresses."""

import ctypes
from math import prod

import numpy as np

_FLAT = {
    "tensor(float)": "FLOAT",
    "tensor(float16)": "HALF",
    "tensor(int8)": "INT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(bool)": "BOOL",
}
NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


class Model:
    """A loaded model. Raises whatever ONNX Runtime raises."""

    def __init__(self, content):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.outputs = {tensor.name: tensor for tensor in self.session.get_outputs()}

    def tensor(self, name):
        return self.inputs.get(name) or self.outputs[name]

    def shape(self, name):
        """-1 for sides that are free."""
        return [side if isinstance(side, int) else -1 for side in self.tensor(name).shape]

    def dtype(self, name):
        return _FLAT[self.tensor(name).type]

    def output_shapes(self, shapes):
        """Of all outputs, for these shapes of the inputs: found by running on zeros where names of sides do not tell."""
        sides = {
            word: side
            for name, tensor in self.inputs.items()
            for word, side in zip(tensor.shape, shapes[name], strict=True)
            if isinstance(word, str)
        }
        told = {name: [sides.get(side, side) for side in output.shape] for name, output in self.outputs.items()}
        if all(isinstance(side, int) for shape in told.values() for side in shape):
            return told
        zeros = {name: np.zeros(shape, NUMPY[self.dtype(name)]) for name, shape in shapes.items()}
        return {name: list(array.shape) for name, array in zip(told, self.session.run(list(told), zeros), strict=True)}

    def run(self, addresses, shapes, narrowed):
        """Reads the inputs at their addresses and returns the outputs as arrays. `narrowed`: INT64 stands as INT32."""
        feeds = {name: self._at(addresses[name], name, shapes[name], narrowed) for name in self.inputs}
        wanted = {name: np.asarray(array, NUMPY[self.dtype(name)]) for name, array in feeds.items()}
        return dict(zip(self.outputs, self.session.run(list(self.outputs), wanted), strict=True))

    def _at(self, address, name, shape, narrowed):
        dtype = self.dtype(name)
        return view(address, shape, NUMPY["INT32" if narrowed and dtype == "INT64" else dtype])


def view(address, shape, dtype):
    """An array over memory that is somebody else's."""
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype).reshape(shape)


def operations(content):
    """(name, operation) of each node: fields 7 (graph), 1 (node), 3 and 4 of onnx.proto3."""
    found = []
    for graph in _fields(content, 7):
        for node in _fields(graph, 1):
            names = [bytes(name).decode() for name in _fields(node, 3)]
            found.append((names[0] if names else "", bytes(_fields(node, 4)[0]).decode()))
    return found


def _fields(content, wanted):
    """The length-delimited fields with this number, of one protobuf message."""
    content, place, found = memoryview(content), 0, []
    while place < len(content):
        key, place = _varint(content, place)
        if key & 7 == 0:
            _value, place = _varint(content, place)
            continue
        size, place = {1: (8, place), 5: (4, place)}.get(key & 7) or _varint(content, place)
        if key == wanted << 3 | 2:
            found.append(content[place : place + size])
        place += size
    return found


def _varint(content, place):
    value = shift = 0
    while True:
        byte = content[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        shift += 7
        if not byte & 0x80:
            return value, place
