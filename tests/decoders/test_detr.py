from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.datatypes import Certainty, InputFormat, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.detr import Config, create, recognise
from edge_agent.errors import ModelError
from tests.decoders import made
from tests.decoders.made import EXPORT, LABELS, QUANT, STRETCHED, WH, several, spec

CONF = Thresholds(conf=0.25)
IMAGENET = InputFormat(fit="stretch", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
NEW, OLD = EXPORT | {"head": "RTDETRDecoder"}, EXPORT | {"description": "Ultralytics rtdetr-l model trained on caps"}
CHOSEN = {"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)}
SIZES = TensorSpec("orig_target_sizes", (1, 2), np.dtype(np.int64))


def pair(count, names=("dets", "labels"), **options):
    return several({names[0]: (1, 300, 4), names[1]: (1, 300, count)}, **options)


def hugging(count, **options):
    return pair(count, ("pred_boxes", "logits"), **options)


def recognised(model, thresholds=CONF):
    return create(Config(**recognise(model).settings), model, thresholds)


ALIKE = {
    "ultralytics": (spec((1, 300, 6), metadata=NEW), made.detr_rows()),
    "ultralytics before 8.4": (spec((1, 300, 7), metadata=OLD), made.detr_classes()),
    "chosen": (several(CHOSEN), made.detr_chosen()),
    "rf-detr": (pair(4), made.detr_logits(4)),
    "rf-detr without background": (pair(3), made.detr_logits(3)),
    "sigmoids": (hugging(3), made.detr_logits(3)),
    "softmax": (hugging(4), made.detr_logits(4, softmax=True)),
    "original": (pair(4, ("pred_boxes", "pred_logits")), made.detr_logits(4, softmax=True)),
}


@pytest.mark.parametrize(("model", "outputs"), ALIKE.values(), ids=ALIKE)
def test_exports_of_every_layout_give_the_same_detections(model, outputs):
    decoder = recognised(model)
    made.assert_alike(decoder(outputs, STRETCHED), made.wanted(STRETCHED), score=1e-5)
    decoder.check(outputs)
    assert (decoder.labels, decoder.input_format.fit) == (LABELS, "stretch")


@pytest.mark.parametrize(("model", "outputs"), ALIKE.values(), ids=ALIKE)
def test_outputs_are_found_by_name_in_whatever_order(model, outputs):
    backwards = replace(model, outputs=model.outputs[::-1])
    found = recognised(backwards)(outputs[::-1], STRETCHED)
    made.assert_alike(found, made.wanted(STRETCHED), score=1e-5)


@pytest.mark.parametrize(("model", "outputs"), ALIKE.values(), ids=ALIKE)
def test_a_batch_that_is_not_fixed_and_more_outputs_change_nothing(model, outputs):
    free = [TensorSpec(output.name, (-1, *output.shape[1:]), output.dtype) for output in model.outputs]
    more = [TensorSpec("masks", (-1, 300, 24, 40), np.dtype(np.float32))] if len(free) > 1 else []
    found = recognised(replace(model, outputs=(*free, *more)))(outputs, STRETCHED)
    made.assert_alike(found, made.wanted(STRETCHED), score=1e-5)


@pytest.mark.parametrize(
    ("model", "certainty", "layout"),
    [
        (spec((1, 300, 6), metadata=NEW), Certainty.METADATA, "rows"),
        (spec((1, 300, 6), metadata=NEW, labels=("a", "b")), Certainty.METADATA, "rows"),
        (spec((1, 300, 6), metadata=OLD, labels=("a", "b")), Certainty.METADATA, "classes"),
        (spec((1, 300, 7), metadata=NEW), Certainty.METADATA, "classes"),
        (several(CHOSEN), Certainty.NAMES, "chosen"),
        (pair(4), Certainty.NAMES, "logits"),
        (pair(4, metadata={"rfdetr_inference": {}}), Certainty.METADATA, "logits"),
        (hugging(80, labels=()), Certainty.NAMES, "logits"),
    ],
)
def test_models_are_recognised_by_metadata_before_names(model, certainty, layout):
    recognition = recognise(model)
    assert (recognition.certainty, recognition.settings) == (certainty, {"layout": layout})


@pytest.mark.parametrize(
    "other",
    [
        spec((1, 300, 6)),
        spec((1, 300, 6), metadata=EXPORT),
        spec((1, 1000), labels=()),
        several({"a": (1, 300, 4), "b": (1, 300, 3)}),
        several({"boxes": (300, 4), "labels": (300,), "scores": (300,)}),
        several({"boxes": (1, 1917, 4), "scores": (1, 1917)}),
        several({"dets": (1, 100, 5), "labels": (1, 100)}),
        several({"logits": (1, 1000)}),
        spec((), metadata=EXPORT),
    ],
    ids=["rows of six", "yolo", "classifier", "no names", "torchvision", "ssd", "mmdetection", "logits", "scalar"],
)
def test_other_families_are_left_to_others(other):
    assert recognise(other) is None


def test_a_query_can_be_several_classes_with_sigmoids_and_the_best_over_all_are_kept():
    boxes = np.full((1, 2, 4), 0.5, np.float32)
    logits = np.array([[[2.0, 1.0, -9.0], [0.5, -9.0, 1.5]]], np.float32)
    model = several({"pred_boxes": (1, 2, 4), "logits": (1, 2, 3)})
    found = recognised(model)([boxes, logits], STRETCHED)
    assert found.classes.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-2.0, -1.5])), rtol=1e-6)


def test_detections_are_limited_to_the_best():
    for model, outputs in ALIKE.values():
        assert recognised(model, Thresholds(max_detections=1))(outputs, STRETCHED).classes.tolist() == [0]


def test_a_score_equal_to_the_threshold_is_not_above_it():
    model, outputs = ALIKE["chosen"]
    outputs = [outputs[0], outputs[1], np.full((1, 300), 0.5, np.float32)]
    assert len(recognised(model, Thresholds(conf=0.5))(outputs, STRETCHED)) == 0
    assert len(recognised(model, Thresholds(conf=0.499))(outputs, STRETCHED)) == 300


@pytest.mark.parametrize("number", [3, -1, 1 << 40])
def test_chosen_rows_of_a_class_without_a_label_are_left_out(number):
    model, (labels, boxes, scores) = ALIKE["chosen"]
    assert len(recognised(model)([np.full_like(labels, number), boxes, scores], STRETCHED)) == 0


@pytest.mark.parametrize("number", [3, -1, 1e9, np.nan])
def test_rows_of_a_class_without_a_label_are_left_out(number):
    model, (rows,) = ALIKE["ultralytics"]
    rows = rows.copy()
    rows[..., 5] = number
    assert len(recognised(model)([rows], STRETCHED)) == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_labels_of_other_types_are_read_as_well(dtype):
    model, (labels, boxes, scores) = ALIKE["chosen"]
    model = replace(model, outputs=(TensorSpec("labels", (1, 300), np.dtype(dtype)), *model.outputs[1:]))
    found = recognised(model)([labels.astype(dtype), boxes, scores], STRETCHED)
    made.assert_alike(found, made.wanted(STRETCHED))


@pytest.mark.parametrize("wh", [(160, 96), (96, 96)])
def test_boxes_that_follow_the_size_input_are_asked_for_as_fractions(wh):
    model = several(CHOSEN, more=[SIZES], wh=wh)
    labels, boxes, scores = made.detr_chosen()
    decoder = recognised(model)
    assert decoder.input_format == InputFormat(fit="stretch", constants={"orig_target_sizes": (1.0, 1.0)})
    outputs = [labels, boxes / (*WH, *WH), scores]
    letterbox = Letterbox.fit((320, 180), wh, "stretch")
    decoder.check(outputs)
    made.assert_alike(decoder(outputs, letterbox), made.wanted(STRETCHED))


def test_boxes_in_pixels_can_be_asked_for():
    model = several(CHOSEN, more=[SIZES])
    decoder = create(Config(boxes="pixels"), model, CONF)
    assert decoder.input_format.constants == {"orig_target_sizes": (160.0, 96.0)}
    made.assert_alike(decoder(made.detr_chosen(), STRETCHED), made.wanted(STRETCHED))


def test_every_pixel_of_a_picture_counts_where_the_model_wants_a_mask():
    mask = TensorSpec("pixel_mask", (1, 64, 64), np.dtype(np.int64))
    assert recognised(hugging(4, more=[mask])).input_format == replace(IMAGENET, constants={"pixel_mask": (1.0,)})


@pytest.mark.parametrize(
    ("model", "settings", "wanted"),
    [
        (spec((1, 300, 6), metadata=NEW), {}, "none"),
        (several(CHOSEN), {}, "none"),
        (pair(4), {}, "imagenet"),
        (hugging(3), {}, "none"),
        (hugging(4), {}, "imagenet"),
        (hugging(3), {"normalisation": "imagenet"}, "imagenet"),
        (several(CHOSEN), {"normalisation": "imagenet"}, "imagenet"),
        (hugging(4), {"normalisation": "none"}, "none"),
    ],
)
def test_the_picture_is_normalised_as_the_family_wants_it_or_as_it_is_set(model, settings, wanted):
    found = create(Config(**settings), model, CONF).input_format
    assert found == (IMAGENET if wanted == "imagenet" else InputFormat(fit="stretch"))


@pytest.mark.parametrize(
    ("background", "labels"), [("none", ("a", "b", "c", "d")), ("first", LABELS), ("last", LABELS), ("none", ())]
)
def test_the_number_that_stands_for_nothing_can_be_set(background, labels):
    outputs = made.detr_logits(4)
    if background == "first":
        outputs[1] = np.roll(outputs[1], 1, axis=2)
    decoder = create(Config(background=background), pair(4, labels=labels), CONF)
    assert decoder.labels == (labels or ("class_0", "class_1", "class_2", "class_3"))
    assert decoder(outputs, STRETCHED).classes.tolist() == [0, 1, 2]


def test_the_names_in_rf_detrs_metadata_stand_for_their_numbers_and_others_are_left_out():
    says = {"rfdetr_inference": {"class_id_to_name": {"1": "person", "90": "toothbrush", "91": "too far", "3": "car"}}}
    logits = np.full((1, 300, 91), -9.0, np.float32)
    logits[0, [0, 1, 2, 3], [1, 3, 90, 12]] = (3, 2, 1, 4)
    decoder = recognised(pair(91, labels=(), metadata=says))
    found = decoder([np.full((1, 300, 4), 0.5, np.float32), logits], STRETCHED)
    assert [decoder.labels[number] for number in found.classes] == ["person", "car", "toothbrush"]


@pytest.mark.parametrize("says", ["text", {}, {"class_id_to_name": ["a"]}, {"class_id_to_name": {"x": "a"}}])
def test_metadata_that_names_nothing_leaves_numbers_as_names(says):
    assert recognised(pair(4, labels=(), metadata={"rfdetr_inference": says})).labels[3] == "class_3"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (hugging(80, labels=()), r'kind = "detr"\nscores = "sigmoid"     # .*or "softmax"'),
        (hugging(8), r"8 numbers for 3 labels, and whether (.|\n)*scores ="),
        (pair(8), r'there are 3 labels, but labels .* has 7 classes \(scores = "sigmoid", background = "last"\)'),
        (pair(2), r"there are 3 labels, but labels .* has 1 classes"),
        (pair(91, labels=[f"c{number}" for number in range(90)]), r'background = "first"     # official weights'),
        (several(CHOSEN, labels=()), 'write labels = "FILE" under'),
        (spec((1, 300, 6), metadata=NEW, labels=()), 'write labels = "FILE" under'),
        (spec((1, 300, 8), metadata=OLD), "3 labels, but the output output0 .* has 4 classes"),
        (spec((1, 300, 6), np.int8, metadata=NEW, quant=QUANT[np.dtype(np.int8)]), "leave class numbers whole"),
        (spec((8, 300, 6), metadata=NEW), "cannot be read as the layout 'rows'"),
    ],
    ids=[
        "no labels", "labels", "too many", "too few", "coco", "chosen", "rows", "classes", "quantised", "batch",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_the_words_to_write(model, says):
    with pytest.raises(ModelError, match=says):
        recognised(model)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (several({"a": (1, 300, 3), "b": (1, 300, 4)}), {}),
        (several({"Identity": (1, 300), "labels": (1, 300), "Identity_2": (1, 300, 4)}), {"layout": "chosen"}),
        (spec((1, 300, 6)), {"layout": "rows"}),
        (spec((1, 300, 7), names=("in", "out")), {"layout": "classes"}),
    ],
)
def test_what_is_configured_is_found_by_shape(model, settings):
    create(Config(**settings), model, CONF)


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        (spec((1, 300, 6)), {}, 'kind = "detr"\nlayout = "rows"'),
        (several({"a": (1, 300, 4), "b": (1, 300, 4)}), {}, "layout 'logits' .*or C is not 4"),
        (several({"a": (1, 300), "b": (1, 300, 4), "c": (1, 300)}), {}, "layout 'chosen' .*whole numbers as labels"),
        (several(CHOSEN), {"layout": "rows"}, "layout 'rows'"),
        (spec((1, 300, 4)), {"layout": "classes"}, "layout 'classes'"),
    ],
)
def test_what_does_not_fit_the_configuration_is_refused_with_what_would(model, settings, says):
    with pytest.raises(ModelError, match=says):
        create(Config(**settings), model, CONF)


@pytest.mark.parametrize(
    ("model", "outputs", "says"),
    [
        (several(CHOSEN, more=[SIZES]), made.detr_chosen(), 'kind = "detr"\nboxes = "pixels"'),
        (several(CHOSEN), [part / 160 for part in made.detr_chosen()], 'boxes = "normalised"'),
        (spec((1, 300, 6), metadata=NEW, labels=("a", "b")), [made.detr_classes()[0][..., :6]], 'layout = "classes"'),
        (spec((1, 300, 6), metadata=OLD, labels=("a", "b")), made.detr_rows(), 'layout = "rows"'),
        (spec((1, 300, 6), metadata=NEW), [made.detr_rows()[0] * 160], 'look pixels; write\n.*\nkind = "yolo"'),
        (pair(3), [made.detr_logits(3)[0] * 160, made.detr_logits(3)[1]], "another kind of model"),
        (pair(3), [made.detr_logits(3)[0], np.full((1, 300, 3), 0.1, np.float32)], "probabilities already"),
    ],
    ids=["pixels", "fractions", "rows", "classes", "yolo", "other", "probabilities"],
)
def test_the_warm_up_run_exposes_what_was_read_wrongly(model, outputs, says):
    with pytest.raises(ModelError, match=says):
        recognised(model).check(outputs)


@pytest.mark.parametrize("name", ["chosen", "ultralytics"])
def test_the_warm_up_run_exposes_missing_labels(name):
    model, outputs = ALIKE[name]
    with pytest.raises(ModelError, match="gave the class 2, counted from 0, but there are only 2 labels"):
        recognised(replace(model, labels=("bottle", "cap"))).check(outputs)


def test_quantised_logits_are_read_as_their_dequantised_numbers_are():
    boxes, logits = made.detr_logits(4)
    quant = {
        "dets": QUANT[np.dtype(np.uint8)],
        "labels": replace(QUANT[np.dtype(np.uint8)], scale=0.06, zero_point=160),
    }
    specs = [TensorSpec(name, (1, 300, 4), np.dtype(np.uint8), quant[name]) for name in quant]
    stored = [
        np.clip(np.rint(real / one.scale) + one.zero_point, 0, 255).astype(np.uint8)
        for real, one in zip((boxes, logits), quant.values(), strict=True)
    ]
    numbers = [
        (part.astype(np.float32) - one.zero_point) * np.float32(one.scale)
        for part, one in zip(stored, quant.values(), strict=True)
    ]
    found = recognised(replace(pair(4), outputs=tuple(specs)))(stored, STRETCHED)
    assert len(found) == 3
    made.assert_alike(found, recognised(pair(4))(numbers, STRETCHED))


@given(st.data(), st.sampled_from(list(ALIKE)))
def test_no_numbers_whatever_give_a_broken_detection(data, name):
    model, _ = ALIKE[name]
    decoder = recognised(model, Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25]))))
    outputs = [data.draw(hnp.arrays(output.dtype, output.shape)) for output in model.outputs]
    frame = data.draw(st.tuples(st.integers(1, 2000), st.integers(1, 2000)))
    found = decoder(outputs, Letterbox.fit(frame, made.WH, "stretch"))
    assert np.isfinite(found.boxes).all()
    assert ((found.boxes >= 0) & (found.boxes <= (*frame, *frame))).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.classes >= 0) & (found.classes < 3)).all()
