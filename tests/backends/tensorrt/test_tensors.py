import numpy as np
import pytest

from edge_agent.errors import ModelError
from tests.backends.models import BOOL, FLOAT, INT64, write_onnx
from tests.backends.tensorrt.engines import PICTURE, gives, opened, relu
from tests.fake_tensorrt import VERSIONS, write_engine

UINT8, INT8, INT32, FLOAT16 = 2, 3, 6, 10  # onnx.TensorProto.DataType
EVERY_VERSION = pytest.mark.parametrize("version", VERSIONS)

pytestmark = pytest.mark.usefixtures("tensorrt")


@EVERY_VERSION
@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (FLOAT, np.float32), (FLOAT16, np.float16), (INT8, np.int8), (UINT8, np.uint8),
        (INT32, np.int32), (INT64, np.int64), (BOOL, np.bool_),
    ],
)  # fmt: skip
def test_every_type_goes_in_and_out(tmp_path, version, element, dtype):
    tensor = {"x": (element, [1, 3, 2])}
    model = write_onnx(tmp_path / "m.onnx", [("Identity", ["x"], "y")], tensor, {"y": tensor["x"]})
    backend = opened(write_engine(tmp_path / "m.engine", model))
    narrowed = np.int32 if dtype == np.int64 and version.startswith("8") else dtype
    assert backend.inputs[0].spec.dtype == backend.outputs[0].dtype == narrowed
    for _ in range(2):
        content = np.random.default_rng(1).integers(0, 100, (1, 3, 2)).astype(dtype)
        backend.inputs[0].array[...] = content
        np.testing.assert_array_equal(backend.infer()[0], content)
    backend.close()


@EVERY_VERSION
def test_several_inputs_and_outputs_are_told_by_their_names(tmp_path):
    nodes = [("Relu", ["x"], "y"), ("Identity", ["size"], "same"), ("Not", ["flag"], "other")]
    inputs = {"x": (FLOAT, PICTURE), "size": (INT32, [1, 2]), "flag": (BOOL, [])}
    outputs = {"y": (FLOAT, PICTURE), "same": (INT32, [1, 2]), "other": (BOOL, [])}
    backend = opened(write_engine(tmp_path / "m.engine", write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs)))
    assert [bound.spec.name for bound in backend.inputs] == ["x", "size", "flag"]
    assert [spec.name for spec in backend.outputs] == ["y", "same", "other"]
    picture, size, flag = (bound.array for bound in backend.inputs)
    for value in (3, 5):
        picture.fill(value)
        size[...] = [[value, 7]]
        flag[...] = value == 3
        y, same, other = backend.infer()
        assert (y == value).all()
        assert same.tolist() == [[value, 7]]
        assert other.tolist() == (value != 3)
    backend.close()


@EVERY_VERSION
def test_an_open_batch_is_one_and_other_open_sides_are_what_the_engine_was_optimised_for(tmp_path):
    profile = {"x": [[1, 3, 4, 4], [8, 3, 8, 16], [8, 3, 32, 32]]}
    backend = opened(relu(tmp_path, ["batch", 3, "h", "w"], profiles=[profile]))
    assert backend.inputs[0].spec.shape == backend.outputs[0].shape == (1, 3, 8, 16)
    assert gives(backend, 4)
    backend.close()


def test_a_batch_that_must_be_larger_stays_what_the_engine_was_optimised_for(tmp_path):
    backend = opened(relu(tmp_path, ["batch", 3, 4, 4], profiles=[{"x": [[2, 3, 4, 4], [4, 3, 4, 4], [8, 3, 4, 4]]}]))
    assert backend.inputs[0].spec.shape == (4, 3, 4, 4)
    backend.close()


@pytest.mark.parametrize("copied", [False, True])
def test_both_kinds_of_memory_give_the_same(tmp_path, copied):
    backend = opened(relu(tmp_path))
    backend._drop_graph()
    backend._tensors.arrange(copied=copied)
    assert gives(backend, 4)
    assert gives(backend, -4)
    assert gives(backend, 5)
    backend.close()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"on_host": ["x"]}, "the tensor x holds the size of another; export the model with a fixed size"),
        ({"shape_tensors": ["y"]}, "the tensor y holds the size of another"),
        ({"dtypes": {"y": "BF16"}}, "the tensor y is of the type BF16, which cannot be read or written here"),
    ],
)
def test_tensors_that_cannot_be_served_are_refused_with_a_reason(tmp_path, facts, words):
    with pytest.raises(ModelError, match=words):
        opened(relu(tmp_path, **facts))


def test_an_output_whose_size_the_picture_tells_is_refused_with_what_to_do(tmp_path):
    model = write_onnx(
        tmp_path / "m.onnx", [("NonZero", ["x"], "y")], {"x": (FLOAT, [1, 4])}, {"y": (INT64, [2, "found"])}
    )
    path = write_engine(tmp_path / "m.engine", model, data_dependent={"y": [2, 4]})
    with pytest.raises(
        ModelError, match=r"the size of the output y \[2, -1\] depends on the picture; export the model"
    ):
        opened(path)


def test_a_layout_that_is_not_linear_is_refused(tmp_path, tensorrt, monkeypatch):
    monkeypatch.setattr(tensorrt.ICudaEngine, "get_tensor_format", lambda *_: tensorrt.TensorFormat.CHW4)
    with pytest.raises(ModelError, match="the tensor x is laid out as CHW4; build the engine with linear"):
        opened(relu(tmp_path))


def test_sizes_that_tensorrt_cannot_tell_are_an_error_with_its_words(tmp_path, tensorrt, monkeypatch):
    def failing(context):
        context._sink.log(tensorrt.ILogger.ERROR, "a shape that cannot be")
        del context  # a function in C has no frame that keeps it
        raise RuntimeError("infer_shapes error code: -1")  # as pyCore.cpp of TensorRT 10 does

    monkeypatch.setattr(tensorrt.IExecutionContext, "infer_shapes", failing)
    with pytest.raises(ModelError, match=r"m.engine: its sizes cannot be told .*a shape that cannot be"):
        opened(relu(tmp_path))
