from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.datatypes import Certainty, Quantisation, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.yolo import Config, create, recognise
from edge_agent.errors import ModelError
from tests.core.test_boxes import plain_nms
from tests.decoders import made
from tests.decoders.engines import model_of, run
from tests.decoders.expectations import assert_as_expected, pictures
from tests.decoders.made import CELLS, EXPORT, LETTERBOX, QUANT, spec
from tests.fixtures import needs_shared

EXPECTED = "yolo_expected.json"
CONF = Thresholds(conf=0.25, iou=0.7)
LAYOUTS = {"channels_first": (1, 7, CELLS), "anchors_first": (1, CELLS, 7)}


def recognised(model, thresholds=CONF):
    return create(Config(**recognise(model).settings), model, thresholds)


@needs_shared
@pytest.mark.parametrize(("model", "picture"), pictures(EXPECTED))
def test_real_models_find_what_was_published_for_real_pictures(model, picture):
    decoder = recognised(model_of(model))
    outputs, letterbox = run(model, picture, decoder.input_format)
    assert_as_expected(EXPECTED, model, picture, decoder(outputs, letterbox))


@needs_shared
@pytest.mark.parametrize(("model", "picture"), pictures(EXPECTED))
def test_boxes_of_real_models_pass_the_check_of_their_unit(model, picture):
    decoder = recognised(model_of(model))
    outputs, _ = run(model, picture, decoder.input_format)
    decoder.check(outputs)


@needs_shared
@pytest.mark.parametrize("picture", ["bus.jpg", "dog.jpg", "kite_and_cold.jpg", "cat_720p.jpg"])
def test_an_int8_head_gives_exactly_what_dequantising_everything_gives(picture):
    model = model_of("yolo11n_416_int8_full.tflite")
    decoder = recognised(model)
    outputs, letterbox = run(model.name + ".tflite", picture, decoder.input_format)
    quant = model.outputs[0].quant
    rows = ((outputs[0][0].astype(np.float32) - quant.zero_point) * np.float32(quant.scale)).T
    rows = rows[rows[:, 4:].max(1) > 0.25]
    centre, half = rows[:, :2] * 416, rows[:, 2:4] * 208
    boxes, scores, classes = np.hstack([centre - half, centre + half]), rows[:, 4:].max(1), rows[:, 4:].argmax(1)
    kept = plain_nms(boxes.tolist(), scores.tolist(), classes.tolist(), 0.7)
    found = decoder(outputs, letterbox)
    assert found.classes.tolist() == classes[kept].tolist()
    assert found.scores.tolist() == scores[kept].tolist()
    np.testing.assert_allclose(found.boxes, letterbox.to_frame(boxes[kept]), atol=1e-3)


@pytest.mark.parametrize(
    ("layout", "boxes", "dtype"), list(product(LAYOUTS, ("pixels", "normalised"), (np.float32, np.float16)))
)
def test_float_heads_of_every_layout_and_unit_give_the_same_detections(layout, boxes, dtype):
    model = spec(LAYOUTS[layout], dtype)
    rows = made.dense_rows(fractions=boxes == "normalised")
    outputs = made.stored(rows, dtype, channels_first=layout == "channels_first")
    decoder = create(Config(head="dense", boxes=boxes, layout=layout), model, CONF)
    half = dtype == np.float16
    made.assert_alike(
        decoder(outputs, LETTERBOX), made.wanted(LETTERBOX), 0.4 if half else 0.01, 1e-3 if half else 1e-6
    )
    decoder.check(outputs)


@pytest.mark.parametrize(("layout", "dtype"), list(product(LAYOUTS, (np.int8, np.uint8))))
def test_quantised_heads_of_every_layout_give_the_same_detections_to_a_step(layout, dtype):
    quant = QUANT[np.dtype(dtype)]
    model = spec(LAYOUTS[layout], dtype, quant=quant)
    outputs = made.stored(
        made.dense_rows(fractions=True), dtype, channels_first=layout == "channels_first", quant=quant
    )
    decoder = create(Config(head="dense", boxes="normalised", layout=layout), model, CONF)
    made.assert_alike(decoder(outputs, LETTERBOX), made.wanted(LETTERBOX), quant.scale * 160 * 2, quant.scale)


@pytest.mark.parametrize("boxes", ["pixels", "normalised"])
def test_end_to_end_rows_become_the_same_detections(boxes):
    wanted = made.wanted(LETTERBOX)
    rows = np.zeros((300, 6), np.float32)
    rows[:3, :4] = LETTERBOX.to_model(wanted.boxes) / ((160, 96, 160, 96) if boxes == "normalised" else 1)
    rows[:3, 4], rows[:3, 5] = wanted.scores, wanted.classes
    decoder = create(Config(head="end2end", boxes=boxes), spec((1, 300, 6)), CONF)
    made.assert_alike(decoder([rows[None]], LETTERBOX), wanted)
    decoder.check([rows[None]])


def test_end_to_end_boxes_that_overlap_all_stay_because_the_model_chose_them():
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :2] = (10, 30, 50, 60, 0.9, 1)
    assert len(create(Config(), spec((1, 300, 6)), CONF)([rows], LETTERBOX)) == 2


@pytest.mark.parametrize("number", [3, -1, 1e9, np.nan])
def test_end_to_end_rows_of_a_class_without_a_label_are_left_out(number):
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = (10, 30, 50, 60, 0.9, number)
    assert len(create(Config(), spec((1, 300, 6)), CONF)([rows], LETTERBOX)) == 0


def test_a_score_equal_to_the_threshold_is_not_above_it():
    rows = made.dense_rows(fractions=False)
    rows[:, 4:] = np.where(rows[:, 4:] > 0.6, np.float32(0.5), 0)
    outputs = made.stored(rows, np.float32, channels_first=True)
    model = spec(LAYOUTS["channels_first"])
    assert len(create(Config(), model, Thresholds(conf=0.5))(outputs, LETTERBOX)) == 0
    assert len(create(Config(), model, Thresholds(conf=0.499))(outputs, LETTERBOX)) > 0


def test_detections_are_limited_to_the_best():
    outputs = made.stored(made.dense_rows(fractions=False), np.float32, channels_first=True)
    decoder = create(Config(), spec(LAYOUTS["channels_first"]), Thresholds(max_detections=1))
    assert decoder(outputs, LETTERBOX).classes.tolist() == [0]


@given(st.data(), st.sampled_from([*LAYOUTS, "end2end"]), st.sampled_from([np.float32, np.float16, np.int8, np.uint8]))
def test_no_numbers_whatever_give_a_broken_detection(data, layout, dtype):
    dtype = np.float32 if layout == "end2end" else dtype
    shape = (1, 300, 6) if layout == "end2end" else LAYOUTS[layout]
    model = spec(shape, dtype, quant=QUANT.get(np.dtype(dtype)))
    chosen = {"head": "end2end"} if layout == "end2end" else {"head": "dense", "layout": layout}
    boxes = data.draw(st.sampled_from(["pixels", "normalised"]))
    decoder = create(Config(boxes=boxes, **chosen), model, Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25]))))
    outputs = [data.draw(hnp.arrays(dtype, shape))]
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder(outputs, Letterbox.fit(frame, made.WH))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.classes >= 0) & (found.classes < 3)).all()


@needs_shared
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("yolo11n_640_int8.tflite", {"head": "dense", "boxes": "normalised", "layout": "channels_first"}),
        ("yolo11n_416_int8_full.tflite", {"head": "dense", "boxes": "normalised", "layout": "channels_first"}),
        ("yolov8n_320_int8_nms.tflite", {"head": "end2end", "boxes": "normalised"}),
    ],
)
def test_real_models_are_recognised_by_their_metadata(name, settings):
    recognition = recognise(model_of(name))
    assert (recognition.certainty, recognition.settings) == (Certainty.METADATA, settings)


@needs_shared
@pytest.mark.parametrize("name", ["yolox_nano_416_coco.onnx", "ssd_mobilenet_pets.tflite"])
def test_models_of_other_families_are_not_claimed(name):
    assert recognise(model_of(name, with_labels=False)) is None


@pytest.mark.parametrize(
    ("form", "planar", "shape", "boxes"),
    [
        ("tflite", False, (1, 7, CELLS), "normalised"),
        ("tflite", False, (1, 300, 6), "normalised"),
        ("tflite", True, (1, 7, CELLS), "normalised"),
        ("tflite", True, (1, 300, 6), "pixels"),
        ("onnx", True, (1, 7, CELLS), "pixels"),
        ("onnx", True, (1, 300, 6), "pixels"),
        ("engine", True, (1, 7, CELLS), "pixels"),
        ("recorded", False, (1, 7, CELLS), "normalised"),
        ("recorded", True, (1, 7, CELLS), "pixels"),
    ],
)
def test_the_unit_of_boxes_follows_the_kind_of_export(form, planar, shape, boxes):
    model = spec(shape, metadata=EXPORT, form=form, planar=planar)
    assert recognise(model).settings["boxes"] == boxes


@pytest.mark.parametrize("metadata", [{"end2end": True}, {"args": {"nms": True}}, {}])
def test_rows_of_six_are_the_end_to_end_head_with_the_metadata_of_an_export(metadata):
    assert recognise(spec((1, 300, 6), metadata=EXPORT | metadata)).settings["head"] == "end2end"


def test_two_classes_make_a_dense_head_of_six_columns():
    model = spec((1, CELLS, 6), labels=("a", "b"), metadata=EXPORT)
    assert recognise(model).settings == {"head": "dense", "boxes": "pixels", "layout": "anchors_first"}


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32, 64)])
def test_heads_with_a_finer_or_a_coarser_grid_more_are_recognised_by_metadata(strides):
    rows = sum((160 // stride) * (96 // stride) for stride in strides)
    assert recognise(spec((1, 7, rows), metadata=EXPORT)).settings["layout"] == "channels_first"


def test_the_tensors_names_do_without_metadata():
    recognition = recognise(spec((1, 7, CELLS), form="engine", labels=()))
    assert recognition.certainty is Certainty.NAMES
    assert recognition.settings == {"head": "dense", "boxes": "pixels", "layout": "channels_first"}


def test_the_shape_does_without_names():
    model = spec((1, 7, CELLS), form="tflite", planar=False, names=("in", "out"))
    recognition = recognise(model)
    assert recognition.certainty is Certainty.SHAPES
    assert recognition.settings == {"head": "dense", "boxes": "normalised", "layout": "channels_first"}


def test_the_number_of_labels_tells_yolo_from_yolox():
    model = spec((1, CELLS, 8), names=("in", "out"), labels=("a", "b", "c", "d"))
    assert recognise(model).settings["layout"] == "anchors_first"
    assert recognise(spec((1, CELLS, 8), names=("in", "out"), labels=("a", "b", "c"))) is None


@pytest.mark.parametrize(
    "other",
    [
        spec((1, 300, 6), metadata=EXPORT | {"head": "RTDETRDecoder"}),
        spec((1, 300, 7), metadata=EXPORT | {"description": "Ultralytics rtdetr-l model trained on caps"}),
        spec((1, 3 * CELLS, 8)),
        spec((1, 3 * CELLS, 6), labels=()),
        spec((1, CELLS, 8), names=("images", "output"), labels=()),
        spec((1, 2125, 112), wh=(320, 320), labels=(), names=("data", "output")),
        spec((1, 1000), labels=()),
    ],
    ids=["rtdetr by head", "rtdetr by description", "yolov5", "yolov5 of one class", "yolox", "nanodet", "classifier"],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_other_tasks_are_refused_in_words(task):
    with pytest.raises(ModelError, match=f"caps: this is a YOLO model for the task '{task}'; only 'detect'"):
        recognise(spec((1, 116, CELLS), metadata=EXPORT | {"task": task}))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (spec((1, 300, 6)), r'RT-DETR; write\n\[model.decoder\]\nkind = "yolo"'),
        (spec((1, CELLS, 8), names=("in", "out"), labels=()), r'\[model.decoder\]\nkind = "yolo"     # or "yolox"'),
        (
            spec((1, 300, 6), metadata=EXPORT, form="recorded", names=("in", "out")),
            r'kind = "yolo"\nboxes = "pixels"     # or "normalised"',
        ),
        (spec((1, 7, CELLS), metadata=EXPORT | {"end2end": True}), r'kind = "yolo"\nhead = "dense"'),
        (spec((1, 7, 99), metadata=EXPORT), r'kind = "yolo"\nlayout = "channels_first"'),
        (spec((8, 7, CELLS), metadata=EXPORT), "8 pictures at a time; export it with batch=1"),
    ],
    ids=["rows of six", "yolo or yolox", "unit", "head", "layout", "batch"],
)
def test_what_cannot_be_told_is_refused_with_the_words_to_write(model, says):
    with pytest.raises(ModelError, match=says):
        recognise(model)


def test_a_given_setting_wins_over_what_was_found_out():
    outputs = made.stored(made.dense_rows(fractions=True), np.float32, channels_first=True)
    decoder = create(Config(boxes="normalised"), spec(LAYOUTS["channels_first"], metadata=EXPORT), CONF)
    made.assert_alike(decoder(outputs, LETTERBOX), made.wanted(LETTERBOX))


def test_labels_that_do_not_fit_the_classes_are_refused_with_both_numbers():
    with pytest.raises(ModelError, match=r"there are 2 labels, but the output output0 .* has 3 classes"):
        create(Config(), spec((1, 7, CELLS), labels=("a", "b")), CONF)


def test_classes_without_labels_get_numbers_as_names():
    assert create(Config(), spec((1, 7, CELLS), labels=()), CONF).labels == ("class_0", "class_1", "class_2")


def test_an_end_to_end_head_without_labels_is_refused():
    with pytest.raises(ModelError, match='write labels = "FILE" under'):
        create(Config(), spec((1, 300, 6), labels=()), CONF)


def test_a_quantised_end_to_end_head_is_refused():
    with pytest.raises(ModelError, match="does not leave class numbers whole"):
        create(Config(), spec((1, 300, 6), np.int8, quant=Quantisation(0.1, 0)), CONF)


@pytest.mark.parametrize(("said", "seen"), [("pixels", "normalised"), ("normalised", "pixels")])
def test_the_warm_up_run_exposes_a_wrong_unit(said, seen):
    outputs = made.stored(made.dense_rows(fractions=seen == "normalised"), np.float32, channels_first=True)
    decoder = create(Config(boxes=said), spec(LAYOUTS["channels_first"]), CONF)
    with pytest.raises(ModelError, match=rf'should be {said}, (.|\n)*boxes = "{seen}"'):
        decoder.check(outputs)


def test_an_end_to_end_head_that_found_nothing_tells_nothing_of_its_unit():
    create(Config(), spec((1, 300, 6)), CONF).check([np.zeros((1, 300, 6), np.float32)])
