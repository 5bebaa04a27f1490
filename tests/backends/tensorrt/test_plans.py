import sys

import pytest

from edge_agent.backends.tensorrt import plans
from edge_agent.backends.tensorrt.messages import Build
from edge_agent.core import plan_header
from edge_agent.errors import EngineUnfitError, ModelError, UnavailableError


def written(path, content):
    path.write_bytes(content)
    return path


def test_a_plain_plan_has_no_metadata(tmp_path):
    file = plans.read(written(tmp_path / "m.plan", b"ptrt" + bytes(50)))
    assert (file.metadata, file.plan, file.made) == ({}, b"ptrt" + bytes(50), Build())


def test_a_header_before_the_plan_is_its_metadata(tmp_path):
    file = plans.read(written(tmp_path / "m.engine", plan_header.make({"names": {"0": "cap"}}) + b"plan"))
    assert (file.metadata, file.plan) == ({"names": {"0": "cap"}}, b"plan")


def test_our_own_header_tells_what_built_the_plan(tmp_path):
    header = plan_header.make({"edge_agent": {"tensorrt": "10.3.0", "compute": "8.7"}})
    assert plans.read(written(tmp_path / "m.engine", header + b"plan")).made == Build("10.3.0", "8.7")


@pytest.mark.parametrize("header", [b"", plan_header.make({"edge_agent": "nonsense"})])
def test_the_first_bytes_of_a_plan_tell_its_version(tmp_path, header):
    plan = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + b"rest"
    assert plans.read(written(tmp_path / "m.engine", header + plan)).made == Build("10.3.0.26")


@pytest.mark.parametrize("plan", [b"ftrt", b"ftrt" + bytes(20), b"ftrt\1\0\0\0" + bytes(20) + b"abcd"])
def test_what_cannot_be_told_from_them_is_left_open(tmp_path, plan):
    assert plans.read(written(tmp_path / "m.engine", plan)).made == Build()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "there is no engine in it"),
        (plan_header.make({"names": {}}), "there is no engine in it"),
        (plan_header.make({"names": {}})[:-1], "is damaged: its header says"),
        ((9).to_bytes(4, "little") + b"{nonsense", "is damaged: its header is not JSON"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, words):
    path = written(tmp_path / "m.engine", content)
    with pytest.raises(EngineUnfitError, match=words) as caught:
        plans.read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_no_engine_that_must_be_rebuilt(tmp_path):
    with pytest.raises(ModelError, match=r"No such file.*set path under \[model\]") as caught:
        plans.read(tmp_path / "m.engine")
    assert type(caught.value) is ModelError


def test_without_tensorrt_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match="sudo apt install python3-libnvinfer"):
        plans.library()


def test_a_tensorrt_without_named_tensors_is_too_old(tensorrt, monkeypatch):
    monkeypatch.delattr(tensorrt.IExecutionContext, "execute_async_v3")
    with pytest.raises(UnavailableError, match=r"TensorRT 10.3.0 is too old; 8.5 or newer"):
        plans.library()


def test_a_tensorrt_whose_libraries_are_missing_is_told_from_none(tmp_path, monkeypatch):
    written(tmp_path / "tensorrt.py", b"raise OSError('libnvinfer.so.8: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(UnavailableError, match="is installed but cannot be loaded: libnvinfer"):
        plans.library()
