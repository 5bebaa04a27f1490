from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.core.datatypes import BoundTensor, Certainty, ModelSpec, Quantisation, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.ssd import Config, create, recognise
from edge_agent.errors import ModelError
from edge_agent.runtime.preprocess import Preprocessor
from tests.backends.models import FLOAT, write_onnx
from tests.decoders.engines import FIXTURES, model_of, run
from tests.decoders.made import LABELS
from tests.fixtures import needs_shared

PETS = "ssd_mobilenet_pets.tflite"
CONF = Thresholds(conf=0.25)
LETTERBOX = Letterbox.fit((600, 200), (300, 300), "stretch")
ROLES = ("boxes", "classes", "scores", "count")
TF1 = {"boxes": "", "classes": ":1", "scores": ":2", "count": ":3"}
TF2 = {"boxes": ":3", "classes": ":2", "scores": ":1", "count": ":0"}
FAMILIES = {
    "TF1": {role: "TFLite_Detection_PostProcess" + TF1[role] for role in ROLES},
    "TF2": {role: "StatefulPartitionedCall" + TF2[role] for role in ROLES},
    "TensorFlow": {
        "boxes": "detection_boxes",
        "classes": "detection_classes",
        "scores": "detection_scores",
        "count": "num_detections",
    },
    "words": {"boxes": "location", "classes": "category", "scores": "score", "count": "number of detections"},
}
NAMELESS = {role: f"Identity_{number}" for number, role in enumerate(ROLES)}
# ymin, xmin, ymax, xmax; the second reaches beyond the picture, the last two are not to be found
ROWS = {
    "boxes": [[0.1, 0.2, 0.5, 0.4], [0.5, 0.5, 1.2, 1.1], [0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.4, 0.4]],
    "classes": [2, 0, 1, 1],
    "scores": [0.9, 0.6, 0.2, 0.1],
    "count": 4,
}
FOUND = {"boxes": [[120, 20, 240, 100], [300, 100, 600, 200]], "classes": [2, 0], "scores": [0.9, 0.6]}


def spec(names=FAMILIES["TF1"], order=ROLES, *, rows=4, dtypes=(), labels=LABELS, form="tflite", image=None, batch=1):
    shapes = {"boxes": (batch, rows, 4), "classes": (batch, rows), "scores": (batch, rows), "count": (batch,)}
    types = dict.fromkeys(ROLES, np.float32) | dict(dtypes)
    image = image or TensorSpec("normalized_input_image_tensor", (1, 300, 300, 3), np.dtype(np.uint8))
    outputs = tuple(TensorSpec(names[role], shapes[role], np.dtype(types[role])) for role in order)
    return ModelSpec("caps", "00", form, (image,), outputs, tuple(labels))


def picture(dtype, quant=None, name="image"):
    return TensorSpec(name, (1, 300, 300, 3), np.dtype(dtype), quant)


def outputs_of(order=ROLES, dtypes=(), **rows):
    rows, types = ROWS | rows, dict.fromkeys(ROLES, np.float32) | dict(dtypes)
    shapes = {"boxes": (1, -1, 4), "classes": (1, -1), "scores": (1, -1), "count": (1,)}
    return [np.array(rows[role], types[role]).reshape(shapes[role]) for role in order]


def one(classes, scores):
    """Outputs with the same box in every row."""
    return {"boxes": [ROWS["boxes"][0]] * len(classes), "classes": classes, "scores": scores, "count": len(classes)}


def decoder_of(model, thresholds=CONF):
    return create(Config(**recognise(model).settings), model, thresholds)


def assert_found(found, expected=FOUND):
    assert found.classes.tolist() == expected["classes"]
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-3)
    np.testing.assert_allclose(found.boxes, np.reshape(expected["boxes"], (-1, 4)), atol=0.2)


def assert_is_the_cat(labels, found):
    assert [labels[number] for number in found.classes] == ["Abyssinian"]
    assert found.scores[0] == pytest.approx(0.84, abs=0.005)
    np.testing.assert_allclose(found.boxes[0], (457, 82, 843, 465), atol=1)


@needs_shared
def test_the_real_model_finds_the_cat():
    decoder = decoder_of(model_of(PETS))
    outputs, letterbox = run(PETS, "cat_720p.jpg", decoder.input_format)
    decoder.check(outputs)
    assert_is_the_cat(decoder.labels, decoder(outputs, letterbox))


@needs_shared
def test_the_real_model_is_recognised_and_finds_the_cat_through_the_products_own_engine():
    cv2, path = pytest.importorskip("cv2"), FIXTURES / "models" / PETS
    pytest.importorskip("ai_edge_litert")
    engine = open_engine(EngineRequest(path, ("tflite",), path.with_suffix(".pbtxt")))
    found, _ = engine.look(cv2.imread(str(FIXTURES / "images" / "cat_720p.jpg")))
    assert engine.decoder_kind == "ssd"
    assert_is_the_cat(engine.model.labels, found)
    engine.backend.close()


def test_a_made_model_of_nameless_outputs_runs_through_the_products_own_engine(tmp_path):
    pytest.importorskip("onnxruntime")
    order = ("scores", "boxes", "count", "classes")
    rows = dict(zip(order, outputs_of(order), strict=True))
    write_onnx(
        tmp_path / "caps.onnx",
        [("Identity", [role], NAMELESS[role]) for role in order],
        {"image": (2, [1, 300, 300, 3])},  # uint8
        {NAMELESS[role]: (FLOAT, rows[role].shape) for role in order},
        rows,
    )
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    engine = open_engine(EngineRequest(tmp_path / "caps.onnx", ("onnx",), tmp_path / "labels.txt"))
    found, _ = engine.look(np.zeros((200, 600, 3), np.uint8))
    engine.backend.close()
    assert_found(found)
    assert "shapes of boxes, classes, scores and a count" in engine.reason


@needs_shared
def test_the_real_model_is_recognised_by_the_names_of_its_outputs():
    recognition = recognise(model_of(PETS, with_labels=False))
    assert recognition.certainty is Certainty.NAMES
    assert recognition.settings == {"input": "pixels", "first_class": 0}


@needs_shared
@pytest.mark.parametrize("name", ["yolo11n_640_int8.tflite", "yolov8n_320_int8_nms.tflite", "yolox_nano_416_coco.onnx"])
def test_real_models_of_other_families_are_not_claimed(name):
    assert recognise(model_of(name, with_labels=False)) is None


@pytest.mark.parametrize("order", list(permutations(ROLES)), ids=" ".join)
@pytest.mark.parametrize("names", [*FAMILIES.values(), NAMELESS], ids=[*FAMILIES, "nameless"])
def test_the_four_outputs_are_told_apart_in_any_order(names, order):
    assert_found(decoder_of(spec(names, order))(outputs_of(order), LETTERBOX))


@pytest.mark.parametrize("names", [*FAMILIES.values(), NAMELESS], ids=[*FAMILIES, "nameless"])
def test_names_make_sure_of_the_family(names):
    assert recognise(spec(names)).certainty is (Certainty.SHAPES if names is NAMELESS else Certainty.NAMES)


@pytest.mark.parametrize("order", [ROLES, ("scores", "boxes", "count", "classes")], ids=" ".join)
def test_names_tell_where_the_values_cannot(order):
    outputs = outputs_of(order, **one([1], [1]))
    expected = {"boxes": [FOUND["boxes"][0]], "classes": [1], "scores": [1]}
    assert_found(decoder_of(spec(FAMILIES["TF2"], order))(outputs, LETTERBOX), expected)


@pytest.mark.parametrize("order", [ROLES, ("boxes", "scores", "classes", "count")], ids=" ".join)
def test_integers_are_the_classes(order):
    dtypes = {"classes": np.int64, "count": np.int32}
    outputs = outputs_of(order, dtypes, **one([1], [1]))
    expected = {"boxes": [FOUND["boxes"][0]], "classes": [1], "scores": [1]}
    assert_found(decoder_of(spec(NAMELESS, order, dtypes=dtypes))(outputs, LETTERBOX), expected)


@pytest.mark.parametrize("order", [ROLES, ("boxes", "scores", "classes", "count")], ids=" ".join)
def test_while_nothing_tells_the_two_apart_nothing_is_found(order):
    assert len(decoder_of(spec(NAMELESS, order))(outputs_of(order, **one([1, 0], [0, 1])), LETTERBOX)) == 0


@pytest.mark.parametrize("order", [ROLES, ("boxes", "scores", "classes", "count")], ids=" ".join)
@pytest.mark.parametrize("by", ["the warm-up run", "a frame"])
def test_the_order_that_one_run_has_shown_holds_for_those_that_cannot(order, by):
    decoder = decoder_of(spec(NAMELESS, order))
    shown, silent = outputs_of(order), outputs_of(order, **one([1], [1]))
    if by == "a frame":
        decoder(shown, LETTERBOX)
    else:
        decoder.check(shown)
    assert_found(decoder(silent, LETTERBOX), {"boxes": [FOUND["boxes"][0]], "classes": [1], "scores": [1]})


def test_values_outweigh_names():
    names = NAMELESS | {"classes": "scores", "scores": "classes"}
    decoder = decoder_of(spec(names))
    decoder.check(outputs_of())
    assert_found(decoder(outputs_of(), LETTERBOX))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.3, 0.5, 1.0])), max_size=5), st.booleans())
def test_a_wrong_order_never_gives_a_detection(rows, swapped):
    """What is found without names is what is found with them, or nothing."""
    order = ("boxes", "scores", "classes", "count") if swapped else ROLES
    outputs = outputs_of(order, **one([number for number, _ in rows], [score for _, score in rows]))
    named = decoder_of(spec(order=order))(outputs, LETTERBOX)
    nameless = decoder_of(spec(NAMELESS, order))(outputs, LETTERBOX)
    assert len(nameless) == 0 or nameless.classes.tolist() == named.classes.tolist()


@pytest.mark.parametrize(("count", "found"), [(1, 1), (0, 0), (2.0, 2), (99, 2), (-1, 0), (np.nan, 0), (np.inf, 0)])
def test_rows_after_the_count_do_not_count(count, found):
    decoder = decoder_of(spec())
    assert len(decoder(outputs_of(count=count), LETTERBOX)) == found


def test_the_number_of_rows_may_be_unknown_and_change_from_run_to_run():
    decoder = decoder_of(spec(NAMELESS, rows=-1))
    empty = outputs_of(**one([], []))
    decoder.check(empty)
    for _ in range(2):
        assert len(decoder(empty, LETTERBOX)) == 0
        assert_found(decoder(outputs_of(), LETTERBOX))
        assert len(decoder(outputs_of(**one([1] * 30, [0.5] * 30)), LETTERBOX)) == 30


def test_a_single_row_is_told_from_the_count():
    decoder = decoder_of(spec(NAMELESS, ("count", "scores", "classes", "boxes"), rows=1))
    outputs = outputs_of(("count", "scores", "classes", "boxes"), **one([2], [0.5]))
    assert decoder(outputs, LETTERBOX).classes.tolist() == [2]


def test_thresholds_count_and_nms_is_left_to_the_model():
    decoder = decoder_of(spec(), Thresholds(conf=0.5, iou=0.1, max_detections=3))
    found = decoder(outputs_of(**one([1] * 5, [0.6, 0.7, 0.5, 0.8, 0.9])), LETTERBOX)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7], atol=1e-6)


@pytest.mark.parametrize("number", [3, 99, -1, 0.5, 1e30])
def test_rows_of_a_class_without_a_label_are_left_out(number):
    found = decoder_of(spec())(outputs_of(classes=[2, number, 1, 1]), LETTERBOX)
    assert found.classes.tolist() == [2]


@pytest.mark.parametrize("score", [1.5, np.nan, np.inf])
def test_rows_with_a_broken_score_are_left_out(score):
    assert decoder_of(spec())(outputs_of(scores=[0.9, score, 0.2, 0.1]), LETTERBOX).classes.tolist() == [2]


def test_other_graphs_of_tensorflow_count_their_classes_from_1():
    model = spec(FAMILIES["TensorFlow"], form="onnx")
    assert recognise(model).settings["first_class"] == 1
    assert_found(decoder_of(model)(outputs_of(classes=[3, 1, 2, 2]), LETTERBOX))


def test_where_counting_begins_can_be_set():
    decoder = create(Config(first_class=1), spec(), CONF)
    assert_found(decoder(outputs_of(classes=[3, 1, 2, 2]), LETTERBOX))


@pytest.mark.parametrize(
    ("dtype", "quant"),
    [
        (np.uint8, Quantisation(0.0078125, 128)),
        (np.uint8, Quantisation(0.00787402, 127)),
        (np.uint8, Quantisation(1 / 255, 0)),
        (np.uint8, None),
        (np.int8, Quantisation(0.0078125, 0)),
        (np.int8, Quantisation(1 / 255, -128)),
        (np.int8, None),
    ],
)
def test_integer_inputs_take_the_pixels_as_they_are(dtype, quant):
    image = picture(dtype, quant)
    ramp = np.broadcast_to((np.arange(300) % 256).astype(np.uint8)[None, :, None], (300, 300, 3)).copy()
    memory = BoundTensor(image, np.zeros(image.shape, dtype))
    Preprocessor(memory, decoder_of(spec(image=image)).input_format).prepare(ramp)
    shift = 128 if dtype == np.int8 else 0
    np.testing.assert_array_equal(memory.array[0].astype(int) + shift, ramp)


@pytest.mark.parametrize(
    ("name", "setting", "black", "white"),
    [
        ("normalized_input_image_tensor", None, -1, 1),
        ("image", "minus_one_to_one", -1, 1),
        ("serving_default_input:0", "minus_one_to_one", -1, 1),
        ("image", "zero_to_one", 0, 1),
        ("image", "pixels", 0, 255),
    ],
)
def test_float_inputs_take_what_their_exporter_trains_with_or_what_is_set(name, setting, black, white):
    image = picture(np.float32, name=name)
    wanted = create(Config(input=setting), spec(image=image), CONF).input_format
    memory = BoundTensor(image, np.zeros(image.shape, np.float32))
    for pixel, expected in ((0, black), (255, white)):
        Preprocessor(memory, wanted).prepare(np.full((30, 40, 3), pixel, np.uint8))
        np.testing.assert_allclose(memory.array, expected, atol=1e-6)
    assert (wanted.fit, wanted.channels) == ("stretch", "rgb")


@pytest.mark.parametrize(
    "image",
    [
        picture(np.float32, name="serving_default_input:0"),
        picture(np.uint8, Quantisation(0.018658, 114)),
        picture(np.int8, Quantisation(0.018658, -14)),
    ],
    ids=["float, set", "uint8, by its quantisation", "int8, by its quantisation"],
)
def test_efficientdet_of_tf2_takes_what_imagenet_has_taught_it(image):
    wanted = create(Config(input="imagenet" if image.quant is None else None), spec(image=image), CONF).input_format
    memory = BoundTensor(image, np.zeros(image.shape, image.dtype))
    Preprocessor(memory, wanted).prepare(np.full((30, 40, 3), 255, np.uint8))
    scale, zero_point = (image.quant.scale, image.quant.zero_point) if image.quant else (1, 0)
    white = (memory.array[0, 0, 0].astype(np.float64) - zero_point) * scale
    np.testing.assert_allclose(white, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], atol=0.011)
    assert wanted.fit == "stretch"


@pytest.mark.parametrize("name", ["image", "serving_default_input:0"])
def test_a_float_input_of_which_nothing_is_certain_is_refused_with_the_words_to_write(name):
    with pytest.raises(ModelError, match=r'write\n\[model.decoder\]\nkind = "ssd"\ninput = "minus_one_to_one"'):
        recognise(spec(image=picture(np.float32, name=name)))


@pytest.mark.parametrize(
    "other",
    [
        spec(image=TensorSpec("images", (1, 3, 300, 300), np.dtype(np.float32))),
        ModelSpec("m", "00", "tflite", spec().inputs, spec().outputs[:3], LABELS),
        ModelSpec("m", "00", "tflite", spec().inputs, (*spec().outputs[:3], spec().outputs[0]), LABELS),
        ModelSpec("m", "00", "tflite", spec().inputs, spec().outputs, LABELS, {"task": "detect"}),
        ModelSpec("m", "00", "tflite", spec().inputs, spec().outputs, LABELS, {"stride": 32, "names": {}}),
    ],
    ids=["channels first", "three outputs", "no count", "ultralytics", "yolov5 with nms"],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


def test_an_ssd_without_post_processing_is_refused_with_how_to_export_it():
    raw = [("raw_outputs/box_encodings", (1, 1917, 4)), ("raw_outputs/class_predictions", (1, 1917, 91))]
    outputs = tuple(TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in raw)
    with pytest.raises(ModelError, match="nothing but raw anchors come; export it again"):
        recognise(ModelSpec("caps", "00", "tflite", spec().inputs, outputs, LABELS))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (spec(labels=()), r'do not show how many classes .* write labels = "FILE" under \[model\] .* \.pbtxt'),
        (spec(batch=2), "are not those of an SSD"),
        (ModelSpec("caps", "00", "tflite", spec().inputs, spec().outputs[:2], LABELS), "are not those of an SSD"),
        (
            ModelSpec("caps", "00", "tflite", spec().inputs, (
                TensorSpec("y", (1, 4, 4), np.dtype(np.uint8), Quantisation(0.1, 0)), *spec().outputs[1:]), LABELS),
            "are quantised, which does not leave class numbers whole",
        ),
    ],
    ids=["labels", "batch", "outputs", "quantised"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words(model, says):
    with pytest.raises(ModelError, match=says):
        create(Config(input="pixels"), model, CONF)


@pytest.mark.parametrize(
    ("rows", "config", "says"),
    [
        ({"classes": [0.5, 0.1, 0.2, 0.3]}, {}, "neither the output .*:1 nor .*:2 is whole class numbers"),
        ({"scores": [9.5, 2.1, 3.2, 7.3]}, {}, "neither the output .*:1 nor .*:2 is whole class numbers"),
        ({"boxes": np.array(ROWS["boxes"]) * 300}, {}, "half of the boxes, which should be normalised, reach 135 or more: they look pixels"),
        ({"classes": [0, 7, 1, 2]}, {}, "gave the class 7, counted from 0, but there are only 3 labels"),
        ({"classes": [0, 3, 1, 2]}, {"first_class": 1}, "counts its classes from 0; write\n.*\n.*\nfirst_class = 0"),
    ],
    ids=["classes", "scores", "pixels", "labels too few", "first class"],
)  # fmt: skip
def test_the_warm_up_run_exposes_what_does_not_fit(rows, config, says):
    with pytest.raises(ModelError, match=says):
        create(Config(**config), spec(), CONF).check(outputs_of(**rows))


@given(st.data(), st.sampled_from([np.float32, np.float16, np.int32]), st.sampled_from([*FAMILIES.values(), NAMELESS]))
def test_no_numbers_whatever_give_a_broken_detection(data, dtype, names):
    order = data.draw(st.permutations(ROLES))
    n = data.draw(st.integers(0, 5))
    dtypes = {"classes": dtype, "count": dtype}
    decoder = decoder_of(
        spec(names, order, rows=-1, dtypes=dtypes), Thresholds(conf=data.draw(st.sampled_from([0, 0.25])))
    )
    shapes = {"boxes": (1, n, 4), "classes": (1, n), "scores": (1, n), "count": (1,)}
    free = {role: hnp.arrays(np.float32 if role in {"boxes", "scores"} else dtype, shapes[role]) for role in ROLES}
    likely = {
        "classes": hnp.arrays(dtype, (1, n), elements=st.integers(-1, 4)),
        "scores": hnp.arrays(np.float32, (1, n), elements=st.floats(0, 1, width=16)),
        "count": hnp.arrays(dtype, (1,), elements=st.just(n)),
    }
    outputs = [data.draw(likely[role] if role in likely and data.draw(st.booleans()) else free[role]) for role in order]
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder(outputs, Letterbox.fit(frame, (300, 300), "stretch"))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.classes >= 0) & (found.classes < 3)).all()
