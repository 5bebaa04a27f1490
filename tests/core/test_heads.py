import numpy as np
import pytest

from edge_agent.core.datatypes import TensorSpec
from edge_agent.core.heads import cells, corners_and_strides, input_wh, is_planar, layouts


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
