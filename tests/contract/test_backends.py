"""What `Backend` promises, on every kind that can open here and every model that is at hand."""

import threading
import time

import numpy as np
import pytest

from edge_agent import plugins
from edge_agent.backends import onnx, recorded, tensorrt, tflite
from edge_agent.core.datatypes import TensorSpec
from edge_agent.errors import ModelError
from tests import fake_tensorrt, pretended_cuda
from tests.backends.models import BOOL, FLOAT, INT64, write_onnx, write_tflite
from tests.fixtures import REPO, SHARED, needs_shared

MODULES = {".tflite": tflite, ".onnx": onnx, ".npz": recorded, ".engine": tensorrt}
SHARED_MODELS = [
    "yolo11n_640_int8.tflite",
    "yolo11n_416_int8_full.tflite",
    "yolov8n_320_int8_nms.tflite",
    "ssd_mobilenet_pets.tflite",
    "yolox_nano_416_coco.onnx",
]
EXAMPLE = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
SIDE, LONG = 512, 60  # of a chain of matrix products that takes some 60 ms


def static_tflite(folder):
    return write_tflite(folder / "static.tflite", "RELU", (1, 4, 4, 3), signature=(-1, 4, 4, 3))


def varying_tflite(folder):
    return write_tflite(folder / "varying.tflite", "WHERE", (1, 4), output=("INT64", (1, 2)))


def two_inputs_tflite(folder):
    return write_tflite(folder / "two.tflite", "MAXIMUM", (1, 4, 4, 3), second=True)


def long_tflite(folder):
    return write_tflite(folder / "long.tflite", "BATCH_MATMUL", (SIDE, SIDE), repeat=LONG)


def static_onnx(folder):
    tensor = (FLOAT, ["batch", 3, 4, 4])
    return write_onnx(folder / "static.onnx", [("Relu", ["x"], "y")], {"x": tensor}, {"y": tensor})


def varying_onnx(folder):
    nodes = [("NonZero", ["x"], "y")]
    return write_onnx(folder / "varying.onnx", nodes, {"x": (FLOAT, [1, 4])}, {"y": (INT64, [2, "found"])})


def many_inputs_onnx(folder):
    """Besides the picture what such models want: a size, a flag, a number."""
    nodes = [("Relu", ["x"], "y"), ("Identity", ["size"], "a"), ("Not", ["flag"], "b"), ("Identity", ["level"], "c")]
    inputs = {"x": (FLOAT, [1, 3, 4, 4]), "size": (INT64, ["N", 2]), "flag": (BOOL, [1]), "level": (FLOAT, [])}
    outputs = {"y": (FLOAT, [1, 3, 4, 4]), "a": (INT64, ["N", 2]), "b": (BOOL, [1]), "c": (FLOAT, [])}
    return write_onnx(folder / "many.onnx", nodes, inputs, outputs)


def long_onnx(folder, length=LONG):
    names = ["x", *(f"t{number}" for number in range(1, length)), "y"]
    nodes = [("MatMul", [names[number], "w"], names[number + 1]) for number in range(length)]
    tensor = (FLOAT, [SIDE, SIDE])
    return write_onnx(folder / "long.onnx", nodes, {"x": tensor}, {"y": tensor}, {"w": np.eye(SIDE)})


def engine(onnx_path):
    """What the stand-in for TensorRT would have built; it runs on the pretended driver."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    pretended_cuda.load().cuInit(0)
    return fake_tensorrt.write_engine(onnx_path.with_suffix(".engine"), onnx_path)


def static_engine(folder):
    return engine(static_onnx(folder))


def many_inputs_engine(folder):
    return engine(many_inputs_onnx(folder))


def long_engine(folder):
    return engine(long_onnx(folder, LONG // 3))  # it is run some twenty times when it is opened


def recording(folder, **options):
    path = folder / "recording.npz"
    outputs = [np.arange(84, dtype=np.float32).reshape(1, 12, 7)]
    recorded.save(path, [TensorSpec("images", (1, 32, 32, 3), np.dtype(np.float32))], [outputs], {}, **options)
    return path


def long_recording(folder):
    return recording(folder, latency_ms=60)


MADE = [
    static_tflite, varying_tflite, two_inputs_tflite, static_onnx, varying_onnx, many_inputs_onnx, recording,
    static_engine, many_inputs_engine,
]  # fmt: skip
LONG_MADE = [long_tflite, long_onnx, long_recording, long_engine]


@pytest.fixture(autouse=True, scope="module")
def _tensorrt():
    """The stand-in, as `import tensorrt`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_tensorrt.put_in_place(monkeypatch)
        yield


def open_backend(path):
    module = MODULES[path.suffix]
    if path.suffix == ".engine":
        pretended_cuda.load()
    if missing := module.available():
        pytest.skip(missing)
    return module.create(module.Config(path=path, threads=1))


@pytest.fixture(
    params=[*MADE, *(pytest.param(name, marks=needs_shared) for name in SHARED_MODELS), EXAMPLE],
    ids=lambda made: getattr(made, "__name__", None) or getattr(made, "stem", made),
)
def backend(request, tmp_path):
    if callable(request.param):
        path = request.param(tmp_path)
    elif request.param is EXAMPLE:
        path = EXAMPLE
    else:
        path = SHARED / "fixtures" / "models" / request.param
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    backend = open_backend(path)
    yield backend
    backend.close()


def fill_inputs(backend, seed=0):
    """Something like pictures, within what the type can hold."""
    noise = np.random.default_rng(seed)
    for bound in backend.inputs:
        bound.array[...] = noise.integers(0, 100, bound.spec.shape)


@pytest.mark.parametrize("kind", plugins.kinds("backends"))
def test_each_kind_says_what_it_reads_and_whether_it_can_be_used_here(kind):
    module = plugins.load("backends", kind)
    assert all(suffix.startswith(".") for suffix in module.SUFFIXES)
    assert module.available() is None or "install" in module.available()
    assert "kind" not in module.Config.model_fields
    assert all(field.description for field in module.Config.model_fields.values())


def test_every_kind_that_can_open_here_is_in_this_suite():
    here = {kind for kind in plugins.kinds("backends") if plugins.load("backends", kind).available() is None}
    assert here <= {module.__name__.rpartition(".")[2] for module in MODULES.values()}


def test_the_inputs_are_writable_and_of_the_declared_shape_and_type(backend):
    assert backend.inputs
    for bound in backend.inputs:
        assert bound.array.shape == bound.spec.shape
        assert bound.array.dtype == bound.spec.dtype
        assert bound.array.flags.writeable
        assert bound.array.flags.c_contiguous


def test_the_outputs_are_of_the_declared_shape_and_type(backend):
    fill_inputs(backend)
    outputs = backend.infer()
    assert len(outputs) == len(backend.outputs)
    for spec, array in zip(backend.outputs, outputs, strict=True):
        assert array.dtype == spec.dtype
        assert len(array.shape) == len(spec.shape)
        assert all(want in (-1, side) for want, side in zip(spec.shape, array.shape, strict=True))


def test_the_outputs_cannot_be_written(backend):
    assert not any(array.flags.writeable for array in backend.infer())


def test_the_same_input_gives_the_same_output(backend):
    fill_inputs(backend)
    first = [array.copy() for array in backend.infer()]
    for before, after in zip(first, backend.infer(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_outputs_stay_until_the_next_run_while_inputs_are_written(backend):
    fill_inputs(backend, seed=1)
    outputs = backend.infer()
    kept = [array.copy() for array in outputs]
    fill_inputs(backend, seed=2)
    for before, after in zip(kept, outputs, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_run_leaves_the_inputs_as_they_are(backend):
    """Padding is written once and must still be there for the next picture."""
    fill_inputs(backend)
    kept = [bound.array.copy() for bound in backend.inputs]
    backend.infer()
    for before, bound in zip(kept, backend.inputs, strict=True):
        np.testing.assert_array_equal(before, bound.array)


def test_the_engine_is_named_with_its_threads_calls_or_graph(backend):
    assert any(word in backend.runtime for word in ("1 thread", "1 call", "CUDA graph"))


def test_closing_twice_does_nothing(backend):
    backend.close()
    backend.close()


@pytest.mark.parametrize("model", LONG_MADE)
def test_other_threads_run_on_during_a_run(model, tmp_path):
    """One tick a millisecond would be two ticks at most, before and after, if the GIL were held."""
    backend = open_backend(model(tmp_path))
    ticks, stop, started = [], threading.Event(), threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(time.monotonic())
            started.set()

    ticker = threading.Thread(target=tick)
    ticker.start()
    started.wait()
    begin = time.monotonic()
    backend.infer()
    end = time.monotonic()
    stop.set()
    ticker.join()
    backend.close()
    assert sum(begin < at < end for at in ticks) > 5


@pytest.mark.parametrize("suffix", MODULES)
@pytest.mark.parametrize("content", [None, b"", b"\x00" * 5000, bytes(range(256)) * 20, b"PK\x03\x04" + b"x" * 100])
def test_what_is_no_model_is_refused_in_one_line_that_names_the_file(suffix, content, tmp_path):
    path = tmp_path / f"model{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_backend(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [static_tflite, static_onnx, recording, static_engine])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_model_that_was_cut_short_is_refused(model, share, tmp_path):
    path = model(tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError):
        open_backend(path)


@pytest.mark.parametrize("suffix", MODULES)
def test_a_folder_is_refused(suffix, tmp_path):
    folder = tmp_path / f"model{suffix}"
    folder.mkdir()
    with pytest.raises(ModelError):
        open_backend(folder)
