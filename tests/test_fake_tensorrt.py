"""The stand-in for TensorRT keeps to what was recorded of the real one, and does as it does where our code depends on it."""

import importlib
import inspect
import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cuda import open_cuda
from tests import pretended_cuda
from tests.backends.models import BOOL, FLOAT, INT64, write_onnx
from tests.fake_tensorrt import VERSIONS, put_in_place, write_engine

RECORDINGS = Path(__file__).parent / "data" / "tensorrt_api"
HAS_NO_SIGNATURE = {"IHostMemory", "Dims", "ITensor"}  # made with values of their own; the names are compared


def recording(version):
    return json.loads((RECORDINGS / f"{version}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def cuda():
    pretended_cuda.load().pretended_reset()
    with closing(open_cuda()) as opened:
        yield opened


@pytest.fixture
def trt(version, monkeypatch, cuda):
    return put_in_place(monkeypatch, version)


@pytest.fixture
def newest(monkeypatch, cuda):
    return put_in_place(monkeypatch, "10.3.0")


@pytest.fixture
def model(tmp_path):
    return write_onnx(tmp_path / "m.onnx", [("Relu", ["x"], "y")], {"x": (FLOAT, [1, 3])}, {"y": (FLOAT, [1, 3])})


class Listening:
    """Makes a logger that keeps what it hears."""

    def __new__(cls, trt):
        class Logger(trt.ILogger):
            def __init__(self):
                super().__init__()
                self.heard = []

            def log(self, severity, msg):
                self.heard.append((severity.name, msg))

        return Logger()


# ------------------------------------------------------------------------------------------------- as was recorded


def public_names(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_all_it_has_is_in_the_recording(trt, version):
    recorded = recording(version)
    known = {*recorded["classes"], *recorded["enums"], *recorded["functions"], *recorded["constants"]}
    modules = {name for name in vars(trt) if inspect.ismodule(getattr(trt, name))}

    names = public_names(trt) - modules - {"API", "ENUMS", "LIVE", "trimmed"}

    assert names <= known


def test_its_classes_have_nothing_beside_what_was_recorded(trt, version):
    for name, recorded in recording(version)["classes"].items():
        kind = getattr(trt, name, None)
        known = {*recorded["methods"], *recorded["properties"], *recorded["enums"]}

        assert kind is None or public_names(kind) <= known, name


def test_its_enums_are_those_recorded(trt, version):
    for name, members in recording(version)["enums"].items():
        assert {word: int(member) for word, member in getattr(trt, name).__members__.items()} == members


def test_parameters_have_the_real_names_in_the_real_order(trt, version):
    for name, recorded in recording(version)["classes"].items():
        kind = getattr(trt, name, None)
        if kind is None or name in HAS_NO_SIGNATURE:
            continue
        for method in public_names(kind) & recorded["methods"].keys():
            ours, real = parameters(getattr(kind, method)), recorded["methods"][method]
            assert any(ours == named(line)[: len(ours)] for line in ([real] if isinstance(real, str) else real)), method


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def named(line):
    """The parameters of a recorded signature."""
    inside = line[line.index("(") + 1 : line.rindex(") ->")]
    return [name for name in re.findall(r"(?:^|, )(\w+):", inside) if name != "self"]


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_bindings", "tensorrt_lean_bindings", "tensorrt_lean"])
def test_the_recording_is_that_of_the_real_module_where_it_is_installed(module):
    real = pytest.importorskip(module, reason="the real module is not installed")
    name = ("lean-" if "lean" in module else "") + ".".join(real.__version__.split(".")[:3])
    if "fake_tensorrt" in str(real.__file__) or not (RECORDINGS / f"{name}.json").is_file():
        pytest.skip(f"no recording of {module} {name}")
    record = importlib.import_module("scripts.record_tensorrt_api")

    again = json.loads(json.dumps(record.recorded(real)))

    assert again == {key: value for key, value in recording(name).items() if key != "source"}


def test_an_attribute_the_version_lacks_can_neither_be_read_nor_set(monkeypatch):
    trt = put_in_place(monkeypatch, "8.5.3")
    runtime = trt.Runtime(Listening(trt))

    with pytest.raises(AttributeError):
        runtime.engine_host_code_allowed = True
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.VERSION_COMPATIBLE


def test_a_logger_that_does_not_call_its_base_is_refused_as_pybind11_does(newest):
    class Forgetful(newest.ILogger):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"__init__\(\) must be called when overriding __init__"):
        Forgetful()


def test_a_plan_in_memory_is_a_buffer_and_nothing_else(newest, model):
    plan = build(newest, model)

    assert bytes(plan)[:4] == b"ftrt"
    assert memoryview(plan).nbytes == plan.nbytes
    with pytest.raises(TypeError):
        _ = plan[0]


# ------------------------------------------------------------------------------------------------------ building


def build(trt, model, *, profile=None, monitor=None, flags=(), logger=None, cache=None):
    logger = logger or Listening(trt)
    builder = trt.Builder(logger)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(model)), parser.get_error(0).desc()
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(flag)
    if profile:
        shapes = builder.create_optimization_profile()
        shapes.set_shape(*profile)
        config.add_optimization_profile(shapes)
    if monitor:
        config.progress_monitor = monitor
    if cache:
        assert config.set_timing_cache(config.create_timing_cache(cache), ignore_mismatch=False)
    return builder.build_serialized_network(network, config)


def test_a_built_engine_computes_what_the_model_says(trt, model, cuda):
    context = trt.Runtime(Listening(trt)).deserialize_cuda_engine(build(trt, model)).create_execution_context()
    x, y = placed(context, cuda)
    x[:] = [-1, 2, 3]

    assert context.execute_async_v3(stream_handle=cuda.stream)
    cuda.wait()
    assert y.tolist() == [0, 2, 3]


def test_what_was_captured_runs_again_with_every_launch(trt, model, cuda):
    context = trt.Runtime(Listening(trt)).deserialize_cuda_engine(build(trt, model)).create_execution_context()
    x, y = placed(context, cuda)
    graph = cuda.capture(lambda: context.execute_async_v3(stream_handle=cuda.stream))
    for number in (5, 7):
        x[:] = number
        graph.launch()
        cuda.wait()
        assert y.tolist() == [number] * 3


def placed(context, cuda):
    """The memory of both tensors of `model`, as arrays."""
    tensors = {name: cuda.host(12) for name in "xy"}
    for name, memory in tensors.items():
        assert context.set_tensor_address(name, memory.device_ptr)
    return [memory.array.view(np.float32) for memory in tensors.values()]


@pytest.mark.parametrize("failure", ["capture", "capture_nothing"])
def test_a_capture_can_fail_or_stay_empty(newest, model, cuda, monkeypatch, failure):
    context = newest.Runtime(Listening(newest)).deserialize_cuda_engine(build(newest, model)).create_execution_context()
    placed(context, cuda)
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", failure)
    taken = []

    with pytest.raises(RuntimeError):
        cuda.capture(lambda: taken.append(context.execute_async_v3(stream_handle=cuda.stream)))

    assert taken == [failure == "capture_nothing"]


def test_a_dynamic_model_takes_shapes_within_its_profile_only(trt, tmp_path):
    model = write_onnx(tmp_path / "d.onnx", [("Relu", ["x"], "y")], {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})
    logger = Listening(trt)
    plan = build(trt, model, profile=("x", (1, 3), (2, 3), (4, 3)))
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()

    assert tuple(engine.get_tensor_shape("x")) == (-1, 3)
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape("x", 0)] == [(1, 3), (2, 3), (4, 3)]
    assert context.infer_shapes() == ["x"]
    assert not context.set_input_shape("x", (5, 3))
    assert "does not satisfy any optimization profile" in logger.heard[-1][1]
    assert context.set_input_shape("x", (2, 3))
    assert tuple(context.get_tensor_shape("y")) == (2, 3)


def test_a_dynamic_model_without_a_profile_is_not_built(trt, tmp_path):
    model = write_onnx(tmp_path / "d.onnx", [("Relu", ["x"], "y")], {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})
    logger = Listening(trt)

    assert build(trt, model, logger=logger) is None
    assert "no optimization profile has been defined" in logger.heard[-1][1]


def test_64_bit_integers_stand_as_32_bit_ones_before_version_10(trt, version, tmp_path):
    model = write_onnx(tmp_path / "i.onnx", [("Abs", ["x"], "y")], {"x": (INT64, [2])}, {"y": (INT64, [2])})
    engine = trt.Runtime(Listening(trt)).deserialize_cuda_engine(build(trt, model))

    assert engine.get_tensor_dtype("x").name == ("INT32" if version.startswith("8") else "INT64")


def test_a_sized_output_that_the_data_decides_has_a_bound(newest, tmp_path):
    model = write_onnx(tmp_path / "n.onnx", [("NonZero", ["x"], "y")], {"x": (BOOL, [4])}, {"y": (INT64, [1, "k"])})
    path = write_engine(tmp_path / "n.engine", model, data_dependent={"y": [1, 4]})
    context = newest.Runtime(Listening(newest)).deserialize_cuda_engine(path.read_bytes()).create_execution_context()

    assert tuple(context.get_tensor_shape("y")) == (1, -1)
    assert context.get_max_output_size("y") == 4 * 8


def test_progress_is_told_and_can_be_stopped(newest, model):
    class Monitor(newest.IProgressMonitor):
        def __init__(self, last):
            super().__init__()
            self.steps, self.last = 0, last

        def phase_start(self, phase_name, parent_phase, num_steps):
            pass

        def step_complete(self, phase_name, step):
            self.steps += 1
            return self.steps < self.last

        def phase_finish(self, phase_name):
            pass

    assert build(newest, model, monitor=Monitor(last=100)) is not None
    assert build(newest, model, monitor=Monitor(last=3)) is None


def test_a_timing_cache_of_another_version_does_not_fit(monkeypatch, model):
    old = put_in_place(monkeypatch, "8.6.1")
    cache = old.Builder(Listening(old)).create_builder_config().create_timing_cache(b"").serialize()
    new = put_in_place(monkeypatch, "10.3.0")
    config = new.Builder(Listening(new)).create_builder_config()

    assert not config.set_timing_cache(config.create_timing_cache(bytes(cache)), ignore_mismatch=False)


def test_what_the_parser_refuses_it_tells_by_methods(trt, tmp_path):
    model = write_onnx(tmp_path / "m.onnx", [("Nonsense", ["x"], "y")], {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])})
    builder = trt.Builder(Listening(trt))
    parser = trt.OnnxParser(builder.create_network(1), Listening(trt))

    assert not parser.parse_from_file(str(model))
    assert parser.num_errors == 1
    assert parser.get_error(0).code().name == "UNSUPPORTED_NODE"
    assert "Plugin not found" in parser.get_error(0).desc()


# ----------------------------------------------------------------------------------------------------- refusals


def refusal(trt, data):
    logger = Listening(trt)
    assert trt.Runtime(logger).deserialize_cuda_engine(data) is None
    return " | ".join(words for severity, words in logger.heard if severity == "ERROR")


def test_what_is_no_plan_is_refused_by_its_magic_tag(trt):
    assert re.search(
        r"Error Code 1: Serialization \(Serialization assertion .*[mM]agicTag", refusal(trt, b"no plan at all" * 9)
    )


def test_a_plan_cut_short_is_refused_by_its_size(trt, model):
    plan = bytes(build(trt, model))

    assert "Size specified in header does not match archive size" in refusal(trt, plan[:-1])


def test_a_plan_of_another_minor_version_is_refused_by_its_tag(trt, model, tmp_path):
    path = write_engine(tmp_path / "m.engine", model, version=[8, 4, 1])

    assert "Version tag does not match. Note: Current Version: " in refusal(trt, path.read_bytes())


def test_a_plan_of_another_patch_is_refused_by_its_version(trt, version, model, tmp_path):
    path = write_engine(tmp_path / "m.engine", model, version=[*map(int, version.split(".")[:2]), 9])

    assert f"expecting library version {version} got {version[:-1]}9, please rebuild." in refusal(
        trt, path.read_bytes()
    )


def test_a_plan_of_another_gpu_is_refused_by_its_compute_capability(trt, model, tmp_path):
    path = write_engine(tmp_path / "m.engine", model, compute=[7, 2])

    assert re.search(r"expecting compute \d+\.\d+ got compute 7\.2, please rebuild\.", refusal(trt, path.read_bytes()))


def test_host_code_must_be_allowed(newest, model, tmp_path):
    plan = write_engine(tmp_path / "m.engine", model, version=[8, 6, 1], version_compatible=True).read_bytes()
    runtime = newest.Runtime(Listening(newest))

    assert "getEngineHostCodeAllowed() is false" in refusal(newest, plan)
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(plan) is not None


def test_short_memory_gives_no_context_and_the_three_lines_of_it(trt, model):
    logger = Listening(trt)
    engine = trt.Runtime(logger).deserialize_cuda_engine(build(trt, model))
    pretended_cuda.load().pretended_fail_next(b"cuMemAlloc", 2)

    assert engine.create_execution_context() is None
    assert [severity for severity, _ in logger.heard] == ["ERROR", "WARNING", "ERROR"]
    assert "OutOfMemory (no further information" in logger.heard[-1][1]


def test_nothing_runs_before_all_addresses_are_known(trt, model):
    logger = Listening(trt)
    context = trt.Runtime(logger).deserialize_cuda_engine(build(trt, model)).create_execution_context()

    assert not context.execute_async_v3(stream_handle=1)
    assert "Address is not set for input tensor x" in logger.heard[-1][1]
    assert not context.set_tensor_address("nobody", 1)


def test_all_is_freed_when_nobody_holds_it(newest, model):
    driver = pretended_cuda.load()
    engine = newest.Runtime(Listening(newest)).deserialize_cuda_engine(build(newest, model))
    context = engine.create_execution_context()
    assert (newest._live(), driver.pretended_live_of(b"device")) == (3, 2)

    del context, engine

    assert (newest._live(), driver.pretended_live_of(b"device")) == (0, 0)
