import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.datatypes import Frame, Later
from edge_agent.core.pool import Pool
from edge_agent.errors import BadFrameError, ConfigError
from edge_agent.runtime.view import View, ViewedCamera

QUARTERS = [0, 90, 180, 270]


def picture(width=40, height=30):
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    pixels.flags.writeable = False
    return pixels


def pixels_of(seen):
    return seen.image if isinstance(seen, Later) else seen


def plain(image, rotation, roi):
    """Turned as a whole, then cut."""
    turned = np.rot90(image, -(rotation // 90))
    height, width = turned.shape[:2]
    (x0, y0), (x1, y1) = roi
    return turned[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]


@st.composite
def regions(draw):
    (x0, x1), (y0, y1) = (
        sorted(draw(st.tuples(*[st.integers(0, 40)] * 2).filter(lambda p: p[0] != p[1]))) for _ in "xy"
    )
    return (x0 / 40, y0 / 40), (x1 / 40, y1 / 40)


@given(st.sampled_from(QUARTERS), regions(), st.integers(40, 90), st.integers(40, 90), st.booleans())
def test_what_is_seen_is_the_picture_turned_and_then_cut(rotation, roi, width, height, later):
    image = picture(width, height)
    seen = View(rotation, roi).of(Later(lambda: image, (width, height)) if later else image, Pool())
    expected = plain(image, rotation, roi)
    assert np.array_equal(pixels_of(seen), expected)
    assert View(rotation, roi).size((width, height)) == (expected.shape[1], expected.shape[0])


@given(st.sampled_from(QUARTERS), regions())
def test_nobody_can_write_on_what_is_seen(rotation, roi):
    assert not pixels_of(View(rotation, roi).of(picture(40, 40), Pool())).flags.writeable


def test_a_picture_of_another_type_never_shows_the_one_before():
    pool, view = Pool(), View(90, None)
    pixels_of(view.of(picture(), pool))
    assert (pixels_of(view.of(np.full((30, 40, 3), 1000, np.uint16), pool)) == 1000).all()


def test_a_region_that_is_not_turned_is_the_same_memory():
    image = picture()
    seen = View(0, ((0.25, 0.0), (0.75, 0.5))).of(image, Pool())
    assert np.shares_memory(seen, image)


@pytest.mark.parametrize("rotation", QUARTERS)
def test_a_compressed_picture_is_not_made_before_somebody_looks_and_then_once(rotation):
    made = []

    def make():
        made.append(1)
        return picture()

    frame = Frame(View(rotation, ((0.0, 0.0), (0.5, 1.0))).of(Later(make, (40, 30)), Pool()), 0, 0)
    assert frame.size == {0: (20, 30), 180: (20, 30)}.get(rotation, (15, 40))
    assert made == []
    assert frame.image is frame.image
    assert frame.size == (frame.image.shape[1], frame.image.shape[0])
    assert made == [1]


def test_a_picture_is_turned_only_when_somebody_looks():
    image = picture()
    seen = View(90).of(image, Pool())
    assert isinstance(seen, Later)
    assert seen.image is seen.image


def test_a_picture_that_cannot_be_read_says_so_when_it_is_looked_at():
    def make():
        raise BadFrameError("no picture")

    seen = View(90).of(Later(make, (40, 30)), Pool())
    with pytest.raises(BadFrameError):
        _ = seen.image


@pytest.mark.parametrize("later", [False, True])
def test_a_region_without_a_pixel_is_an_error_with_its_size(later):
    image = picture()
    with pytest.raises(ConfigError, match="holds no pixel of a picture of 40x30"):
        View(0, ((0.5, 0.0), (0.501, 1.0))).of(Later(lambda: image, (40, 30)) if later else image, Pool())


@pytest.mark.parametrize(("view", "whole"), [(View(), True), (View(0, ((0, 0), (1, 1))), True), (View(180), False)])
def test_a_view_of_everything_is_known_as_such(view, whole):
    assert view.is_whole == whole


@pytest.mark.parametrize(
    ("view", "box", "fill", "size"),
    [
        (View(), (640, 640), False, (640, 360)),
        (View(), (640, 640), True, (1138, 640)),
        (View(90), (640, 640), False, (640, 360)),
        (View(90), (320, 640), False, (569, 320)),
        (View(0, ((0.25, 0.0), (0.75, 1.0))), (640, 640), False, (1138, 640)),
        (View(90, ((0.0, 0.0), (1.0, 0.5))), (640, 640), False, (1138, 640)),
        (View(), (9000, 9000), False, (4608, 2592)),
    ],
)
def test_a_camera_is_asked_for_the_size_at_which_what_is_seen_fits(view, box, fill, size):
    assert view.size_to_give((4608, 2592), box, fill=fill) == size
    if box[0] < 4608 and not fill:
        seen = view.size(size)
        assert min(abs(box[0] - seen[0]), abs(box[1] - seen[1])) <= 1


class OneFrame:
    """A camera with something to tell besides."""

    skipped = 3

    def __init__(self):
        self.closed = threading.Event()

    def read(self, timeout_s):
        return Frame(picture(), 5, 17, "x.png")

    def close(self):
        self.closed.set()


def test_a_viewed_camera_changes_the_picture_and_nothing_else():
    camera = ViewedCamera(OneFrame(), View(270))
    frame = camera.read(1)
    assert (frame.seq, frame.captured_ns, frame.source, frame.size) == (5, 17, "x.png", (30, 40))
    assert np.array_equal(frame.image, np.rot90(picture()))


def test_what_else_a_camera_offers_is_still_there():
    camera = ViewedCamera(OneFrame(), View(90))
    assert camera.skipped == 3
    assert getattr(camera, "given", None) is None
    camera.close()
    assert camera.closed.is_set()
