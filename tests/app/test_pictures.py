import numpy as np
import pytest

from edge_agent.app.pictures import Artist, caps_of
from edge_agent.config import load
from edge_agent.core.parts import Decision, Part, Reason
from edge_agent.runtime.album import Caps
from edge_agent.runtime.forms import Sent
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire import messages as wire
from tests.builders import make_box, make_detections
from tests.fixtures import REPO
from tests.runtime.stations import TOPICS, make_identity, make_model

LINE = REPO / "examples" / "usb-camera-line.toml"
CRACKED = Decision("reject", (Reason(rule="defect", label="crack", score=0.93),))
RED = (0, 0, 255)


@pytest.fixture
def artist():
    scribe = Scribe(make_identity("top"), TOPICS)
    engine = wire.Engine(backend="recorded", runtime="a recording", decoder="yolo", reason="a test")
    scribe.introduce(engine, make_model())
    return Artist(scribe, load(LINE).config)


def sent(camera="top", decision=CRACKED):
    return Sent(Part(camera, 7, 1, 2, 3), decision, 7, True, 1, wire.Latency(total=1.0))


def blank(width=640, height=360):
    return np.zeros((height, width, 3), np.uint8)


def has(picture, colour):
    return bool((picture == colour).all(axis=2).any())


def test_a_picture_shows_boxes_and_the_line_and_is_a_copy(artist):
    image = blank()
    picture = artist.draw(image, make_detections((1, 0.9, make_box(100, 100, 40, 40))), sent())
    assert has(picture[:360], RED)
    assert picture[100, 80].any()
    assert not image.any()


def test_a_camera_without_a_line_shows_none(artist):
    assert not has(artist.draw(blank(), make_detections(), sent("side")), RED)


@pytest.mark.parametrize("width", [64, 640, 4000])
def test_what_was_made_of_it_stands_below_and_fits(artist, width):
    many = Decision("unknown", 4 * (Reason(rule="defect", label="label_misaligned", score=0.41),))
    picture = artist.draw(blank(width, 50), make_detections(), sent("side", many))
    strip = picture[50:]
    assert picture.shape[1] == width
    assert strip.any()
    assert not strip[:, -3:].any()


def test_the_words_name_the_part_the_verdict_each_reason_and_when(artist):
    words = artist._caption(sent(decision=Decision("unknown", (*CRACKED.reasons, Reason(code="low_confidence")))))
    assert words.startswith("top-7  unknown: defect crack 0.93; low_confidence  2")
    assert words.endswith("Z")


def test_pictures_leave_the_records_their_room_on_the_disk():
    config = load(LINE).config
    assert caps_of(config) == Caps(200, 100, 30, min_free_mb=config.records.min_free_mb)
