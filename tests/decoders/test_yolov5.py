from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.datatypes import Certainty, Quantisation, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.yolov5 import Config, create, recognise
from edge_agent.errors import ModelError
from tests.decoders import made
from tests.decoders.engines import model_of
from tests.decoders.made import CELLS, EXPORT, LETTERBOX, spec
from tests.fixtures import needs_shared

CONF = Thresholds(conf=0.25, iou=0.7)
ROWS = 3 * CELLS
SHAPE = (1, ROWS, 8)
YOLOV5 = {"stride": 32, "names": dict(enumerate(made.LABELS))}
# as YOLOv5 quantises: one scale for fractions and probabilities
QUANT = {np.dtype(np.int8): Quantisation(1.25 / 255, -118), np.dtype(np.uint8): Quantisation(1.25 / 255, 10)}


def raw(planar=True):
    heads = [TensorSpec(f"{i}", (1, 3, 96 // s, 160 // s, 8), np.dtype(np.float32)) for i, s in enumerate((8, 16, 32))]
    return replace(spec(SHAPE, planar=planar), outputs=tuple(heads))


@pytest.mark.parametrize(("boxes", "dtype"), list(product(("pixels", "normalised"), (np.float32, np.float16))))
def test_heads_of_every_unit_give_the_same_detections(boxes, dtype):
    outputs = made.stored(made.yolov5_rows(fractions=boxes == "normalised"), dtype, channels_first=False)
    decoder = create(Config(boxes=boxes), spec(SHAPE, dtype), CONF)
    half = dtype == np.float16
    made.assert_alike(
        decoder(outputs, LETTERBOX), made.wanted(LETTERBOX), 0.4 if half else 0.01, 2e-3 if half else 1e-6
    )
    decoder.check(outputs)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantised_heads_are_read_as_their_dequantised_numbers_are(dtype):
    """Against the float decoder, fed with exactly the numbers that the integers stand for."""
    quant = QUANT[np.dtype(dtype)]
    outputs = made.stored(made.yolov5_rows(fractions=True), dtype, channels_first=False, quant=quant)
    numbers = [(outputs[0].astype(np.float32) - quant.zero_point) * np.float32(quant.scale)]
    quantised = create(Config(boxes="normalised"), spec(SHAPE, dtype, quant=quant), CONF)
    plain = create(Config(boxes="normalised"), spec(SHAPE), CONF)
    found = quantised(outputs, LETTERBOX)
    assert len(found) == 3
    made.assert_alike(found, plain(numbers, LETTERBOX))


def test_the_threshold_is_on_the_product_of_objectness_and_class():
    rows = made.yolov5_rows(fractions=False)
    rows[:, 4:] = 0
    rows[7, [4, 5]] = (0.45, 0.55)
    rows[20, [4, 6]] = (0.5, 0.5)
    rows[250, [4, 7]] = (0.5, 0.51)
    found = create(Config(), spec(SHAPE), CONF)([rows[None]], LETTERBOX)
    assert found.classes.tolist() == [2]
    assert found.scores == pytest.approx([0.255])


def test_of_a_single_class_the_objectness_is_the_score():
    rows = made.yolov5_rows(fractions=False)[:, :6]
    rows[:, 4:] = (0, 0.5)
    rows[7, 4] = 0.9
    decoder = create(Config(), spec((1, ROWS, 6), labels=("cap",)), CONF)
    assert decoder([rows[None]], LETTERBOX).scores == pytest.approx([0.9])


def test_mask_coefficients_count_neither_as_classes_nor_as_scores():
    protos = TensorSpec("output1", (1, 32, 24, 40), np.dtype(np.float32))
    model = spec((1, ROWS, 8 + 32), metadata=YOLOV5)
    model = replace(model, outputs=(protos, *model.outputs))
    rows = np.concatenate([made.yolov5_rows(fractions=False), np.full((ROWS, 32), 0.99, np.float32)], axis=1)
    decoder = create(Config(**recognise(model).settings), model, CONF)
    outputs = [np.ones(protos.shape, np.float32), rows[None]]
    made.assert_alike(decoder(outputs, LETTERBOX), made.wanted(LETTERBOX))
    decoder.check(outputs)


def test_the_raw_heads_that_older_exports_give_besides_are_not_looked_at():
    model = replace(spec(SHAPE), outputs=(*spec(SHAPE).outputs, *raw().outputs))
    assert recognise(model).settings == {"boxes": "pixels"}
    outputs = [made.yolov5_rows(fractions=False)[None], *(np.ones(head.shape) for head in raw().outputs)]
    made.assert_alike(create(Config(), model, CONF)(outputs, LETTERBOX), made.wanted(LETTERBOX))


@pytest.mark.parametrize("use", [recognise, lambda model: create(Config(), model, CONF)])
def test_raw_heads_alone_are_refused_with_how_to_export(use):
    with pytest.raises(ModelError, match=r"are the raw heads of YOLOv5 or YOLOv7.*without --train.*--grid"):
        use(raw())


@pytest.mark.parametrize(
    ("form", "planar", "boxes"),
    [("onnx", True, "pixels"), ("engine", True, "pixels"), ("tflite", False, "normalised")],
)
def test_the_unit_of_boxes_follows_the_kind_of_export(form, planar, boxes):
    assert recognise(spec(SHAPE, form=form, planar=planar)).settings == {"boxes": boxes}


def test_a_unit_that_cannot_be_told_is_refused_with_the_words_to_write():
    with pytest.raises(ModelError, match=r'kind = "yolov5"\nboxes = "pixels"     # or "normalised"'):
        recognise(spec(SHAPE, form="tflite"))


@pytest.mark.parametrize(("metadata", "certainty"), [(YOLOV5, Certainty.METADATA), ({}, Certainty.SHAPES)])
def test_three_rows_for_each_cell_tell_it(metadata, certainty):
    assert recognise(spec(SHAPE, metadata=metadata)).certainty is certainty
    assert recognise(spec(SHAPE, metadata=metadata, labels=())).certainty is certainty


def test_heads_with_a_coarser_grid_more_are_recognised():
    rows = 3 * sum((320 // stride) * (192 // stride) for stride in (8, 16, 32, 64))
    assert recognise(spec((1, rows, 8), wh=(320, 192))) is not None


@pytest.mark.parametrize(
    "other",
    [
        spec((1, 7, CELLS)),
        spec((1, CELLS, 8), names=("images", "output")),
        spec((1, 300, 6)),
        spec((1, ROWS, 8), metadata=EXPORT),
        spec((1, 1000)),
        spec((1, ROWS, 5)),
        spec((8, ROWS, 8)),
    ],
    ids=["yolo", "yolox", "end to end", "ultralytics", "classifier", "no classes", "batch"],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "yolo11n_640_int8.tflite",
        "yolov8n_320_int8_nms.tflite",
        "ssd_mobilenet_pets.tflite",
        "yolox_nano_416_coco.onnx",
    ],
)
def test_real_models_of_other_families_are_not_claimed(name):
    assert recognise(model_of(name, with_labels=False)) is None


@pytest.mark.parametrize("shape", [(1, 99, 8), (2, ROWS, 8), (1, ROWS)])
def test_shapes_that_are_not_yolov5_are_refused(shape):
    with pytest.raises(ModelError, match="is not YOLOv5's"):
        create(Config(), spec(shape), CONF)


def test_labels_that_do_not_fit_the_classes_are_refused_with_both_numbers():
    with pytest.raises(ModelError, match=r"there are 2 labels, but the output output0 .* has 3 classes"):
        create(Config(), spec(SHAPE, labels=("a", "b")), CONF)


@pytest.mark.parametrize(("said", "seen"), [("pixels", "normalised"), ("normalised", "pixels")])
def test_the_warm_up_run_exposes_a_wrong_unit(said, seen):
    decoder = create(Config(boxes=said), spec(SHAPE), CONF)
    with pytest.raises(ModelError, match=rf'should be {said}, (.|\n)*kind = "yolov5"\nboxes = "{seen}"'):
        decoder.check([made.yolov5_rows(fractions=seen == "normalised")[None]])


@given(st.data(), st.sampled_from([np.float32, np.float16, np.int8, np.uint8]))
def test_no_numbers_whatever_give_a_broken_detection(data, dtype):
    model = spec(SHAPE, dtype, quant=QUANT.get(np.dtype(dtype)))
    conf = Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25])))
    decoder = create(Config(boxes=data.draw(st.sampled_from(["pixels", "normalised"]))), model, conf)
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder([data.draw(hnp.arrays(dtype, SHAPE))], Letterbox.fit(frame, made.WH))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
