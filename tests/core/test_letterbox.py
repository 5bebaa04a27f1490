import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.letterbox import Letterbox

FITS = ("letterbox", "letterbox_top_left", "stretch")
sides = st.integers(1, 4096)
model_sides = st.integers(1, 40).map(lambda n: n * 32)


@st.composite
def letterboxes(draw, side=sides):
    return Letterbox.fit((draw(side), draw(side)), (draw(model_sides), draw(model_sides)), draw(st.sampled_from(FITS)))


@st.composite
def boxes_in(draw, width: int, height: int):
    edges = [draw(st.floats(0, limit, width=32)) for limit in (width, height, width, height)]
    return np.array([edges], np.float32)


@given(st.data(), letterboxes())
def test_a_box_comes_back_from_the_model_input_to_half_a_pixel(data, letterbox):
    boxes = data.draw(boxes_in(letterbox.frame_w, letterbox.frame_h))
    assert np.abs(letterbox.to_frame(letterbox.to_model(boxes)) - boxes).max() < 0.5


@given(st.data(), letterboxes())
def test_a_box_comes_back_from_the_frame_to_half_a_pixel(data, letterbox):
    pad = np.array([letterbox.pad_left, letterbox.pad_top] * 2, np.float32)
    boxes = data.draw(boxes_in(letterbox.inner_w, letterbox.inner_h)) + pad
    assert np.abs(letterbox.to_model(letterbox.to_frame(boxes)) - boxes).max() < 0.5


@given(st.tuples(sides, sides), st.tuples(model_sides, model_sides))
def test_a_centre_crop_cuts_as_much_on_both_sides_and_fills_the_input(frame, model):
    letterbox = Letterbox.fit(frame, model, "centre_crop")
    right = letterbox.frame_w - letterbox.crop_w - letterbox.crop_left
    below = letterbox.frame_h - letterbox.crop_h - letterbox.crop_top
    assert right - letterbox.crop_left in (0, 1)
    assert below - letterbox.crop_top in (0, 1)
    assert (letterbox.inner_w, letterbox.inner_h, letterbox.pad_left, letterbox.pad_top) == (*model, 0, 0)
    assert letterbox.crop_w == letterbox.frame_w or letterbox.crop_h == letterbox.frame_h


@given(st.data(), st.tuples(sides, sides), st.tuples(model_sides, model_sides))
def test_a_box_of_a_centre_crop_comes_back_from_the_frame_to_half_a_pixel(data, frame, model):
    letterbox = Letterbox.fit(frame, model, "centre_crop")
    boxes = data.draw(boxes_in(*model))
    assert np.abs(letterbox.to_model(letterbox.to_frame(boxes)) - boxes).max() < 0.5


@given(st.tuples(sides, sides), st.tuples(model_sides, model_sides))
def test_the_corners_of_a_centre_crop_are_those_of_the_input(frame, model):
    letterbox = Letterbox.fit(frame, model, "centre_crop")
    left, top = letterbox.crop_left, letterbox.crop_top
    crop = np.array([[left, top, left + letterbox.crop_w, top + letterbox.crop_h]], np.float32)
    np.testing.assert_allclose(letterbox.to_frame(np.array([[0, 0, *model]], np.float32)), crop, atol=0.01)


@given(letterboxes())
def test_the_whole_frame_lies_inside_the_model_input_where_the_padding_says(letterbox):
    frame = np.array([[0, 0, letterbox.frame_w, letterbox.frame_h]], np.float32)
    left, top, right, bottom = letterbox.to_model(frame)[0]
    assert (left, top) == (letterbox.pad_left, letterbox.pad_top)
    np.testing.assert_allclose((right - left, bottom - top), (letterbox.inner_w, letterbox.inner_h), rtol=1e-5)
    assert right <= letterbox.model_w + 0.01
    assert bottom <= letterbox.model_h + 0.01


@given(st.tuples(sides, sides), st.tuples(model_sides, model_sides))
def test_padding_is_even_on_both_sides_and_the_odd_pixel_is_right_and_below(frame, model):
    letterbox = Letterbox.fit(frame, model)
    right = letterbox.model_w - letterbox.inner_w - letterbox.pad_left
    below = letterbox.model_h - letterbox.inner_h - letterbox.pad_top
    assert right - letterbox.pad_left in (0, 1)
    assert below - letterbox.pad_top in (0, 1)


@settings(max_examples=40)
@given(letterboxes(side=st.integers(8, 400)))
def test_boxes_follow_the_pixels_that_opencv_moves(letterbox):
    """In a picture whose value is each pixel's own centre, the resized picture says where its pixels come from."""
    columns = np.tile(np.arange(letterbox.frame_w, dtype=np.float32) + 0.5, (letterbox.frame_h, 1))
    resized = cv2.resize(columns, (letterbox.inner_w, letterbox.inner_h), interpolation=cv2.INTER_LINEAR)
    centres = letterbox.pad_left + np.arange(letterbox.inner_w, dtype=np.float32) + 0.5
    zero = np.zeros_like(centres)
    mapped = letterbox.to_frame(np.stack([centres, zero, centres, zero], axis=1))[:, 0]
    edged = np.clip(mapped, 0.5, letterbox.frame_w - 0.5)  # outside the outermost centres, OpenCV repeats them
    np.testing.assert_allclose(resized[0], edged, atol=0.02)


@pytest.mark.parametrize(
    ("fit", "inner_wh", "pad"),
    [("letterbox", (640, 360), (0, 140)), ("letterbox_top_left", (640, 360), (0, 0)), ("stretch", (640, 640), (0, 0))],
)
def test_a_720p_frame_in_a_square_input_is_where_each_convention_puts_it(fit, inner_wh, pad):
    letterbox = Letterbox.fit((1280, 720), (640, 640), fit)
    assert (letterbox.inner_w, letterbox.inner_h) == inner_wh
    assert (letterbox.pad_left, letterbox.pad_top) == pad


def test_a_720p_frame_loses_its_sides_in_a_centre_crop():
    letterbox = Letterbox.fit((1280, 720), (224, 224), "centre_crop")
    assert (letterbox.crop_left, letterbox.crop_top, letterbox.crop_w, letterbox.crop_h) == (280, 0, 720, 720)
    assert letterbox.to_frame(np.array([[0, 0, 224, 112]], np.float32)).tolist() == [[280, 0, 1000, 360]]


def test_boxes_outside_the_frame_are_cut_to_it():
    letterbox = Letterbox.fit((1280, 720), (640, 640))
    boxes = np.array([[-50, 0, 9999, 640]], np.float32)
    assert letterbox.to_frame(boxes).tolist() == [[0, 0, 1280, 720]]


def test_fractions_of_the_model_input_become_its_pixels():
    letterbox = Letterbox.fit((1280, 720), (640, 384))
    assert (np.float32([0.5, 0.25, 1, 1]) * letterbox.model_whwh).tolist() == [320, 96, 640, 384]
