"""All that this project asks of TensorRT is in the real module, as recorded from it, or is looked for before it is used."""

import ast
import io
import json
import mmap
from pathlib import Path

import numpy as np
import pytest

from tests.fake_tensorrt import VERSIONS
from tests.fixtures import REPO

SOURCES = sorted((REPO / "edge_agent" / "backends" / "tensorrt").glob("*.py"))
BUILDING = {"build.py", "phases.py"}  # the lean runtime builds nothing
LEAN = "lean-11.4.0"

COMES_AND_GOES = {
    "BuilderFlag.FP16": {"8.5.3", "8.6.1", "10.3.0"},
    "BuilderFlag.INT8": {"8.5.3", "8.6.1", "10.3.0"},
    "IProgressMonitor": {"10.3.0", "11.4.0", LEAN},
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": {"8.5.3", "8.6.1", "10.3.0"},
    "engine_host_code_allowed": {"8.6.1", "10.3.0", "11.4.0", LEAN},
    "init_libnvinfer_plugins": {"8.5.3", "8.6.1", "10.3.0", "11.4.0"},
    "node_name": {"10.3.0", "11.4.0"},
    "node_operator": {"10.3.0", "11.4.0"},
    "platform_has_fast_fp16": {"8.5.3", "8.6.1", "10.3.0"},
    "progress_monitor": {"10.3.0", "11.4.0"},
}
"""What not every version has. The code asks before it uses one of these: the stand-ins of all versions show that it does."""

ORDINARY = (list, dict, set, bytes, memoryview, str, Path, io.BufferedReader, mmap.mmap, np, np.ndarray, np.dtype)
OTHERS = {name for kind in ORDINARY for name in dir(kind)}
OTHERS |= {"metadata", "precision"}  # of our own objects


def recording(version):
    return json.loads((Path(__file__).parent / "data" / "tensorrt_api" / f"{version}.json").read_text(encoding="utf-8"))


def names(version):
    """All that this version has: `Runtime`, `BuilderFlag.FP16`, and members of objects by their names alone."""
    api = recording(version)
    enums = {f"{name}.{member}" for name, members in api["enums"].items() for member in members}
    members = {name for kind in api["classes"].values() for part in ("methods", "properties") for name in kind[part]}
    return {*api["classes"], *api["enums"], *api["functions"], *api["constants"], *members} | enums


HAS = {version: names(version) for version in (*VERSIONS, LEAN)}
KNOWN = set().union(*HAS.values())


def used(path):
    """What a file takes from the module, and what it takes from objects under a name that only TensorRT knows."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(of_module(node) or node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr"}:
            found |= asked_for(node)
    return {name for name in found if name in KNOWN and name not in OTHERS}


def asked_for(call):
    if not isinstance(call.args[1], ast.Constant):
        return set()
    base, name = of_module(call.args[0]), call.args[1].value
    return {f"{base}.{name}" if base else name}


def of_module(node):
    """`BuilderFlag.FP16` of `tensorrt.BuilderFlag.FP16` or `self._tensorrt.BuilderFlag.FP16`, else nothing."""
    parts = []
    while isinstance(node, ast.Attribute) and node.attr != "_tensorrt":
        parts.append(node.attr)
        node = node.value
    last = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return ".".join(reversed(parts)) if last in {"tensorrt", "trt", "_tensorrt"} else ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_attribute_used_is_in_the_real_module(path, version):
    lacking = used(path) - HAS[version]

    assert {name for name in lacking if version in COMES_AND_GOES.get(name, VERSIONS)} == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name not in BUILDING], ids=lambda path: path.name)
def test_what_runs_engines_needs_no_more_than_the_lean_runtime_has(path):
    assert used(path) - HAS[LEAN] - COMES_AND_GOES.keys() == set()


@pytest.mark.parametrize("name", sorted(COMES_AND_GOES))
def test_what_comes_and_goes_is_known_with_its_versions(name):
    assert {version for version in HAS if name in HAS[version]} == COMES_AND_GOES[name]
    assert any(name in used(path) for path in SOURCES), f"{name} is not used any more"


def test_the_named_tensor_interface_is_what_runs_engines():
    everything = set().union(*(used(path) for path in SOURCES))

    assert {"execute_async_v3", "set_tensor_address", "set_input_shape", "get_tensor_name"} <= everything
    assert not {"execute_v2", "execute_async_v2", "num_bindings", "get_binding_shape", "binding_is_input"} & everything
