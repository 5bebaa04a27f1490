"""The bundled model finds, in pictures that came with it, what it found where it was made."""

import json
from contextlib import closing

import numpy as np
import pytest

from edge_agent import plugins
from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.core.datatypes import Thresholds
from edge_agent.models import bare, bundled

GOLDEN = bundled.FOLDER / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[bundled.TFLITE, bundled.ONNX], ids=lambda path: path.suffix)
def engine(request):
    backend = plugins.load("backends", bare.FORMATS[request.param.suffix])
    if missing := backend.available():
        pytest.skip(missing)
    engine = open_engine(EngineRequest(request.param, (), threads=1, thresholds=Thresholds(conf=EXPECTED["conf"])))
    with closing(engine.backend):
        yield engine


def found_in(engine, name):
    """Label, score and box of each detection."""
    cv2 = pytest.importorskip("cv2")
    found, _ = engine.look(cv2.imread(str(GOLDEN / name)))
    labels = [engine.model.labels[number] for number in found.classes]
    return list(zip(labels, found.scores, found.boxes, strict=True))


@pytest.mark.parametrize("name", EXPECTED["pictures"])
def test_what_was_found_is_found_again(engine, name):
    file = f"{engine.model.name}.{engine.model.format}"
    allowed, left = EXPECTED["tolerances"][file], found_in(engine, name)
    for wanted in EXPECTED["pictures"][name][file]:
        fitting = [
            one
            for one in left
            if one[0] == wanted["label"]
            and abs(one[1] - wanted["score"]) <= allowed["score"]
            and np.abs(one[2] - wanted["box"]).max() <= allowed["box_px"]
        ]
        assert fitting, f"{wanted} is not among {left}"
        left = [one for one in left if one is not fitting[0]]
    assert not left


def test_the_set_has_every_class():
    rows = [row for picture in EXPECTED["pictures"].values() for found in picture.values() for row in found]
    assert {row["label"] for row in rows} == {"bottle", "cap", "label", "label_misaligned", "crack"}


def test_the_pictures_are_those_that_are_expected():
    assert {path.name for path in GOLDEN.glob("*.jpg")} == set(EXPECTED["pictures"])
