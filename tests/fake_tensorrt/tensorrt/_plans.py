"""The plans of this stand-in: they begin as the real ones; then facts as JSON and the ONNX model.

Since 8.6 the real ones have `ftrt`, the format's number 0 and, at byte 24, four bytes of version: see printPlanVersion in
samples/common/sampleEngines.cpp of github.com/NVIDIA/TensorRT. The sizes between are this stand-in's own.
"""

import json
import struct

from tensorrt import _says

MAGIC = b"ftrt"
_HEAD = struct.Struct("<4sIQQ4B")


def packed(facts, onnx):
    text = json.dumps(facts).encode()
    version = [*facts["version"], 0, 0][:4]
    head = _HEAD.pack(MAGIC, int(tuple(version) < (8, 6)), len(text), len(onnx), *version)
    return head + text + onnx


def unpacked(data):
    """The facts and the model, or no facts and what is wrong."""
    data = bytes(data)
    if not data:
        return None, _says.empty()
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        return None, _says.no_plan()
    _magic, number, facts_size, onnx_size, *version = _HEAD.unpack_from(data)
    if number > 1:
        return None, _says.other_version({"version": (8, 4)})
    if len(data) != _HEAD.size + facts_size + onnx_size:
        return None, _says.cut_short()
    try:
        facts = json.loads(data[_HEAD.size : _HEAD.size + facts_size])
    except ValueError:
        return None, _says.cut_short()
    facts["version"], facts["compute"] = tuple(version[:3]), tuple(facts["compute"])
    return facts, data[_HEAD.size + facts_size :]
