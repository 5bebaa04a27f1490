import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.models.onnx_file import fixed_shapes, read
from tests.backends.models import FLOAT, write_onnx
from tests.fixtures import REPO

BOTTLES = REPO / "edge_agent" / "demo_model" / "bottles.onnx"
PICTURE = (FLOAT, (1, 3, 64, 96))


def written(tmp_path, nodes=(("Relu", ["x"], "y"),), inputs=None, **rest):
    return write_onnx(tmp_path / "m.onnx", nodes, inputs or {"x": PICTURE}, {"y": PICTURE}, **rest)


def shapes_of(tmp_path, shape, imgsz=None):
    metadata = {} if imgsz is None else {"imgsz": imgsz}
    return fixed_shapes(read(written(tmp_path, inputs={"x": (FLOAT, shape)}, metadata=metadata)))


def test_a_real_model_tells_its_metadata_and_inputs():
    file = read(BOTTLES)
    assert file.inputs == (("images", (1, 3, 256, 416)),)
    assert file.metadata["names"].startswith("{0: 'bottle'")
    assert (file.is_quantised, file.has_halves) == (False, False)


def test_onnxruntime_reads_the_same():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(BOTTLES), providers=["CPUExecutionProvider"])
    file = read(BOTTLES)
    assert file.metadata == session.get_modelmeta().custom_metadata_map
    assert [(value.name, tuple(value.shape)) for value in session.get_inputs()] == list(file.inputs)


def test_a_weight_that_is_listed_as_an_input_is_none(tmp_path):
    weights = {"w": np.zeros((1, 3, 64, 96))}
    path = written(tmp_path, [("Add", ["x", "w"], "y")], {"x": PICTURE, "w": PICTURE}, weights=weights)
    assert read(path).inputs == (("x", (1, 3, 64, 96)),)


@pytest.mark.parametrize("operation", ["QuantizeLinear", "DequantizeLinear"])
def test_a_quantised_model_is_known_by_its_operations(tmp_path, operation):
    assert read(written(tmp_path, [(operation, ["x"], "y")])).is_quantised


def test_a_model_in_halves_is_known_by_its_weights(tmp_path):
    path = written(tmp_path, weights={"w": np.zeros(3)})
    halves = path.read_bytes().replace(b"\x08\x03\x10\x01\x42\x01w", b"\x08\x03\x10\x0a\x42\x01w")  # data_type of `w`
    path.write_bytes(halves)
    assert read(path).has_halves


def test_a_model_with_its_weights_elsewhere_is_refused(tmp_path):
    path = written(tmp_path, weights={"w": np.zeros(3, np.float32)})
    data = path.read_bytes()
    assert data.count(b"\x4a\x0c" + bytes(12)) == 1  # raw_data of `w`, as long as what it is replaced with
    path.write_bytes(data.replace(b"\x4a\x0c" + bytes(12), b"\x70\x01" + b"\x6a\x0a" + bytes(10)))
    with pytest.raises(ModelError, match="its weights lie in other files"):
        read(path)


def test_fixed_sizes_stay(tmp_path):
    assert shapes_of(tmp_path, (1, 3, 64, 96), "[320, 320]") == (("x", (1, 3, 64, 96)),)


def test_a_free_batch_is_one(tmp_path):
    assert shapes_of(tmp_path, ("batch", 3, 64, 96)) == (("x", (1, 3, 64, 96)),)


@pytest.mark.parametrize(
    ("shape", "imgsz", "expected"),
    [
        (("batch", 3, "height", "width"), "[256, 416]", (1, 3, 256, 416)),
        (("batch", "height", "width", 3), "[256, 416]", (1, 256, 416, 3)),
        (("batch", 1, "height", "width"), "320", (1, 1, 320, 320)),
    ],
)
def test_a_free_size_is_that_of_the_metadata(tmp_path, shape, imgsz, expected):
    assert shapes_of(tmp_path, shape, imgsz) == (("x", expected),)


@pytest.mark.parametrize("imgsz", [None, "large", "[0, 0]", "[1, 2, 3]", "[640.5, 640]"])
def test_a_free_size_that_nobody_tells_is_refused(tmp_path, imgsz):
    with pytest.raises(ModelError, match=r"size of the input x \[\?, 3, \?, \?\] is not fixed; export"):
        shapes_of(tmp_path, ("batch", 3, "height", "width"), imgsz)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\xff" * 40, BOTTLES.read_bytes()[:5000]])
def test_what_is_no_onnx_is_told(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="damaged, or not an ONNX model"):
        read(tmp_path / "m.onnx")


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_but_never_more(tmp_path_factory, position, noise):
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    data = bytearray(BOTTLES.read_bytes()[-2000:])
    data[position : position + len(noise)] = noise
    path.write_bytes(data)
    try:
        read(path)
    except ModelError as error:
        assert "m.onnx" in str(error)  # noqa: PT017 - both ends are fine
