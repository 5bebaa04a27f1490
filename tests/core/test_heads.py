import numpy as np
import pytest

from edge_agent.core.datatypes import TensorSpec
from edge_agent.core.heads import cells, corners_and_strides, input_wh, is_planar, layouts, picture_of, refuse_state
from edge_agent.errors import ModelError


def tensor(*shape: int) -> TensorSpec:
    return TensorSpec("t", shape, np.dtype(np.float32))


@pytest.mark.parametrize(("side", "count"), [(640, 8400), (416, 3549), (320, 2100), (224, 1029)])
def test_square_inputs_have_the_known_number_of_cells(side, count):
    assert cells((side, side)) == count


def test_an_input_knows_its_size_in_either_order_of_dimensions():
    assert input_wh(tensor(1, 3, 384, 640)) == input_wh(tensor(1, 384, 640, 3)) == (640, 384)
    assert is_planar(tensor(1, 3, 384, 640))
    assert is_planar(tensor(1, 384, 640, 3)) is False


@pytest.mark.parametrize("shape", [(1, 3, -1, -1), (1, 100), (1, 7, 64, 9)])
def test_a_size_that_is_not_fixed_or_not_a_picture_is_unknown(shape):
    assert input_wh(tensor(*shape)) is None


def test_cells_run_from_fine_to_coarse_and_row_by_row():
    corners, strides = corners_and_strides((64, 32))
    assert len(corners) == len(strides) == cells((64, 32))
    assert corners[:9].tolist() == [[x, 0] for x in range(8)] + [[0, 1]]
    assert (corners[-1].tolist(), strides[-1].tolist()) == ([1, 0], [32])


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 84, 8400), ["channels_first"]),
        ((1, 8400, 84), ["anchors_first"]),
        ((1, 84, -1), ["channels_first"]),
        ((1, 25200, 85), []),
        ((1, 300, 6), []),
    ],
)
def test_the_layout_is_told_by_which_dimension_counts_the_cells(shape, wanted):
    assert layouts(tensor(1, 3, 640, 640), tensor(*shape)) == wanted


def named(name: str, *shape: int, dtype=np.float32) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype))


PICTURE = named("images", 1, 3, 96, 160)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [named("orig_target_sizes", 1, 2, dtype=np.int64)],
        [named("mask", 1, 1, 96, 160)],
        [named("dets", 1, 1, 300, 4), named("level")],
        [named("features", 1, 64, 20, 20)],
    ],
)
def test_the_picture_is_the_one_input_with_its_form(others):
    assert picture_of([*others, PICTURE]) is PICTURE
    assert picture_of([PICTURE, *others]) is PICTURE


def test_a_grey_picture_is_one_too():
    grey = named("x", 1, 96, 160, 1)
    assert picture_of([named("sizes", 1, 2), grey]) is grey


@pytest.mark.parametrize("inputs", [[], [named("audio", 1, 512)], [PICTURE, named("before", 1, 3, 96, 160)]])
def test_no_picture_or_two_are_none(inputs):
    assert picture_of(inputs) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("state", "stateN"),
        ("h", "hn"),
        ("h0", "hn"),
        ("past_key", "present_key"),
        ("in_state", "out_state"),
        ("hidden_in", "hidden_out"),
        ("memory", "memory_next"),
    ],
)
def test_an_input_named_after_an_output_is_a_state(before, after):
    inputs, outputs = [PICTURE, named(before, 2, -1, 128)], [named("boxes", 1, 300, 4), named(after, 2, -1, -1)]
    with pytest.raises(ModelError, match=rf"caps: it carries a state .* {after} .* {before} of the next run"):
        refuse_state("caps", inputs, outputs)


def test_an_input_of_floats_with_the_form_of_an_output_is_a_state():
    with pytest.raises(ModelError, match=r"output b .* input a of the next run"):
        refuse_state("caps", [named("a", 1, 64, 20, 20), PICTURE], [named("b", 1, 64, 20, 20)])


@pytest.mark.parametrize(
    "inputs",
    [
        [PICTURE],
        [PICTURE, named("orig_target_sizes", 1, 2, dtype=np.int64)],
        [PICTURE, named("level", 1)],
        [named("x", 1, 32, 32, 3)],
    ],
)
def test_models_without_a_state_pass(inputs):
    outputs = [named("same", 1, 3, 96, 160), named("count", 1), named("labels", 1, 2, dtype=np.int64)]
    refuse_state("caps", inputs, outputs)
