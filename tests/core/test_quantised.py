import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.datatypes import Quantisation, TensorSpec
from edge_agent.core.quantised import comparable, dequantise, floor_of, lie_within, quietly, require_readable, rows_of
from edge_agent.errors import ModelError


def spec(dtype, quant: Quantisation | None = None) -> TensorSpec:
    return TensorSpec("output0", (1, 6, 21), np.dtype(dtype), quant)


@given(st.floats(0, 1), st.sampled_from([np.int8, np.uint8]), st.floats(1e-4, 0.1), st.data())
def test_a_stored_integer_is_above_the_floor_exactly_when_its_real_value_is_above_the_threshold(
    conf, dtype, scale, data
):
    info = np.iinfo(dtype)
    quant = Quantisation(scale, data.draw(st.integers(info.min, info.max)))
    stored = np.arange(info.min, info.max + 1).astype(dtype)
    above = comparable(stored) > floor_of(conf, spec(dtype, quant))
    assert (above == (dequantise(stored, quant) > np.float32(conf))).all()


@given(st.floats(0, 1))
def test_a_half_float_is_above_the_floor_exactly_when_its_value_is_above_the_threshold(conf):
    stored = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16)
    assert ((comparable(stored) > floor_of(conf, spec(np.float16))) == (stored.astype(np.float64) > conf)).all()


def test_negative_half_floats_are_never_above_the_floor():
    stored = -np.linspace(0, 60000, 1000).astype(np.float16)
    assert not (comparable(stored) > floor_of(0.0, spec(np.float16))).any()


@pytest.mark.parametrize(
    ("dtype", "quant"),
    [(np.int8, None), (np.int8, Quantisation(0.0, 0)), (np.int64, Quantisation(1.0, 0)), (np.float64, None)],
)
def test_numbers_that_cannot_be_read_are_refused_in_words(dtype, quant):
    with pytest.raises(ModelError, match=r"caps: the output output0 .* is neither float nor quantised with one scale"):
        require_readable("caps", spec(dtype, quant))


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.integers(0, 1000))
def test_numbers_lie_within_a_limit_where_none_is_beyond_it_and_none_is_nan(numbers, limit):
    assert lie_within(np.array(numbers, np.float32), limit) == all(abs(number) <= limit for number in numbers)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, np.float32(3e38)])
def test_what_is_calculated_from_broken_numbers_warns_nobody(broken):
    numbers = np.array([1, broken], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quietly(numbers):
            assert not np.isfinite(numbers * np.float32(1000) - numbers * np.float32(1000)).all()


def test_sound_numbers_are_not_watched_over():
    before = np.geterr()
    with quietly(np.ones(3, np.float32)):
        assert np.geterr() == before


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32])
def test_rows_are_copies_of_the_cells_in_either_layout_with_half_floats_as_floats(dtype):
    tensor, cells = np.arange(12).reshape(4, 3).astype(dtype), np.array([2, 0])
    by_cell, by_column = rows_of(tensor, cells, channels_first=False), rows_of(tensor.T, cells, channels_first=True)
    assert by_cell.tolist() == by_column.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert by_cell.dtype == by_column.dtype == (np.float32 if dtype == np.float16 else dtype)
    assert not np.shares_memory(by_cell, tensor)
    assert not np.shares_memory(by_column, tensor)
