"""What the board, the model and the view add to a camera's own table."""

import cv2
import numpy as np
import pytest

from edge_agent.app.cameras import camera_opener
from edge_agent.app.snapshot import take
from edge_agent.config import load
from edge_agent.core.datatypes import InputFormat, ModelSpec, TensorSpec
from edge_agent.hardware import probe
from edge_agent.hardware.profile import choose, load_all
from edge_agent.runtime.engine import Engine
from tests.cameras.picamera2s import standing_in
from tests.fixtures import REPO

EXAMPLE = REPO / "examples" / "raspberry-pi-camera.toml"


@pytest.fixture
def library():
    with standing_in() as stand_in:
        yield stand_in


def pi_choice():
    return choose(probe.detect(), load_all(), "raspberry-pi-5")


def table(**changes):
    return load(EXAMPLE).config.cameras[0].model_copy(update={"rotation": 0, "roi": None} | changes)


class Looks:
    """As much of a decoder as says how its model wants the picture."""

    def __init__(self, fit):
        self.input_format = InputFormat(fit=fit)


def engine(width, height, fit="letterbox"):
    """An engine that nobody runs."""
    picture = TensorSpec("images", (1, height, width, 3), np.dtype(np.uint8))
    model = ModelSpec("caps", "", "tflite", (picture,), ())
    return Engine(None, None, Looks(fit), model, "tflite", "yolo", "")


@pytest.mark.parametrize(
    ("changes", "opened", "size"),
    [
        ({}, engine(640, 640), (640, 360)),
        ({}, engine(320, 320), (320, 180)),
        ({}, engine(320, 320, "stretch"), (568, 320)),
        ({}, engine(224, 224, "centre_crop"), (398, 224)),
        ({}, None, (1280, 720)),
        ({"width": 800, "height": 600}, engine(640, 640), (800, 600)),
        ({"rotation": 90}, engine(640, 640), (360, 640)),
        ({"roi": ((0.5, 0.0), (1.0, 1.0))}, engine(640, 640), (569, 640)),
    ],
)
def test_the_model_gets_its_size_from_the_camera(library, changes, opened, size):
    camera = camera_opener(table(**changes), pi_choice(), lambda: opened)()
    assert camera.read(5).size == size
    camera.close()


def test_what_the_camera_tells_is_told_through_the_view(library):
    camera = camera_opener(table(rotation=180, gain=40.0), pi_choice())()
    assert camera.refused == {"gain": (40.0, 16.0)}
    frame = camera.read(5)
    camera.close()
    assert (frame.image == (0, 255, 100)).all()


def test_a_snapshot_is_turned_and_cut_as_the_line_will_see_it(tmp_path):
    config = load(REPO / "examples" / "photos.toml").config
    photo = cv2.imread(str(min((REPO / "examples" / "photos").glob("*.jpg"))))
    camera = config.cameras[0].model_copy(update={"rotation": 90, "roi": ((0.0, 0.5), (1.0, 1.0))})
    height, width = photo.shape[:2]
    size = take(config, camera, tmp_path / "out.png", annotate=False)
    assert size == (height, width - round(width / 2))
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png")), np.rot90(photo, -1)[round(width / 2) :])
