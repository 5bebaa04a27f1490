import numpy as np
import pytest

from edge_agent.app.engine import EngineRequest, open_engine, picture_first, set_constants
from edge_agent.backends import onnx, recorded
from edge_agent.core.datatypes import BoundTensor, Quantisation, TensorSpec, Thresholds
from edge_agent.errors import ModelError
from edge_agent.models import bare
from tests.backends.models import FLOAT, INT64, write_onnx

pytest.importorskip("onnxruntime", reason=onnx._MISSING)
LABELS = ("bottle", "cap", "crack")
WIDTH, HEIGHT = 160, 96
FRACTIONS = np.array([[[0.25, 0.5, 0.5, 1.0], [0.0, 0.0, 0.1, 0.1]]], np.float32)


def write_rtdetr(path, *, sizes_first=False):
    """As RT-DETR and D-FINE are exported: boxes in the unit of `orig_target_sizes`, the batch free."""
    nodes = [
        ("Cast", ["orig_target_sizes"], "real", {"to": FLOAT}),
        ("Concat", ["real", "real"], "whwh", {"axis": 1}),
        ("Mul", ["fractions", "whwh"], "boxes"),
        ("Identity", ["numbers"], "labels"),
        ("ReduceMax", ["images"], "brightest", {"keepdims": 0}),
        ("Mul", ["parts", "brightest"], "scores"),
    ]
    sizes = {"orig_target_sizes": (INT64, ["N", 2])}
    picture = {"images": (FLOAT, ["N", 3, HEIGHT, WIDTH])}
    outputs = {"labels": (INT64, [1, 2]), "boxes": (FLOAT, ["found", 2, 4]), "scores": (FLOAT, [1, 2])}
    weights = {"fractions": FRACTIONS, "numbers": np.array([[2, 0]]), "parts": np.array([[0.9, 0.1]])}
    return write_onnx(path, nodes, sizes | picture if sizes_first else picture | sizes, outputs, weights)


def request(path, **options):
    labels = path.with_suffix(".txt")
    labels.write_text("\n".join(LABELS))
    return EngineRequest(path=path, order=("onnx",), labels=labels, thresholds=Thresholds(), **options)


@pytest.fixture
def frame():
    return np.full((180, 320, 3), 255, np.uint8)


@pytest.mark.parametrize("sizes_first", [False, True])
def test_a_model_with_a_size_input_finds_boxes_in_pixels_of_the_frame(tmp_path, frame, sizes_first):
    engine = open_engine(request(write_rtdetr(tmp_path / "caps.onnx", sizes_first=sizes_first)))
    assert engine.decoder_kind == "detr"
    assert [spec.name for spec in engine.model.inputs] == ["images", "orig_target_sizes"]
    for _ in range(3):
        found, _ = engine.look(frame)
        np.testing.assert_allclose(found.boxes, [(80, 90, 160, 180)], atol=1e-3)
        assert (found.scores.tolist(), found.classes.tolist()) == ([pytest.approx(0.9)], [2])
    engine.backend.close()


def test_what_stands_in_the_size_input_stays(tmp_path, frame):
    engine = open_engine(request(write_rtdetr(tmp_path / "caps.onnx")))
    sizes = engine.backend.inputs[1].array
    engine.look(frame)
    assert (sizes.dtype, sizes.tolist()) == (np.int64, [[1, 1]])


def test_an_input_that_nobody_knows_is_refused_by_name(tmp_path):
    nodes = [("Identity", [f"{name} of"], name) for name in ("labels", "boxes", "scores")]
    inputs = {"images": (FLOAT, [1, 3, HEIGHT, WIDTH]), "im_shape": (INT64, [1, 2])}
    outputs = {"labels": (INT64, [1, 2]), "boxes": (FLOAT, [1, 2, 4]), "scores": (FLOAT, [1, 2])}
    weights = {"labels of": np.array([[2, 0]]), "boxes of": FRACTIONS, "scores of": np.array([[0.9, 0.1]])}
    path = write_onnx(tmp_path / "caps.onnx", nodes, inputs, outputs, weights)
    with pytest.raises(ModelError, match=r"caps: besides the picture it wants the input im_shape \[1, 2\] int64"):
        open_engine(request(path))


def test_a_model_that_carries_a_state_is_refused_with_the_reason(tmp_path):
    nodes = [("Relu", ["images"], "boxes"), ("Relu", ["h"], "hn")]
    tensor, state = (FLOAT, [1, 3, HEIGHT, WIDTH]), (FLOAT, [1, 64])
    path = write_onnx(tmp_path / "caps.onnx", nodes, {"images": tensor, "h": state}, {"boxes": tensor, "hn": state})
    with pytest.raises(
        ModelError, match=r"caps.onnx: it carries a state .*hn .*h of the next run\. Here every picture"
    ):
        open_engine(request(path))


@pytest.mark.parametrize(
    "inputs",
    [{"audio": (FLOAT, [1, 512])}, {"left": (FLOAT, [1, 3, 8, 8]), "right": (FLOAT, [1, 3, 8, 8])}],
    ids=["sound", "stereo"],
)
def test_a_model_that_does_not_look_at_one_picture_is_refused_with_its_inputs(tmp_path, inputs):
    first = next(iter(inputs))
    path = write_onnx(tmp_path / "m.onnx", [("ReduceMax", [first], "y", {"keepdims": 0})], inputs, {"y": (FLOAT, [])})
    with pytest.raises(ModelError, match=rf"m.onnx: which input takes the picture .* there is {first} \["):
        open_engine(request(path))


def test_the_only_input_of_a_recording_is_its_picture(tmp_path):
    path, spec = tmp_path / "r.npz", TensorSpec("x", (1, 32, 32, 3), np.dtype(np.uint8))
    recorded.save(path, [spec], [[np.zeros((1, 2), np.float32)]], {})
    backend = recorded.create(recorded.Config(path=path))
    assert [bound.spec for bound in picture_first(bare.identify(path), backend)] == [spec]


def bound(dtype, *shape, quant=None):
    return BoundTensor(TensorSpec("extra", shape, np.dtype(dtype), quant), np.zeros(shape, dtype))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32, np.float16, np.uint8])
def test_constants_are_written_in_the_type_of_the_input(dtype):
    tensor = bound(dtype, 1, 2)
    set_constants("caps", [tensor], {"extra": (160.0, 96.0)})
    assert tensor.array.tolist() == [[160, 96]]


@pytest.mark.parametrize("shape", [(), (1,), (1, 4, 4)])
def test_one_number_fills_all_of_its_input(shape):
    for dtype in (np.bool_, np.int64):
        tensor = bound(dtype, *shape)
        set_constants("caps", [tensor], {"extra": (1.0,)})
        assert tensor.array.all()


@pytest.mark.parametrize(
    ("tensor", "numbers"),
    [
        (bound(np.int64, 1, 2), (0.5, 1.0)),
        (bound(np.uint8, 1, 2), (640.0, 480.0)),
        (bound(np.int64, 1, 2), (640.0, 480.0, 1.0)),
        (bound(np.int64, 1, 3), (640.0, 480.0)),
        (bound(np.bool_), (2.0,)),
        (bound(np.uint8, 1, 2, quant=Quantisation(0.1, 0)), (1.0, 1.0)),
    ],
    ids=["fraction", "too big", "too many", "too few", "flag", "quantised"],
)
def test_constants_that_do_not_fit_are_refused_by_the_name_of_the_input(tensor, numbers):
    with pytest.raises(ModelError, match=r"caps: the input extra .* which does not fit; export the model again"):
        set_constants("caps", [tensor], {"extra": numbers})
