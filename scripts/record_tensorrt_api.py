"""Records what the real `tensorrt` module of one version offers: its public classes, signatures, enum members and constants.

    python3.10 scripts/record_tensorrt_api.py MODULE_DIR OUT.json SOURCE

MODULE_DIR is the unpacked package (`tensorrt`, `tensorrt_bindings` or `tensorrt_lean_bindings`), for the Python that runs
this; no GPU is needed. Libraries of TensorRT that are not found are stood in for by empty functions, which takes gcc,
nm and readelf. SOURCE says where the module is from, as "tensorrt-cu12-bindings 10.3.0, wheel from PyPI".
What builds networks layer by layer is left out: the parser is the only one here who does that.
"""

import argparse
import ctypes
import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

KEPT_DUNDERS = {"__init__", "__getitem__", "__setitem__", "__len__", "__iter__", "__call__"}
LEFT_OUT = re.compile(r"I[A-Z]\w*Layer|I?Plugin\w*|\w+_plugin_\w+|DimsHW|Permutation|add_(?!optimization_profile)\w+")


def main() -> None:
    """Imports the module and writes what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("source")
    arguments = parser.parse_args()
    module = load(arguments.module.resolve())
    text = json.dumps({"source": arguments.source, **recorded(module)}, indent=1, sort_keys=True)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(text) // 1024} KB, {module.__version__}")


def load(folder: Path) -> ModuleType:
    """The module in the folder; what its library links to and is not there is stood in for."""
    library = next(folder.glob("tensorrt*.so"))
    with tempfile.TemporaryDirectory() as scratch:
        for name in stand_ins(library, Path(scratch)):
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        sys.path.insert(0, str(folder.parent))
        return importlib.import_module(folder.name)


def stand_ins(library: Path, folder: Path) -> list[str]:
    """Libraries with empty functions, one for each of TensorRT's own that the loader cannot find."""
    missing = [name for name in needed(library) if name.startswith("libnv") and not loads(name)]
    wanted = [f"void *{name}(void) {{ return 0; }}" for name in undefined(library)] if missing else []
    (folder / "some.c").write_text("\n".join(wanted), encoding="ascii")
    (folder / "none.c").write_text("typedef int none;\n", encoding="ascii")
    paths = [str(folder / name) for name in missing]
    for name, path in zip(missing, paths, strict=True):
        source = folder / ("some.c" if name == missing[0] else "none.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", path, str(source)], check=True)
    return paths


def needed(library: Path) -> list[str]:
    """The SONAMEs that the library links to."""
    return re.findall(r"NEEDED.*\[(.+)\]", output("readelf", "-d", str(library)))


def undefined(library: Path) -> list[str]:
    """The functions of TensorRT that the library calls, C++ ones by their mangled names."""
    names = re.findall(r" U (\S+)", output("nm", "-D", "--undefined-only", str(library)))
    return [name for name in names if re.search(r"INTERNAL$|PluginRegistry$|InferPlugins$|ParserVersion$|parser", name)]


def loads(name: str) -> bool:
    """Whether the loader finds the library; once loaded it satisfies whoever links to it."""
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def output(*command: str) -> str:
    """What the command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def recorded(module: ModuleType) -> dict[str, Any]:
    """Version, enums, classes, functions and constants of the module."""
    members = {
        name: value for name, value in sorted(vars(module).items()) if public(name) and not LEFT_OUT.fullmatch(name)
    }
    classes = {name: value for name, value in members.items() if isinstance(value, type)}
    enums = {name: value for name, value in classes.items() if hasattr(value, "__members__")}
    return {
        "version": module.__version__,
        "enums": {name: values(enum) for name, enum in enums.items()},
        "classes": {name: contents(value) for name, value in classes.items() if name not in enums},
        "functions": {
            name: signature(value) for name, value in members.items() if callable(value) and name not in classes
        },
        "constants": {name: str(value) for name, value in members.items() if hasattr(type(value), "__members__")},
    }


def contents(kind: type) -> dict[str, Any]:
    """The bases of a class, its signatures, and of its properties only the names."""
    own = {name: getattr(kind, name) for name in dir(kind) if public(name) or name in KEPT_DUNDERS}
    own = {name: value for name, value in own.items() if not LEFT_OUT.fullmatch(name)}
    made_by_python = {
        name for name in KEPT_DUNDERS if getattr(kind, name, None).__class__.__name__ == "wrapper_descriptor"
    }
    enums = {name: value for name, value in own.items() if isinstance(value, type) and hasattr(value, "__members__")}
    methods = {name: value for name, value in own.items() if callable(value) and not isinstance(value, type)}
    return {
        "bases": [base.__name__ for base in kind.__bases__ if base.__name__ not in {"object", "pybind11_object"}],
        "enums": {name: values(enum) for name, enum in enums.items()},
        "methods": {name: signature(value) for name, value in methods.items() if name not in made_by_python},
        "properties": [name for name in own if name not in methods and name not in enums],
    }


def values(enum: Any) -> dict[str, int]:
    """An enum's members, by number."""
    return {name: int(member) for name, member in sorted(enum.__members__.items(), key=lambda pair: int(pair[1]))}


def signature(function: Any) -> str | list[str]:
    """The first line of the docstring, which the bindings make from the C++ signature; all of them if there are several."""
    lines = (function.__doc__ or "").strip().splitlines()
    overloads = [line.split(". ", 1)[1] for line in lines if re.match(r"\d+\. \w+\(", line)]
    shortened = [re.sub(r"tensorrt\w*\.tensorrt\w*\.", "", line.strip()) for line in overloads or lines[:1]]
    return shortened if len(shortened) > 1 else "".join(shortened)


def public(name: str) -> bool:
    """Whether a name is meant for users."""
    return not name.startswith("_")


if __name__ == "__main__":
    main()
