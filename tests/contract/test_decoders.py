"""What every decoder promises, on every kind there is. A new kind adds its sample."""

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from edge_agent import plugins
from edge_agent.core.datatypes import Detections, InputFormat, Thresholds
from edge_agent.core.letterbox import Letterbox
from tests.decoders import made
from tests.decoders.made import CELLS, spec

SAMPLES = {
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
    assert len(decoder([np.full_like(output, broken) for output in outputs], letterbox)) == 0


def test_the_check_after_the_warm_up_run_accepts_outputs_as_configured(sample):
    decoder, outputs, _ = sample
    decoder.check(outputs)
