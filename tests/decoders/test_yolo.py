from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Certainty, Quantisation, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.yolo import Config, create, recognise
from edge_agent.errors import ModelError
from tests.core.test_boxes import plain_nms
from tests.decoders import made
from tests.decoders.engines import model_of, run
from tests.decoders.expectations import assert_as_expected, pictures
from tests.decoders.made import CELLS, EXPORT, LABELS, LETTERBOX, QUANT, spec
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


@given(st.data(), st.sampled_from(list(made.EXTRA)), st.sampled_from(["dense", "end2end"]))
def test_no_numbers_whatever_give_a_broken_detection_for_any_task(data, task, head):
    model = made.of_task(task, head=head, metadata=made.export_for(task))
    decoder = create(Config(head=head), model, Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25]))))
    outputs = [
        data.draw(hnp.arrays(np.float32, output.shape)) if len(output.shape) == 3 else np.ones(output.shape)
        for output in model.outputs
    ]
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder(outputs, Letterbox.fit(frame, made.WH))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.classes >= 0) & (found.classes < 3)).all()


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
        spec((1, 3), metadata=EXPORT | {"task": "classify"}),
    ],
    ids=[
        "rtdetr by head",
        "rtdetr by description",
        "yolov5",
        "yolov5 of one class",
        "yolox",
        "nanodet",
        "classifier",
        "classify",
    ],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_tasks_without_boxes_are_refused_in_words(task):
    with pytest.raises(ModelError, match=f"caps: this is a YOLO model for the task '{task}', which finds no boxes"):
        recognise(spec((1, 116, CELLS), metadata=EXPORT | {"task": task}))


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_the_tasks_columns_are_recognised_by_metadata(task):
    recognition = recognise(made.of_task(task, metadata=made.export_for(task)))
    wanted = {"head": "dense", "boxes": "pixels", "layout": "channels_first", "task": task}
    assert recognition.certainty is Certainty.METADATA
    assert recognition.settings == wanted | ({"keypoints": (2, 3)} if task == "pose" else {})


@pytest.mark.parametrize(("task", "dtype"), list(product(made.EXTRA, (np.float32, np.float16, np.int8, np.uint8))))
def test_what_a_task_adds_counts_neither_as_a_class_nor_as_a_score(task, dtype):
    quant = QUANT.get(np.dtype(dtype))
    model = made.of_task(task, dtype, metadata=made.export_for(task), quant=quant)
    outputs = made.task_outputs(task, dtype, fractions=quant is not None, quant=quant)
    decoder = create(Config(boxes="normalised" if quant else "pixels"), model, CONF)
    wanted = made.turned(LETTERBOX) if task == "obb" else made.wanted(LETTERBOX)
    step = quant.scale if quant else 0
    half = dtype == np.float16
    box_px = 2 * 160 * step + (0.4 if half else 0.01)
    made.assert_alike(decoder(outputs, LETTERBOX), wanted, box_px, step + (1e-3 if half else 1e-6))
    decoder.check(outputs)


@pytest.mark.parametrize("task", made.EXTRA)
def test_a_tasks_columns_may_stand_in_rows(task):
    model = replace(
        made.of_task(task, metadata=made.export_for(task)),
        outputs=spec((1, CELLS, 7 + made.EXTRA[task])).outputs,
    )
    decoder = recognised(model)
    wanted = made.turned(LETTERBOX) if task == "obb" else made.wanted(LETTERBOX)
    made.assert_alike(decoder([made.task_rows(task)[None]], LETTERBOX), wanted)


def test_prototypes_may_come_first():
    model = made.of_task("segment", reverse=True, metadata=made.export_for("segment"))
    decoder = recognised(model)
    outputs = made.task_outputs("segment", reverse=True)
    made.assert_alike(decoder(outputs, LETTERBOX), made.wanted(LETTERBOX))
    decoder.check(outputs)


@pytest.mark.parametrize("boxes", ["pixels", "normalised"])
def test_a_box_in_fractions_is_turned_in_pixels(boxes):
    outputs = made.task_outputs("obb", fractions=boxes == "normalised")
    decoder = create(Config(task="obb", boxes=boxes), made.of_task("obb"), CONF)
    made.assert_alike(decoder(outputs, LETTERBOX), made.turned(LETTERBOX))


def test_slanted_boxes_side_by_side_both_stay_though_the_rectangles_around_them_overlap():
    rows = made.task_rows("obb")
    rows[:, 4:7] = 0
    rows[[7, 8], 4] = (0.9, 0.8)
    rows[7] = (70, 48, 60, 8, 0.9, 0, 0, np.pi / 4)
    rows[8] = (81, 37, 60, 8, 0.8, 0, 0, np.pi / 4)
    decoder = create(Config(task="obb"), made.of_task("obb"), Thresholds(iou=0.3))
    found = decoder(made.stored(rows, np.float32, channels_first=True), LETTERBOX)
    assert len(found) == 2
    assert iou(found.boxes[:1], found.boxes[1:])[0, 0] > 0.3


@pytest.mark.parametrize("task", made.EXTRA)
@pytest.mark.parametrize("boxes", ["pixels", "normalised"])
def test_end_to_end_rows_of_every_task_become_the_same_detections(task, boxes):
    wanted = made.wanted(LETTERBOX)
    rows = np.zeros((300, 6 + made.EXTRA[task]), np.float32)
    for row, (_, (x, y, w, h), number, score) in zip(rows, [made.OBJECTS[i] for i in (0, 2, 3)], strict=False):
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        row[:6] = (*((x, y, w, h) if task == "obb" else corners), score, number)
        row[6:] = made.ANGLE if task == "obb" else 0.97
    rows[:, :4] /= (160, 96, 160, 96) if boxes == "normalised" else 1
    model = made.of_task(task, head="end2end", metadata=made.export_for(task) | {"end2end": True})
    settings = recognise(model).settings
    assert settings["head"] == "end2end"
    decoder = create(Config(**settings | {"boxes": boxes}), model, CONF)
    outputs = [rows[None] if len(output.shape) == 3 else np.ones(output.shape) for output in model.outputs]
    made.assert_alike(decoder(outputs, LETTERBOX), made.turned(LETTERBOX) if task == "obb" else wanted)
    decoder.check(outputs)


def test_without_metadata_two_outputs_are_refused_with_the_words_to_write():
    with pytest.raises(ModelError, match=r'may be those of YOLO for segmentation; write\n(.|\n)*task = "segment"'):
        recognise(made.of_task("segment"))
    with pytest.raises(ModelError, match=r'what it is for is not certain(.|\n)*task = "segment"     # or "detect"'):
        create(Config(), made.of_task("segment"), CONF)
    assert create(Config(task="segment"), made.of_task("segment"), CONF).labels == LABELS


def test_without_metadata_more_columns_than_labels_are_refused_with_both_numbers():
    with pytest.raises(ModelError, match=r'of the 3 labels, and 6 more(.|\n)*task = "segment"     # or "pose"'):
        recognise(made.of_task("pose"))
    assert create(Config(task="pose", keypoints=(2, 3)), made.of_task("pose"), CONF).labels == LABELS


def test_without_metadata_or_labels_the_warm_up_run_exposes_columns_that_are_no_classes():
    model = made.of_task("pose", labels=())
    rows = made.task_rows("pose")
    rows[:, 7:] = 80
    outputs = made.stored(rows, np.float32, channels_first=True)
    with pytest.raises(ModelError, match=r'go from 0 to 80, so not all(.|\n)*task = "segment"     # or "pose"'):
        recognised(model).check(outputs)
    create(Config(task="pose", keypoints=(3, 2)), model, CONF).check(outputs)


@pytest.mark.parametrize("shape", [None, [17], [17, 4], [0, 3], ["2", 3], 6])
def test_a_pose_model_that_does_not_say_its_keypoints_is_refused(shape):
    with pytest.raises(ModelError, match=r"how many keypoints it has(.|\n)*keypoints = \[17, 3\]"):
        recognise(made.of_task("pose", metadata=EXPORT | {"task": "pose", "kpt_shape": shape}))


def test_keypoints_that_leave_no_class_are_refused():
    with pytest.raises(ModelError, match="13 columns are too few for the task pose"):
        create(Config(task="pose", keypoints=(17, 3)), made.of_task("pose"), CONF)


@pytest.mark.parametrize("planar", [True, False])
def test_a_model_with_one_channel_gets_a_grey_picture(planar):
    image = TensorSpec("images", (1, 1, 96, 160) if planar else (1, 96, 160, 1), np.dtype(np.float32))
    model = replace(spec(LAYOUTS["channels_first"], metadata=EXPORT | {"channels": 1}), inputs=(image,))
    decoder = create(Config(**recognise(model).settings), model, CONF)
    assert decoder.input_format.channels == "grey"


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


def test_the_warm_up_run_of_an_end_to_end_head_exposes_missing_labels():
    rows = np.tile(np.array([10, 30, 50, 60, 0.1, 3], np.float32), (1, 300, 1))
    with pytest.raises(ModelError, match="gave the class 3, counted from 0, but there are only 3 labels"):
        create(Config(), spec((1, 300, 6)), CONF).check([rows])


def test_an_end_to_end_head_that_found_nothing_tells_nothing_of_its_unit():
    create(Config(), spec((1, 300, 6)), CONF).check([np.zeros((1, 300, 6), np.float32)])


@needs_shared
@pytest.mark.parametrize("boxes", ["pixels", "normalised"])
def test_the_warm_up_run_exposes_a_yolox_that_was_taken_for_yolo(boxes):
    name = "yolox_nano_416_coco.onnx"
    decoder = create(Config(boxes=boxes), model_of(name, with_labels=False), CONF)
    outputs, _ = run(name, "bus.jpg", decoder.input_format)
    with pytest.raises(ModelError, match="neither normalised nor pixels"):
        decoder.check(outputs)
