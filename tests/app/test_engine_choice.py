"""Which engine runs a model's file. TensorRT is the stand-in, on the pretended driver."""

import hashlib
import sys
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from edge_agent.app.engine import open_engine
from edge_agent.app.engine_choice import EngineRequest, blueprint, build_request, direct_ways
from edge_agent.app.engine_worker import make
from edge_agent.errors import EngineUnfitError, GpuError, ModelError, UnavailableError
from edge_agent.hardware.profile import load_all
from edge_agent.models import bare
from edge_agent.models.bundled import ONNX, TFLITE
from tests import fake_tensorrt, pretended_cuda

ORDER = ("tensorrt", "onnx", "tflite")


@pytest.fixture
def machine(monkeypatch):
    """A Jetson Orin, for this process and those that it starts."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    for name, value in {**pretended_cuda.environment(), **fake_tensorrt.environment()}.items():
        monkeypatch.setenv(name, value)
    pretended_cuda.load().pretended_reset()
    fake_tensorrt.put_in_place(monkeypatch)


@pytest.fixture
def request_(machine, tmp_path):
    return EngineRequest(ONNX, ORDER, threads=1, build=build_request(ONNX, None, folder=tmp_path / "engines"))


@pytest.fixture
def built(request_):
    return make(request_.build, lambda *_: None).path


def opened(request, **how):
    engine = open_engine(request, **how)
    engine.backend.close()
    return engine


def plan_of(request):
    return blueprint(bare.identify(request.path), request)


def test_an_engine_that_was_built_here_runs_the_model_and_the_model_stays_what_it_is(request_, built):
    engine = opened(request_)
    assert engine.backend_kind == "tensorrt"
    assert built.stem.split("-")[1] in engine.reason
    assert (engine.model.name, engine.model.format) == ("bottles", "onnx")
    assert engine.model.sha256 == hashlib.sha256(ONNX.read_bytes()).hexdigest()
    assert engine.model.labels == opened(replace(request_, backend="onnx")).model.labels


def test_until_it_is_built_the_next_one_stands_in_and_says_what_to_do(request_):
    engine = opened(request_)
    assert engine.backend_kind == "onnx"
    assert "no TensorRT engine has been built for it yet: edge-agent model build bottles.onnx" in engine.reason


def test_asked_for_by_name_it_must_have_been_built_unless_another_may_stand_in(request_):
    by_name = replace(request_, backend="tensorrt")
    with pytest.raises(ModelError, match="no TensorRT engine has been built for it yet: edge-agent model build"):
        open_engine(by_name)
    assert opened(by_name, or_stand_in=True).backend_kind == "onnx"


def test_an_engine_that_does_not_fit_is_set_aside_and_the_next_one_serves(request_, built):
    plan = plan_of(request_)
    foreign = fake_tensorrt.write_engine(built.with_name("foreign"), ONNX, version=[8, 6, 1])
    plan.cache.add(plan.recipe, {}, foreign.read_bytes())
    with capture_logs() as logs:
        assert opened(request_).backend_kind == "onnx"
    assert [log["event"] for log in logs if log["log_level"] == "warning"][-2:] == ["engine_set_aside", "engine_unused"]
    assert plan.built() is None


def test_a_file_of_the_users_own_that_does_not_fit_is_refused_and_stays(request_, tmp_path):
    path = fake_tensorrt.write_engine(tmp_path / "own.engine", ONNX, version=[8, 6, 1])
    with pytest.raises(EngineUnfitError):
        open_engine(replace(request_, path=path))
    assert path.is_file()


def test_without_memory_on_the_gpu_the_next_one_serves_and_the_engine_is_kept(request_, built, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "engine_memory")
    assert opened(request_).backend_kind == "onnx"
    assert built.is_file()


def test_where_tensorrt_comes_first_and_is_not_installed_another_engine_stands_in_and_says_why(tmp_path):
    request = EngineRequest(ONNX, ORDER, threads=1, build=build_request(ONNX, None, folder=tmp_path))
    assert opened(request).reason.startswith("onnx stands in: TensorRT cannot run it here: TensorRT is not installed")
    with pytest.raises(UnavailableError, match="TensorRT is not installed"):
        open_engine(replace(request, backend="tensorrt"))


@pytest.mark.parametrize(
    "others",
    [{"order": ("onnx", "tensorrt")}, {"order": ("tflite",)}, {"backend": "onnx"}, {"build": None}, {"path": TFLITE}],
    ids=str,
)
def test_what_others_run_first_gets_no_engine(request_, others):
    assert plan_of(replace(request_, **others)) is None


def test_a_gpu_that_cannot_be_used_is_no_reason_not_to_start(request_):
    pretended_cuda.load().pretended_fail_next(b"cuInit", 999)
    with capture_logs() as logs:
        assert "onnx stands in: TensorRT cannot run it here: engines cannot be built here" in opened(request_).reason
    assert ("tensorrt_unused", "warning") in [(log["event"], log["log_level"]) for log in logs]


def test_a_gpu_that_cannot_be_used_ends_what_was_to_run_on_it_with_the_code_that_systemd_tries_again(request_):
    pretended_cuda.load().pretended_fail_next(b"cuInit", 999)
    with pytest.raises(GpuError) as raised:
        open_engine(replace(request_, backend="tensorrt"))
    assert raised.value.exit_code == 1


def test_a_precision_that_cannot_be_had_is_refused_not_passed_over(request_):
    with pytest.raises(ModelError, match="int8"):
        open_engine(replace(request_, build=replace(request_.build, precision="int8")))


def test_a_tensorrt_that_cannot_be_loaded_is_no_reason_not_to_start(request_, monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    with capture_logs() as logs:
        assert opened(request_).backend_kind == "onnx"
    assert "libnvinfer.so.10: cannot open shared object file" in logs[0]["reason"]


def test_a_similar_engine_is_one_of_the_same_model_with_other_options(request_, built):
    other = replace(request_, build=replace(request_.build, precision="fp32"))
    plan = plan_of(other)
    assert plan.built() is None
    assert plan.similar().path == built
    assert "with other options" in plan.similar().reason


def test_how_it_is_built_is_what_was_asked_for_or_what_the_profile_says(tmp_path):
    profile = load_all(None)["jetson-orin-nano"]
    of_profile = build_request(ONNX, profile)
    assert (of_profile.precision, of_profile.preferred, of_profile.workspace_mb) == ("auto", "fp16", 512)
    asked = build_request(ONNX, profile, precision="fp32", workspace_mb=64, folder=tmp_path)
    assert (asked.precision, asked.workspace_mb, asked.folder) == ("fp32", 64, tmp_path)


def test_a_file_that_nothing_here_reads_is_refused_with_what_may_be(tmp_path):
    file = bare.ModelFile(tmp_path / "m.caffemodel", "m", "0" * 64, "caffe")
    with pytest.raises(ModelError, match=r"it may be \.engine, \.npz, \.onnx, \.plan, \.tflite"):
        direct_ways(file, "auto", ORDER)
    with pytest.raises(UnavailableError, match="there is no engine 'cuda' here"):
        direct_ways(file, "cuda", ORDER)
