from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.core.datatypes import Certainty, Quantisation, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders.classifier import Config, create, recognise
from edge_agent.errors import ModelError
from tests.decoders import made
from tests.decoders.engines import model_of
from tests.decoders.made import CELLS, EXPORT, spec
from tests.fixtures import needs_shared

CONF = Thresholds(conf=0.25)
CLASSIFY = EXPORT | {"task": "classify"}
SEEN = Letterbox.fit((320, 180), (96, 96), "centre_crop")
SHARES = np.array([0.1, 0.7, 0.2], np.float32)
LOGITS = np.log(SHARES) + np.float32(5)


def plain(shape=(1, 3), dtype=np.float32, **more):
    return spec(shape, dtype, names=("image", "probs"), **more)


def with_input(model, dtype, quant=None, shape=(1, 96, 160, 3)):
    return replace(model, inputs=(TensorSpec("image", shape, np.dtype(dtype), quant),))


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_the_best_class_covers_the_whole_frame(shape):
    decoder = create(Config(input="imagenet"), plain(shape), CONF)
    found = decoder([SHARES.reshape(shape)], SEEN)
    assert found.boxes.tolist() == [[0, 0, 320, 180]]
    assert found.classes.tolist() == [1]
    assert found.scores == pytest.approx([0.7])
    decoder.check([SHARES.reshape(shape)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_logits_become_probabilities(dtype):
    decoder = create(Config(input="imagenet", scores="logits"), plain(dtype=dtype), CONF)
    assert decoder([LOGITS[None].astype(dtype)], SEEN).scores == pytest.approx([0.7], abs=1e-3)
    decoder.check([LOGITS[None].astype(dtype)])


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.uint8, 0), (np.int8, -128)])
def test_quantised_probabilities_are_read_by_their_scale(dtype, zero_point):
    model = plain(dtype=dtype, quant=Quantisation(1 / 256, zero_point))
    output = np.array([[26, 179, 51]]) + zero_point
    decoder = create(Config(input="pixels"), model, CONF)
    assert decoder([output.astype(dtype)], SEEN).scores == pytest.approx([179 / 256])
    decoder.check([output.astype(dtype)])


def test_a_thousand_quantised_probabilities_need_not_sum_to_one():
    labels = tuple(map(str, range(1001)))
    model = plain((1, 1001), np.uint8, quant=Quantisation(1 / 256, 0), labels=labels)
    output = np.zeros((1, 1001), np.uint8)
    output[0, 7] = 30
    create(Config(input="pixels"), model, CONF).check([output])


@pytest.mark.parametrize(("top", "classes"), [(1, [1]), (2, [1, 2]), (3, [1, 2])])
def test_as_many_classes_as_wanted_are_reported_if_their_scores_suffice(top, classes):
    decoder = create(Config(input="imagenet", top=top), plain(), Thresholds(conf=0.15))
    assert decoder([SHARES[None]], SEEN).classes.tolist() == classes


def test_a_score_equal_to_the_threshold_is_not_above_it():
    decoder = create(Config(input="imagenet"), plain(), Thresholds(conf=0.5))
    assert len(decoder([np.array([[0.5, 0.5, 0]], np.float32)], SEEN)) == 0


def test_an_export_by_ultralytics_says_all():
    model = plain(metadata=CLASSIFY, wh=(224, 224))
    recognition = recognise(model)
    wanted = create(Config(**recognition.settings), model, CONF).input_format
    assert recognition.certainty is Certainty.METADATA
    assert (wanted.fit, wanted.channels, wanted.scale, wanted.mean) == ("centre_crop", "rgb", 1 / 255, (0, 0, 0))


def test_ultralytics_stretches_for_an_oblong_input():
    assert create(Config(), plain(metadata=CLASSIFY), CONF).input_format.fit == "stretch"


def test_one_number_per_label_is_recognised_by_the_shape():
    recognition = recognise(plain())
    assert (recognition.certainty, recognition.settings) == (Certainty.SHAPES, {})


@pytest.mark.parametrize(
    "other",
    [
        spec((1, 7, CELLS)),
        spec((1, 300, 6)),
        spec((8, 3)),
        spec((1, 1)),
        spec((1, 3), metadata=EXPORT),
        made.several({"a": (1, 3), "b": (1, 3, 4), "c": (1,), "d": (1, 3)}),
        replace(spec((1, 3)), inputs=(TensorSpec("numbers", (1, 3), np.dtype(np.float32)),)),
    ],
    ids=["yolo", "end to end", "batch", "one number", "detect", "ssd", "no picture"],
)
def test_other_models_are_left_to_others(other):
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
def test_real_models_that_find_boxes_are_not_claimed(name):
    assert recognise(model_of(name)) is None


def test_a_model_without_labels_is_refused_with_the_words_to_write():
    with pytest.raises(
        ModelError, match=r'model with 3 classes, but the file does not name them; write labels = "FILE"'
    ):
        recognise(plain(labels=()))


@pytest.mark.parametrize("use", [recognise, lambda model: create(Config(), model, CONF)])
def test_labels_that_do_not_fit_the_classes_are_refused_with_both_numbers(use):
    with pytest.raises(ModelError, match=r"there are 2 labels, but the output probs .* has 3 classes"):
        use(plain(labels=("a", "b")))


def test_a_model_that_does_not_say_what_its_input_counts_is_refused_with_the_words_to_write():
    with pytest.raises(ModelError, match=r'kind = "classifier"\ninput = "zero_to_one"     # or "minus_one_to_one"'):
        create(Config(), plain(), CONF)


@pytest.mark.parametrize(
    ("dtype", "quant", "scale", "mean"),
    [
        (np.uint8, Quantisation(1 / 255, 0), 1 / 255, 0),
        (np.int8, Quantisation(0.003921568859368563, -128), 1 / 255, 0),
        (np.uint8, Quantisation(0.0078125, 128), 1 / 127.5, 1),
        (np.int8, Quantisation(0.018658, -14), 1 / 255, 0.485),
        (np.uint8, Quantisation(1.0, 0), 1, 0),
        (np.uint8, None, 1, 0),
    ],
)
def test_an_integer_input_tells_by_its_range_what_it_counts(dtype, quant, scale, mean):
    wanted = create(Config(), with_input(plain(), dtype, quant), CONF).input_format
    assert (wanted.scale, wanted.mean[0]) == (pytest.approx(scale), mean)


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("zero_to_one", [0, 0, 0], [1, 1, 1]),
        ("minus_one_to_one", [-1, -1, -1], [1, 1, 1]),
        ("imagenet", [-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64]),  # as torchvision.transforms.Normalize
        ("pixels", [0, 0, 0], [255, 255, 255]),
    ],
)
def test_black_and_white_are_what_each_word_says(name, black, white):
    wanted = create(Config(input=name), plain(), CONF).input_format
    for pixel, values in ((0, black), (255, white)):
        got = (pixel * wanted.scale - np.array(wanted.mean)) / np.array(wanted.std)
        np.testing.assert_allclose(got, values, atol=1e-4)


@pytest.mark.parametrize("fit", ["centre_crop", "stretch", "letterbox"])
def test_the_fit_may_be_configured(fit):
    assert create(Config(input="imagenet", fit=fit), plain(), CONF).input_format.fit == fit


def test_a_model_with_one_channel_gets_a_grey_picture():
    model = with_input(plain(metadata=CLASSIFY), np.float32, shape=(1, 1, 96, 96))
    assert create(Config(), model, CONF).input_format.channels == "grey"


@pytest.mark.parametrize("shape", [(8, 3), (1, 1), (1, 3, 4)])
def test_shapes_that_are_no_classifier_are_refused(shape):
    with pytest.raises(ModelError, match="one number for each class"):
        create(Config(input="imagenet"), plain(shape), CONF)


def test_logits_that_are_taken_for_probabilities_are_refused_with_the_words_to_write():
    with pytest.raises(ModelError, match=r'should be probabilities, (.|\n)*kind = "classifier"\nscores = "logits"$'):
        create(Config(input="imagenet"), plain(), CONF).check([LOGITS[None]])


def test_probabilities_that_do_not_exclude_each_other_must_be_configured():
    output = np.array([[0.9, 0.8, 0.7]], np.float32)
    with pytest.raises(ModelError, match=r'scores = "logits"     # or "probabilities", if'):
        create(Config(input="imagenet"), plain(), CONF).check([output])
    create(Config(input="imagenet", scores="probabilities"), plain(), CONF).check([output])


def test_probabilities_that_are_taken_for_logits_are_refused():
    with pytest.raises(ModelError, match=r'should be logits, (.|\n)*scores = "probabilities"$'):
        create(Config(input="imagenet", scores="logits"), plain(), CONF).check([SHARES[None]])


@given(st.data(), st.sampled_from(["logits", "probabilities"]), st.sampled_from([np.float32, np.float16]))
def test_no_numbers_whatever_give_a_broken_detection(data, scores, dtype):
    conf = Thresholds(conf=data.draw(st.sampled_from([0.0, 0.25])))
    decoder = create(Config(input="imagenet", scores=scores, top=3), plain(dtype=dtype), conf)
    found = decoder([data.draw(hnp.arrays(dtype, (1, 3)))], SEEN)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes == (0, 0, 320, 180)).all()
