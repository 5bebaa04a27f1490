"""What comes with the bundled model says the same as the model itself."""

import hashlib

import pytest

from edge_agent import plugins
from edge_agent.cameras.simulator import LABELS
from edge_agent.models import bare, bundled
from edge_agent.models.labels import read_labels

CARD = (bundled.FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
BOTH = pytest.mark.parametrize("path", [bundled.TFLITE, bundled.ONNX], ids=lambda path: path.suffix)


@BOTH
def test_a_file_is_two_megabytes_at_most(path):
    assert 0 < path.stat().st_size <= 2_000_000


@BOTH
def test_the_card_is_about_this_file(path):
    assert hashlib.sha256(path.read_bytes()).hexdigest() in CARD


@BOTH
def test_the_classes_are_those_that_the_simulated_line_shows(path):
    backend = plugins.load("backends", bare.FORMATS[path.suffix])
    if missing := backend.available():
        pytest.skip(missing)
    opened = backend.create(backend.Config(path=path, threads=1))
    try:
        assert bare.labels_of(bare.normalise(opened.metadata)) == LABELS
    finally:
        opened.close()


def test_the_label_file_has_the_same_classes():
    assert read_labels(bundled.FOLDER / "labels.txt") == LABELS


def test_the_card_gives_a_figure_for_every_class():
    rows = {line.split("|")[1].strip() for line in CARD.splitlines() if line.startswith("| ") and " / " in line}
    assert {"all", *LABELS} <= rows
