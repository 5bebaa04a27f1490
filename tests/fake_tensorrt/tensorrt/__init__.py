"""A stand-in for TensorRT's Python module, for machines without TensorRT: ONNX Runtime behind the same names.

FAKE_TENSORRT says which version it is (8.5.3, 8.6.1, 10.3.0, 11.4.0); what the recording of the real module of that
version lacks is not there. What it knows is what the named-tensor interface, the builder and the ONNX parser need, and
the words with which the real one refuses. Engines run on memory that the CPU can reach: that of the pretended driver.

FAKE_TENSORRT_BUILD_S, _COMPUTE and _FAIL say how it behaves, and are looked at when something is done. What can fail:
engine_memory, context_memory, enqueue, capture (refused), capture_nothing (an empty graph), build, build_memory,
build_crash; with commas between.
"""

from tensorrt import _builder, _context, _network, _runtime, _values
from tensorrt._api import API, trimmed
from tensorrt._shared import ENUMS, LIVE

_NAMES = {
    name: value for module in (_values, _context, _runtime, _network, _builder) for name, value in vars(module).items()
}

__version__ = API["version"]
globals().update(ENUMS)
for _name in sorted(API["classes"].keys() & _NAMES.keys()):
    globals()[_name] = trimmed(_NAMES[_name])
for _name in sorted(API["functions"].keys() & _NAMES.keys()):
    globals()[_name] = _NAMES[_name]
for _name, _text in API["constants"].items():
    _kind, _, _member = _text.partition(".")
    if _kind in ENUMS:
        globals()[_name] = ENUMS[_kind][_member]


def _live():
    """How many runtimes, engines and contexts have not been freed: for tests, the real one tells nobody."""
    return len(LIVE)
