import numpy as np
import pytest

from edge_agent.core.datatypes import Quantisation, TensorSpec
from edge_agent.core.pixels import FORMATS, range_of


def image(dtype, quant=None) -> TensorSpec:
    return TensorSpec("image", (1, 224, 224, 3), np.dtype(dtype), quant)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "wanted"),
    [
        (np.uint8, 1 / 255, 0, "zero_to_one"),
        (np.int8, 1 / 255, -128, "zero_to_one"),
        (np.uint8, 0.0078125, 128, "minus_one_to_one"),
        (np.int8, 0.00787402, -1, "minus_one_to_one"),
        (np.uint8, 0.018658, 114, "imagenet"),
        (np.int8, 1.0, -128, "pixels"),
        (np.uint8, 0.05, 0, None),
    ],
)
def test_a_quantised_input_tells_what_it_counts(dtype, scale, zero_point, wanted):
    assert range_of(image(dtype, Quantisation(scale, zero_point))) == wanted


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_input_without_quantisation_tells_nothing(dtype):
    assert range_of(image(dtype)) is None


@pytest.mark.parametrize(
    ("name", "black", "white"), [("zero_to_one", 0, 1), ("minus_one_to_one", -1, 1), ("pixels", 0, 255)]
)
def test_black_and_white_become_the_ends_of_the_range(name, black, white):
    fmt = FORMATS[name]
    ends = (np.array([[0], [255]]) * fmt.scale - fmt.mean) / fmt.std
    np.testing.assert_allclose(ends, [[black] * 3, [white] * 3], atol=1e-12)
