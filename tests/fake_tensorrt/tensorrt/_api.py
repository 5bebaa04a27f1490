"""Which TensorRT this pretends to be, and what the recording of the real one says that it has."""

import enum
import json
import os
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parents[2] / "data" / "tensorrt_api"
PERSONALITY = os.environ.get("FAKE_TENSORRT", "10.3.0")
API = json.loads((RECORDINGS / f"{PERSONALITY}.json").read_text(encoding="utf-8"))
VERSION = tuple(int(part) for part in PERSONALITY.removeprefix("lean-").split("."))
MAJOR = VERSION[0]


class Enum(enum.Enum):
    """As pybind11 makes them: they turn into numbers when asked to, and are written with their class's name."""

    def __int__(self):
        return self.value

    def __index__(self):
        return self.value

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"


def enums():
    """All of the recording's enums, by name."""
    return {name: Enum(name, members, module="tensorrt") for name, members in API["enums"].items()}


def trimmed(kind):
    """The class with no more than the recorded version has: nothing else can be read or set."""
    recorded = API["classes"][kind.__name__]
    known = {*recorded["methods"], *recorded["properties"], *recorded["enums"]}
    for name in [name for name in vars(kind) if not name.startswith("_") and name not in known]:
        delattr(kind, name)
    kind.__module__ = "tensorrt"
    kind.__setattr__ = _setter(known)
    return kind


def _setter(known):
    def set_known(self, name, value):
        if not name.startswith("_") and name not in known and type(self).__module__ == "tensorrt":
            raise AttributeError(f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)

    return set_known


def has(made, **values):
    """Sets the values that the recorded version knows of its class."""
    known = API["classes"][type(made).__name__]["properties"]
    vars(made).update({name: value for name, value in values.items() if name in known})
