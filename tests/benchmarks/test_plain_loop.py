"""The plain loop is only worth a comparison where it finds what we find."""

import cv2
import numpy as np
import pytest

from benchmarks.peers import plain_loop, subjects
from benchmarks.peers.subjects import SUBJECTS
from edge_agent.app.engine import open_engine
from edge_agent.app.engine_choice import EngineRequest
from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Thresholds
from tests.fixtures import REPO, SHARED, needs_shared

SIZE = (1280, 720)


def _plain(subject, image):
    engine = plain_loop.open_engine(subject.path, 1)
    blob, scale, corner = plain_loop.prepare(image, engine.size, subject.head)
    engine.feed(blob)
    engine.run()
    return plain_loop.detect(engine.output(), engine.size, subject.head, scale, corner)


def _ours(subject, image):
    request = EngineRequest(subject.path, ("tflite", "onnx"), labels=subject.labels, threads=1, thresholds=Thresholds())
    engine = open_engine(request)
    found, _ = engine.look(image)
    return found


CASES = [pytest.param(name, marks=() if name == "bottles" else needs_shared) for name in SUBJECTS]


@pytest.mark.parametrize("name", CASES)
def test_finds_the_same_as_the_agent(name):
    subject = SUBJECTS[name]
    photo = REPO / "edge_agent/demo_model/golden/line-800000.jpg"
    photo = photo if name == "bottles" else SHARED / "fixtures" / "images" / "bus.jpg"
    image = subjects.filled(cv2.imread(str(photo)), SIZE)
    plain, ours = _plain(subject, image), _ours(subject, image)
    sure = [it for it in plain if it.score > 0.5]
    assert len(sure) >= 2
    for it in sure:
        same = ours.boxes[ours.classes == it.class_id]
        assert max(iou(np.array([it.box], np.float32), same).ravel(), default=0) > 0.9
