"""TensorRT for tests, where there is none: `put_in_place` in this process, `environment` for a child process."""

import functools
import importlib
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
VERSIONS = ("8.5.3", "8.6.1", "10.3.0", "11.4.0")


def put_in_place(monkeypatch, version="10.3.0"):
    """`import tensorrt` gives the stand-in of this version until the test is over; returned as well."""
    monkeypatch.setenv("FAKE_TENSORRT", version)
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in _loaded():
        monkeypatch.delitem(sys.modules, name)
    for name, module in _modules(version).items():
        monkeypatch.setitem(sys.modules, name, module)
    return sys.modules["tensorrt"]


@functools.cache
def _modules(version):
    """Those of the version of FAKE_TENSORRT, imported once, and out of the way again."""
    importlib.import_module("tensorrt")
    return {name: sys.modules.pop(name) for name in _loaded()}


def environment(version="10.3.0"):
    """For a child process that shall find the stand-in."""
    path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"FAKE_TENSORRT": version, "PYTHONPATH": path}


def write_engine(path, onnx, *, header=b"", **facts):
    """A plan of the ONNX file, as the stand-in in place would have built it; facts as in `tensorrt._builder.facts`.

    `header` goes before the plan. Returns the path.
    """
    builder, plans = importlib.import_module("tensorrt._builder"), importlib.import_module("tensorrt._plans")
    path.write_bytes(header + plans.packed(builder.facts(**facts), Path(onnx).read_bytes()))
    return path


def _loaded():
    return [name for name in sys.modules if name.partition(".")[0] == "tensorrt"]
