"""Compares detections with the fixtures' expectations, within the tolerance the file gives for the model."""

import json

import numpy as np

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Detections
from tests.fixtures import SHARED

CONF = 0.25  # what the expectations were made with


def pictures(file: str) -> list[tuple[str, str]]:
    """Model and picture of each expectation; none where the fixtures are not here."""
    path = SHARED / "fixtures" / file
    if not path.exists():
        return []
    return [(model, picture) for model, of in json.loads(path.read_text())["expected"].items() for picture in of]


def assert_as_expected(file: str, model: str, picture: str, found: Detections) -> None:
    everything = json.loads((SHARED / "fixtures" / file).read_text())
    tolerance = everything["tolerance"][model]
    rows = everything["expected"][model][picture]["detections"]
    expected = Detections(
        np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        np.array([row["score"] for row in rows], np.float32),
        np.array([row["class_id"] for row in rows], np.int32),
    )
    _assert_all_in(expected, found, tolerance, CONF + tolerance["score"], "was not found")
    _assert_all_in(found, expected, tolerance, tolerance["extra_above"], "was not expected")


def _assert_all_in(
    these: Detections, those: Detections, tolerance: dict[str, float], above: float, complaint: str
) -> None:
    """Each of `these` with a score above has its like in `those`."""
    alike = (
        (iou(these.boxes, those.boxes) >= tolerance["iou"])
        & (these.classes[:, None] == those.classes[None])
        & (np.abs(these.scores[:, None] - those.scores[None]) <= tolerance["score"])
    )
    for i in np.flatnonzero(these.scores > above):
        assert alike[i].any(), f"class {these.classes[i]} {these.scores[i]:.3f} {these.boxes[i]} {complaint}"
