import os
import subprocess
import sys

import numpy as np
import pytest

from edge_agent.backends import onnx
from edge_agent.errors import ModelError
from tests.backends.models import BOOL, FLOAT, INT64, STRING, write_onnx
from tests.fixtures import REPO

pytest.importorskip("onnxruntime", reason=onnx._MISSING)
EXAMPLE = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"


def opened(path, **options):
    return onnx.create(onnx.Config(path=path, **options))


def relu(path, shape, output=None, **options):
    return write_onnx(path, [("Relu", ["x"], "y")], {"x": (FLOAT, shape)}, {"y": (FLOAT, output or shape)}, **options)


def test_the_engine_reads_and_writes_the_bound_arrays(tmp_path):
    backend = opened(relu(tmp_path / "m.onnx", [1, 3, 4, 4]))
    for value in (3, 5):
        backend.inputs[0].array.fill(value)
        assert (backend.infer()[0] == value).all()
    assert backend.infer()[0] is backend.infer()[0]


def test_a_batch_that_is_not_fixed_is_one(tmp_path):
    backend = opened(relu(tmp_path / "m.onnx", ["batch", 3, 4, 4]))
    assert backend.inputs[0].spec.shape == backend.outputs[0].shape == (1, 3, 4, 4)


def test_an_input_without_a_fixed_size_is_refused(tmp_path):
    with pytest.raises(ModelError, match="fixed size, for example imgsz=640 and dynamic=False"):
        opened(relu(tmp_path / "m.onnx", ["batch", 3, "height", "width"]))


@pytest.mark.parametrize(("kind", "dtype"), [(INT64, np.int64), (BOOL, np.bool_), (FLOAT, np.float32)])
@pytest.mark.parametrize("shape", [[1, 2], []], ids=["row", "scalar"])
def test_inputs_of_other_types_and_numbers_by_themselves_are_read_and_kept(tmp_path, kind, dtype, shape):
    nodes = [("Relu", ["x"], "y"), ("Identity", ["also"], "same")]
    inputs, outputs = {"x": (FLOAT, [1, 4]), "also": (kind, shape)}, {"y": (FLOAT, [1, 4]), "same": (kind, shape)}
    backend = opened(write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs))
    also = backend.inputs[1]
    assert (also.spec.shape, also.spec.dtype) == (tuple(shape), dtype)
    also.array[...] = 1
    for value in (3, 5):
        backend.inputs[0].array.fill(value)
        y, same = backend.infer()
        assert (y == value).all()
        assert (same == 1).all()
        assert (same.shape, same.dtype) == (tuple(shape), dtype)


@pytest.mark.parametrize("size", [["batch", 2, 64], [1, 2, 64]], ids=["free", "fixed"])
def test_a_model_with_a_state_that_cannot_be_opened_is_refused_for_its_state(tmp_path, size):
    """Speech models, for example: no size is fixed, or they cannot be run on zeros."""
    nodes = [("Reshape", ["x", "sr"], "y"), ("Identity", ["state"], "stateN")]
    inputs = {"x": (FLOAT, [1, 4]), "state": (FLOAT, ["batch", "width", 64] if "batch" in size else size)}
    inputs |= {"sr": (INT64, [1])}
    outputs = {"y": (FLOAT, ["n"]), "stateN": (FLOAT, ["batch", "width", 64])}
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs)
    with pytest.raises(ModelError, match=r"m.onnx: it carries a state .* stateN wants to be the input state"):
        opened(path)


def test_an_output_that_varies_in_size_is_fetched_after_each_run(tmp_path):
    nodes = [("NonZero", ["x"], "y"), ("Relu", ["x"], "z")]
    outputs = {"y": (INT64, [2, "found"]), "z": (FLOAT, [1, 4])}
    backend = opened(write_onnx(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 4])}, outputs))
    assert [spec.shape for spec in backend.outputs] == [(2, -1), (1, 4)]
    for count in (0, 4, 0, 1, 3):
        backend.inputs[0].array[:] = np.arange(4) < count
        found, same = backend.infer()
        assert found.tolist() == [[0] * count, list(range(count))]
        np.testing.assert_array_equal(same, backend.inputs[0].array)


def test_an_output_whose_size_only_the_engine_can_tell_is_fixed(tmp_path):
    backend = opened(relu(tmp_path / "m.onnx", [1, 4], output=["anything", "at all"]))
    backend.inputs[0].array.fill(2)
    assert backend.outputs[0].shape == (1, 4)
    assert backend.infer()[0].tolist() == [[2, 2, 2, 2]]


def test_metadata_is_the_strings_of_the_file(tmp_path):
    path = relu(tmp_path / "m.onnx", [1, 3], metadata={"task": "detect", "names": "{0: 'cap'}"})
    assert opened(path).metadata == {"task": "detect", "names": "{0: 'cap'}"}


def test_a_model_of_texts_is_refused(tmp_path):
    tensor = (STRING, [1])
    path = write_onnx(tmp_path / "m.onnx", [("Identity", ["x"], "y")], {"x": tensor}, {"y": tensor})
    with pytest.raises(ModelError, match=r"x is tensor\(string\)"):
        opened(path)


def test_an_unknown_operation_is_refused_with_the_words_of_the_library(tmp_path):
    tensor = (FLOAT, [1])
    path = write_onnx(tmp_path / "m.onnx", [("Nonsense", ["x"], "y")], {"x": tensor}, {"y": tensor})
    with pytest.raises(ModelError, match=r"onnxruntime .* says: .*Nonsense"):
        opened(path)


def test_views_outlive_the_engine(tmp_path):
    backend = opened(relu(tmp_path / "m.onnx", [1, 3]))
    backend.inputs[0].array.fill(2)
    outputs = backend.infer()
    backend.close()
    assert outputs[0].tolist() == [[2, 2, 2]]


def test_the_engine_is_named_with_its_threads(tmp_path):
    assert opened(relu(tmp_path / "m.onnx", [1]), threads=3).runtime.endswith(", 3 threads")


def test_importing_the_module_imports_no_engine():
    code = "import sys, edge_agent.backends.onnx as o; o.available(); print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example model is not here")
def test_the_example_model_gives_what_a_plain_session_gives():
    import onnxruntime

    backend = opened(EXAMPLE)
    picture = np.random.default_rng(0).integers(0, 255, backend.inputs[0].spec.shape).astype(np.float32)
    backend.inputs[0].array[...] = picture
    (plain,) = onnxruntime.InferenceSession(str(EXAMPLE)).run(None, {"images": picture})
    np.testing.assert_allclose(backend.infer()[0], plain, rtol=1e-4, atol=1e-4)


def test_the_library_tells_nobody_that_it_is_used(tmp_path):
    model = relu(tmp_path / "m.onnx", [1])
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys; from edge_agent.backends import onnx as o; o.create(o.Config(path=sys.argv[1]))"
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code, model], check=True, cwd=REPO, env={**kept, "HOME": str(home)})
    assert list(home.rglob("*")) == []
