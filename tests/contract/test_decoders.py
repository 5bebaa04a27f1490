"""What every decoder promises, on every kind there is. A new kind adds its sample."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from edge_agent import plugins
from edge_agent.core.datatypes import Detections, InputFormat, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from tests.decoders import made
from tests.decoders.made import CELLS, EXPORT, spec

SAMPLES = {
    "classifier": [
        (
            {"input": "zero_to_one"},
            spec((1, 3), names=("image", "probs")),
            [np.array([[0.1, 0.7, 0.2]], np.float32)],
        ),
        (
            {"top": 2},
            spec((1, 3), metadata=EXPORT | {"task": "classify"}),
            [np.array([[0.1, 0.5, 0.4]], np.float32)],
        ),
    ],
    "detr": [
        ({}, spec((1, 300, 6), metadata=EXPORT | {"head": "RTDETRDecoder"}), made.detr_rows()),
        ({}, spec((1, 300, 7), metadata=EXPORT | {"description": "rtdetr-l"}), made.detr_classes()),
        ({}, made.several({"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)}), made.detr_chosen()),
        ({}, made.several({"dets": (1, 300, 4), "labels": (1, 300, 4)}), made.detr_logits(4)),
        ({}, made.several({"logits": (1, 300, 3), "pred_boxes": (1, 300, 4)}), made.detr_logits(3)[::-1]),
    ],
    "ssd": [
        (
            {},
            replace(
                made.several({"a": (1, 3), "b": (1, 3, 4), "c": (1,), "d": (1, 3)}),
                inputs=(TensorSpec("image", (1, made.WH[1], made.WH[0], 3), np.dtype(np.uint8)),),
            ),
            [
                np.array(rows, np.float32)
                for rows in (
                    [[0.9, 0.5, 0.1]],
                    [[[-0.1, 0.1, 0.5, 0.4], [0.2, 0.2, 0.6, 1.1], [0, 0, 1, 1]]],
                    [3],
                    [[2, 0, 1]],
                )
            ],
        )
    ],
    "yolo": [
        (
            {"head": "dense", "boxes": "pixels", "layout": "channels_first"},
            spec((1, 7, CELLS)),
            made.stored(made.dense_rows(fractions=False), np.float32, channels_first=True),
        ),
        (
            {"head": "end2end", "boxes": "pixels"},
            spec((1, 300, 6)),
            [np.tile(np.array([10, 30, 50, 60, 0.9, 1], np.float32), (1, 300, 1))],
        ),
        *(
            ({}, made.of_task(task, metadata=made.export_for(task)), made.task_outputs(task))
            for task in ("segment", "pose", "obb")
        ),
    ],
    "yolov5": [
        (
            {},
            spec((1, 3 * CELLS, 8), metadata={"stride": 32, "names": dict(enumerate(made.LABELS))}),
            [made.yolov5_rows(fractions=False)[None]],
        )
    ],
    "yolox": [
        (
            {},
            spec((1, CELLS, 8), names=("images", "output")),
            made.stored(made.yolox_rows(decoded=False), np.float32, channels_first=False),
        )
    ],
}
"""Of each kind: its settings, a model, and outputs with something to find."""


def samples():
    return [pytest.param((kind, *sample), id=kind) for kind in plugins.kinds("decoders") for sample in SAMPLES[kind]]


@pytest.fixture(params=samples())
def sample(request):
    kind, settings, model, outputs = request.param
    module = plugins.load("decoders", kind)
    decoder = module.create(module.Config(**settings), model, Thresholds())
    return decoder, outputs, Letterbox.fit((320, 180), made.WH, decoder.input_format.fit)


def same(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.boxes, b.boxes), (a.scores, b.scores), (a.classes, b.classes)))


@pytest.mark.parametrize("kind", plugins.kinds("decoders"))
def test_the_settings_of_a_kind_are_frozen_documented_and_named_after_the_file(kind):
    config = plugins.load("decoders", kind).Config
    assert issubclass(config, BaseModel)
    assert config.__doc__
    assert all(field.description for field in config.model_fields.values())
    assert config().kind == kind
    with pytest.raises(ValidationError):
        config(nonsense=1)
    with pytest.raises(ValidationError):
        config().kind = "other"


@pytest.mark.parametrize("kind", plugins.kinds("decoders"))
def test_no_kind_claims_the_sample_of_another_more_surely_than_its_own(kind):
    for _, model, _ in SAMPLES[kind]:
        own = plugins.load("decoders", kind)
        claims = {}
        for other in plugins.kinds("decoders"):
            try:
                claims[other] = plugins.load("decoders", other).recognise(model)
            except ValueError:
                claims[other] = None
        rivals = [claim.certainty for other, claim in claims.items() if claim and other != kind]
        assert not rivals or claims[kind].certainty > max(rivals)
        assert claims[kind] is None or own.Config(**claims[kind].settings)


def test_it_says_how_the_model_wants_its_picture(sample):
    assert isinstance(sample[0].input_format, InputFormat)


def test_it_names_every_class_it_finds(sample):
    decoder, outputs, letterbox = sample
    found = decoder(outputs, letterbox)
    assert len(found) > 0
    assert all(decoder.labels[number] for number in found.classes)


def test_detections_are_inside_the_frame_best_first_and_of_the_promised_types(sample):
    decoder, outputs, letterbox = sample
    found = decoder(outputs, letterbox)
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int32)
    assert ((found.boxes >= 0) & (found.boxes <= (320, 180, 320, 180))).all()
    assert (np.diff(found.scores) <= 0).all()


def test_the_same_outputs_give_the_same_detections_and_are_left_as_they_are(sample):
    decoder, outputs, letterbox = sample
    before = [output.copy() for output in outputs]
    assert same(decoder(outputs, letterbox), decoder(outputs, letterbox))
    assert all(np.array_equal(a, b) for a, b in zip(before, outputs, strict=True))


def test_detections_do_not_change_when_the_engine_overwrites_its_outputs(sample):
    decoder, outputs, letterbox = sample
    mine = [output.copy() for output in outputs]
    found, again = decoder(mine, letterbox), decoder(outputs, letterbox)
    for output in mine:
        output[:] = 0
    assert same(found, again)


def test_read_only_outputs_will_do(sample):
    decoder, outputs, letterbox = sample
    mine = [output.copy() for output in outputs]
    for output in mine:
        output.flags.writeable = False
    assert same(decoder(mine, letterbox), decoder(outputs, letterbox))


def test_nothing_in_the_outputs_gives_no_detections(sample):
    decoder, outputs, letterbox = sample
    assert same(decoder([np.zeros_like(output) for output in outputs], letterbox), Detections.empty())


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_outputs_of_broken_numbers_alone_give_no_detections(sample, broken):
    decoder, outputs, letterbox = sample
    floats = (output.dtype.kind == "f" for output in outputs)
    damaged = [np.full_like(out, broken) if real else out for out, real in zip(outputs, floats, strict=True)]
    assert len(decoder(damaged, letterbox)) == 0


def test_the_check_after_the_warm_up_run_accepts_outputs_as_configured(sample):
    decoder, outputs, _ = sample
    decoder.check(outputs)
