from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.datatypes import Certainty, Quantisation, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.yolox import Config, create, recognise
from edge_agent.errors import ModelError
from tests.decoders import made
from tests.decoders.engines import model_of, run
from tests.decoders.expectations import assert_as_expected, pictures
from tests.decoders.made import CELLS, EXPORT, TOP_LEFT, spec
from tests.fixtures import needs_shared

EXPECTED = "yolox_expected.json"
NAMES = ("images", "output")
CONF = Thresholds(conf=0.25, iou=0.7)
LAYOUTS = {"anchors_first": (1, CELLS, 8), "channels_first": (1, 8, CELLS)}
# one scale for logarithms (-2 to 3), offsets and probabilities alike, as a converter would choose it
QUANT = {np.dtype(np.int8): Quantisation(26 / 255, 0), np.dtype(np.uint8): Quantisation(26 / 255, 128)}


@needs_shared
@pytest.mark.parametrize(("model", "picture"), pictures(EXPECTED))
def test_the_real_model_finds_what_a_plain_script_found(model, picture):
    described = model_of(model)
    decoder = create(Config(**recognise(described).settings), described, CONF)
    outputs, letterbox = run(model, picture, decoder.input_format)
    decoder.check(outputs)
    assert_as_expected(EXPECTED, model, picture, decoder(outputs, letterbox))


@pytest.mark.parametrize(
    ("layout", "decoded", "dtype"), list(product(LAYOUTS, (False, True), (np.float32, np.float16)))
)
def test_heads_of_every_layout_and_coding_give_the_same_detections(layout, decoded, dtype):
    decoder = create(Config(decoded=decoded), spec(LAYOUTS[layout], dtype, names=NAMES), CONF)
    outputs = made.stored(made.yolox_rows(decoded=decoded), dtype, channels_first=layout == "channels_first")
    half = dtype == np.float16
    made.assert_alike(decoder(outputs, TOP_LEFT), made.wanted(TOP_LEFT), 0.4 if half else 0.01, 2e-3 if half else 1e-6)
    decoder.check(outputs)


@pytest.mark.parametrize(("layout", "dtype"), list(product(LAYOUTS, (np.int8, np.uint8))))
def test_quantised_heads_are_read_as_their_dequantised_numbers_are(layout, dtype):
    """Against the float decoder, fed with exactly the numbers that the integers stand for."""
    quant = QUANT[np.dtype(dtype)]
    outputs = made.stored(made.yolox_rows(decoded=False), dtype, channels_first=layout == "channels_first", quant=quant)
    numbers = [(outputs[0].astype(np.float32) - quant.zero_point) * np.float32(quant.scale)]
    quantised = create(Config(), spec(LAYOUTS[layout], dtype, names=NAMES, quant=quant), CONF)
    plain = create(Config(), spec(LAYOUTS[layout], names=NAMES), CONF)
    found = quantised(outputs, TOP_LEFT)
    assert len(found) > 0
    made.assert_alike(found, plain(numbers, TOP_LEFT))


def test_the_threshold_is_on_the_product_of_objectness_and_class():
    rows = made.yolox_rows(decoded=True)
    rows[7, [4, 5]] = (0.45, 0.55)
    rows[8, [4, 5]] = (0.5, 0.5)
    rows[20, 4] = rows[250, 4] = 0
    decoder = create(Config(decoded=True), spec(LAYOUTS["anchors_first"], names=NAMES), CONF)
    assert len(decoder([rows[None]], TOP_LEFT)) == 0


def test_the_picture_goes_in_as_megvii_wants_it():
    wanted = create(Config(), spec(LAYOUTS["anchors_first"], names=NAMES), CONF).input_format
    assert (wanted.fit, wanted.channels, wanted.scale, wanted.pad_value) == ("letterbox_top_left", "bgr", 1.0, 114)


@given(st.data(), st.sampled_from(list(LAYOUTS)), st.sampled_from([np.float32, np.float16, np.int8, np.uint8]))
def test_no_numbers_whatever_give_a_broken_detection(data, layout, dtype):
    model = spec(LAYOUTS[layout], dtype, names=NAMES, quant=QUANT.get(np.dtype(dtype)))
    conf = Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25])))
    decoder = create(Config(decoded=data.draw(st.booleans())), model, conf)
    outputs = [data.draw(hnp.arrays(dtype, LAYOUTS[layout]))]
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder(outputs, Letterbox.fit(frame, made.WH, "letterbox_top_left"))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()


@needs_shared
@pytest.mark.parametrize("with_labels", [True, False])
def test_the_real_model_is_recognised_by_the_names_of_its_tensors(with_labels):
    recognition = recognise(model_of("yolox_nano_416_coco.onnx", with_labels=with_labels))
    assert recognition.certainty is Certainty.NAMES
    assert recognition.settings == {"decoded": False, "layout": "anchors_first"}


@needs_shared
@pytest.mark.parametrize(
    "name", ["yolo11n_640_int8.tflite", "yolov8n_320_int8_nms.tflite", "ssd_mobilenet_pets.tflite"]
)
def test_real_models_of_other_families_are_not_claimed(name):
    assert recognise(model_of(name, with_labels=False)) is None


def test_a_converted_model_is_recognised_by_its_shape_and_labels():
    recognition = recognise(spec(LAYOUTS["channels_first"], names=("serving_default_images:0", "Identity")))
    assert recognition.certainty is Certainty.SHAPES
    assert recognition.settings == {"decoded": False, "layout": "channels_first"}


@pytest.mark.parametrize(
    "other",
    [
        spec((1, CELLS, 7), names=("in", "out")),
        spec((1, CELLS, 8), names=("in", "out"), labels=()),
        spec((1, 3 * CELLS, 8), names=NAMES),
        spec((1, CELLS, 8), metadata=EXPORT),
        spec((1, 1000), names=NAMES),
    ],
    ids=["yolo", "no labels", "yolov5", "ultralytics", "classifier"],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


def test_labels_that_do_not_fit_the_classes_are_refused_with_both_numbers():
    with pytest.raises(ModelError, match=r"there are 2 labels, but the output output .* has 3 classes"):
        create(Config(), spec(LAYOUTS["anchors_first"], names=NAMES, labels=("a", "b")), CONF)


@pytest.mark.parametrize("shape", [(1, 99, 8), (2, CELLS, 8), (1, CELLS)])
def test_shapes_that_are_not_yolox_are_refused(shape):
    with pytest.raises(ModelError, match="is not YOLOX's"):
        create(Config(), spec(shape, names=NAMES), CONF)


@pytest.mark.parametrize("decoded", [True, False])
def test_the_warm_up_run_exposes_the_wrong_coding(decoded):
    decoder = create(Config(decoded=not decoded), spec(LAYOUTS["anchors_first"], names=NAMES), CONF)
    outputs = [made.yolox_rows(decoded=decoded)[None]]
    with pytest.raises(ModelError, match=f'kind = "yolox"\ndecoded = {str(decoded).lower()}'):
        decoder.check(outputs)


def test_the_warm_up_run_exposes_yolov6_which_wants_another_picture():
    rows = made.yolox_rows(decoded=True)
    rows[:, 4] = 1
    decoder = create(Config(decoded=True), spec(LAYOUTS["anchors_first"], names=("images", "outputs")), CONF)
    with pytest.raises(ModelError, match="an objectness of 1, as YOLOv6 has it"):
        decoder.check([rows[None]])
