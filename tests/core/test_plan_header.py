import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.plan_header import JSON_MOST, make, split

PLAN = b"ftrt\x00\x00\x00\x00a plan of TensorRT's"
texts = st.text(max_size=20)
values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3))


@given(st.dictionaries(texts, values, max_size=5))
def test_what_was_made_is_split_off_again(metadata):
    header = make(metadata)
    assert split(header + PLAN) == (metadata, len(header))


def test_ultralytics_files_are_read():
    meta = json.dumps({"names": {"0": "cap"}, "imgsz": [640, 640]})
    data = len(meta).to_bytes(4, byteorder="little", signed=True) + meta.encode() + PLAN
    assert split(data) == ({"names": {"0": "cap"}, "imgsz": [640, 640]}, 4 + len(meta))


def test_a_memoryview_is_as_good():
    header = make({"task": "detect"})
    assert split(memoryview(header + PLAN)) == ({"task": "detect"}, len(header))


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02\0\0\0", PLAN, b"ptrt\0\0", b"\x02\0\0\0ab", bytes(64)])
def test_what_does_not_begin_with_a_header_is_a_plan(data):
    assert split(data) == ({}, 0)


def test_a_length_beyond_the_limit_is_none():
    assert split((JSON_MOST + 1).to_bytes(4, "little") + b"{" + PLAN) == ({}, 0)


def test_a_header_that_is_cut_off_is_told():
    with pytest.raises(ValueError, match="says that it has 18 bytes, but only 9 are there"):
        split(make({"task": "detect"})[:13])


@pytest.mark.parametrize("text", [b'{"task": detect}', b'{"\xff": 1}', b'{"a":' * 100_000])
def test_a_header_that_is_no_json_is_told(text):
    with pytest.raises(ValueError, match="its header is not JSON"):
        split(len(text).to_bytes(4, "little") + text)


def test_metadata_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="is the most"):
        make({"names": "x" * JSON_MOST})
