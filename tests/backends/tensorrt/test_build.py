import json
import sys

import pytest

from edge_agent.backends.tensorrt import build as building
from edge_agent.backends.tensorrt.build import BuildOptions, build, version
from edge_agent.errors import ModelError, TransientError, UnavailableError
from tests.backends.models import FLOAT, write_onnx
from tests.fake_tensorrt import VERSIONS, put_in_place

WITH_FLAGS = [version for version in VERSIONS if not version.startswith("11")]
OPTIONS = BuildOptions()
NODES = [("Relu", ["x"], "y")]
QUANTISED = [("QuantizeLinear", ["x", "s"], "q"), ("DequantizeLinear", ["q", "s"], "y")]


@pytest.fixture(params=VERSIONS)
def trt(request, monkeypatch):
    return put_in_place(monkeypatch, request.param)


def model(tmp_path, shape=(1, 3, 8, 8), nodes=NODES, weights=None):
    kind = (FLOAT, shape)
    return write_onnx(tmp_path / "m.onnx", nodes, {"x": kind}, {"y": kind}, weights)


def built(onnx, **options):
    return build(onnx, BuildOptions(**options), lambda _: None)


def facts(plan):
    """What the stand-in wrote into its plan."""
    data = bytes(plan)
    return json.JSONDecoder().raw_decode(data[data.index(b"{") :].decode("latin-1"))[0]


def test_a_plan_is_built_by_every_version(trt, tmp_path):
    plan = built(model(tmp_path)).plan
    assert facts(plan)["version"] == [int(part) for part in trt.__version__.split(".")[:3]]
    assert facts(plan)["workspace"] == 512 << 20


def test_the_version_has_three_numbers(trt):
    assert version() in VERSIONS


@pytest.mark.parametrize("number", WITH_FLAGS)
@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", {"TF32"}), ("fp16", {"TF32", "FP16"}), ("int8", {"TF32", "FP16", "INT8"})]
)
def test_the_precision_is_asked_of_the_builder_by_flags(monkeypatch, tmp_path, number, precision, expected):
    put_in_place(monkeypatch, number)
    result = built(model(tmp_path), precision=precision)
    assert set(facts(result.plan)["flags"]) == expected
    assert (result.precision, result.notes) == (precision, ())


@pytest.mark.parametrize("number", WITH_FLAGS)
def test_weights_in_fp16_need_the_flag_whatever_was_asked_for(monkeypatch, tmp_path, number):
    put_in_place(monkeypatch, number)
    assert "FP16" in facts(built(model(tmp_path), precision="fp32", has_halves=True).plan)["flags"]


def test_a_gpu_that_is_no_faster_in_fp16_gets_fp32_and_says_so(monkeypatch, tmp_path):
    trt = put_in_place(monkeypatch, "8.6.1")
    start = trt.Builder.__init__

    def without_fast_fp16(self, logger):
        start(self, logger)
        self.platform_has_fast_fp16 = False

    monkeypatch.setattr(trt.Builder, "__init__", without_fast_fp16)
    result = built(model(tmp_path), precision="fp16")
    assert (result.precision, result.notes) == ("fp32", ("this GPU is no faster in FP16: built as fp32",))
    assert "FP16" not in facts(result.plan)["flags"]


@pytest.mark.parametrize(
    ("precision", "has_halves", "expected"), [("fp16", False, "fp32"), ("fp16", True, "fp16"), ("int8", False, "int8")]
)
def test_from_tensorrt_11_the_precision_is_that_of_the_file(monkeypatch, tmp_path, precision, has_halves, expected):
    put_in_place(monkeypatch, "11.4.0")
    result = built(model(tmp_path), precision=precision, has_halves=has_halves)
    assert facts(result.plan)["flags"] == ["TF32"]
    assert result.precision == expected
    assert bool(result.notes) == (precision != expected)


def test_how_to_get_fp16_from_tensorrt_11_is_said(monkeypatch, tmp_path):
    put_in_place(monkeypatch, "11.4.0")
    (note,) = built(model(tmp_path), precision="fp16").notes
    assert note.startswith("TensorRT 11.4.0 takes the precision from the model, and m.onnx is fp32: built as fp32; ")
    assert "convert_to_mixed_precision" in note


def test_open_sides_get_one_size(trt, tmp_path):
    plan = built(model(tmp_path, ("batch", 3, "height", "width")), shapes={"x": (1, 3, 32, 48)}).plan
    assert facts(plan)["profiles"] == [{"x": [[1, 3, 32, 48]] * 3}]


def test_fixed_sides_need_no_profile(trt, tmp_path):
    assert facts(built(model(tmp_path), shapes={"x": (1, 3, 8, 8)}).plan)["profiles"] == []


def test_the_workspace_is_as_asked_for(trt, tmp_path):
    assert facts(built(model(tmp_path), workspace_mb=64).plan)["workspace"] == 64 << 20


def test_the_libraries_can_be_left_out(trt, tmp_path):
    everything = facts(built(model(tmp_path)).plan)["sources"]
    sources = facts(built(model(tmp_path), without_libraries=True).plan)["sources"]
    left_out = [name for name in building._LIBRARIES if hasattr(trt.TacticSource, name)]
    assert everything - sources == sum(1 << int(getattr(trt.TacticSource, name)) for name in left_out)


def test_progress_is_told_where_tensorrt_tells_it(trt, tmp_path):
    told = []
    build(model(tmp_path), OPTIONS, told.append)
    if trt.__version__.startswith("8"):
        assert told == [None]
    else:
        assert told == sorted(told)
        assert (told[0] > 0, told[-1]) == (True, 1)


def test_what_was_measured_makes_the_next_build_faster(trt, monkeypatch, tmp_path):
    slept = []
    first = built(model(tmp_path))
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "10")
    monkeypatch.setattr("time.sleep", slept.append)
    built(model(tmp_path), timing_cache=first.timing_cache)
    assert sum(slept) == pytest.approx(1)


@pytest.mark.parametrize("known", [b"rubbish", b'{"head": ["9.9.9", [1, 1]], "kernels": []}'])
def test_measurements_that_are_damaged_or_of_another_machine_are_not_used(trt, tmp_path, known):
    result = built(model(tmp_path), timing_cache=known)
    assert "9.9.9" not in result.timing_cache.decode()
    assert json.loads(result.timing_cache)["kernels"]


def test_a_model_that_cannot_be_read_is_refused_with_the_node(trt, tmp_path):
    with pytest.raises(ModelError) as refused:
        built(model(tmp_path, nodes=[("Teleport", ["x"], "y")]))
    text = str(refused.value)
    assert f"m.onnx: TensorRT {version()} cannot read this model: node 0" in text
    assert ("node 0 (Teleport teleport): " in text) == (not trt.__version__.startswith("8"))
    assert "Plugin not found" in text
    assert "run it with ONNX Runtime" in text


def test_a_build_that_fails_gives_tensorrts_reasons(trt, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "build")
    with pytest.raises(
        ModelError,
        match=r"m\.onnx: TensorRT cannot build an engine from this model \(TensorRT .* says: .*Could not find any implementation",
    ):
        built(model(tmp_path))


def test_too_little_memory_may_be_better_another_time(trt, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "build_memory")
    with pytest.raises(
        TransientError, match="too little memory to build an engine with a workspace of 64 MB; stop other"
    ):
        built(model(tmp_path), workspace_mb=64)


def test_a_quantised_model_becomes_int8(trt, tmp_path):
    numpy = pytest.importorskip("numpy")
    path = model(tmp_path, nodes=QUANTISED, weights={"s": numpy.array(0.1, numpy.float32)})
    assert built(path, precision="int8").precision == "int8"


def test_without_tensorrt_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match="TensorRT is not installed: on a Jetson, sudo apt"):
        built(model(tmp_path))


def test_without_a_gpu_that_is_said(trt, monkeypatch, tmp_path):
    def refuse(self, logger):
        logger.log(trt.ILogger.ERROR, "CUDA initialization failure with error: 35.")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt.Builder, "__init__", refuse)
    with pytest.raises(UnavailableError, match=r"cannot use a GPU here; see that .* says: CUDA initialization failure"):
        built(model(tmp_path))
