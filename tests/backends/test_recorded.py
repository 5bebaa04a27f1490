import threading
import time

import numpy as np
import pytest

from edge_agent.backends import recorded
from edge_agent.core.datatypes import Quantisation, TensorSpec
from edge_agent.errors import ModelError

INPUT = TensorSpec("images", (1, 8, 8, 3), np.dtype(np.int8), Quantisation(0.5, -3))


def calls(*values):
    return [[np.full((1, 2), value, np.float32)] for value in values]


def saved(tmp_path, outputs=None, metadata=None, **options):
    path = tmp_path / "recording.npz"
    recorded.save(path, [INPUT], outputs or calls(1), metadata or {}, **options)
    return path


def opened(path):
    return recorded.create(recorded.Config(path=path))


def test_the_calls_come_in_turn_again_and_again(tmp_path):
    backend = opened(saved(tmp_path, calls(1, 2, 3)))
    assert [int(backend.infer()[0][0, 0]) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_specs_and_metadata_come_back_as_they_were_saved(tmp_path):
    outputs = [TensorSpec("boxes", (1, -1), np.dtype(np.float32), Quantisation(0.25, 7))]
    metadata = {"task": "detect", "names": {"0": "cap"}}
    backend = opened(saved(tmp_path, metadata=metadata, outputs=calls(1, 2)))
    assert backend.inputs[0].spec == INPUT
    assert backend.metadata == metadata
    path = tmp_path / "named.npz"
    recorded.save(path, [INPUT], calls(1), {}, outputs=outputs)
    assert list(opened(path).outputs) == outputs


def test_outputs_without_a_name_get_one_and_minus_one_where_sizes_differ(tmp_path):
    two = [[np.zeros((1, n, 6), np.float16), np.zeros(3, np.int64)] for n in (4, 5)]
    assert [str(spec) for spec in opened(saved(tmp_path, two)).outputs] == [
        "output0 [1, -1, 6] float16",
        "output1 [3] int64",
    ]


def test_each_call_takes_the_latency(tmp_path):
    backend = opened(saved(tmp_path, latency_ms=30))
    begin = time.monotonic()
    backend.infer()
    assert time.monotonic() - begin >= 0.03


def test_a_hang_for_a_time_ends_by_itself_and_starts_with_the_call_that_was_said(tmp_path):
    backend = opened(saved(tmp_path, hang_after=3, hang_s=0.1))
    took_s = []
    for _ in range(3):
        begin = time.monotonic()
        backend.infer()
        took_s.append(time.monotonic() - begin)
    assert took_s[2] >= 0.1 > min(took_s[:2])


def test_a_hang_for_ever_ends_when_another_thread_closes(tmp_path):
    backend = opened(saved(tmp_path, hang_after=1))
    results = []
    caller = threading.Thread(target=lambda: results.append(backend.infer()), daemon=True)
    caller.start()
    caller.join(0.1)
    assert caller.is_alive()
    backend.close()
    caller.join(20)
    assert not caller.is_alive()
    assert results[0][0].tolist() == [[1, 1]]


def test_pickled_arrays_are_refused(tmp_path):
    path = saved(tmp_path)
    with np.load(path) as stored:
        header = stored["header"]
    with path.open("wb") as file:
        np.savez(file, header=header, **{"0/0": np.array([{}], dtype=object)})
    with pytest.raises(ModelError, match="not a recording"):
        opened(path)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "header"),
        ({"header": np.frombuffer(b"{}", np.uint8)}, "inputs: Field required"),
        ({"header": np.frombuffer(b"nonsense", np.uint8)}, "Invalid JSON"),
        ({"header": np.frombuffer(b'{"inputs":[],"outputs":[],"calls":1,"x":1}', np.uint8)}, "x: Extra inputs"),
        ({"header": np.frombuffer(b'{"inputs":[],"outputs":[],"calls":0}', np.uint8)}, "calls"),
        (
            {
                "header": np.frombuffer(
                    b'{"inputs":[{"name":"x","shape":[1],"dtype":"quark"}],"outputs":[],"calls":1}', np.uint8
                )
            },
            "quark",
        ),
        (
            {
                "header": np.frombuffer(
                    b'{"inputs":[],"outputs":[{"name":"y","shape":[2],"dtype":"<f4"}],"calls":1}', np.uint8
                ),
                "0/0": np.zeros(3, np.float32),
            },
            r"float32 \[3\] is stored for the output y \[2\]",
        ),
    ],
    ids=["empty", "no inputs", "no JSON", "unknown key", "no calls", "unknown dtype", "another shape"],
)
def test_a_wrong_header_is_refused_with_what_is_wrong(tmp_path, arrays, words):
    path = tmp_path / "recording.npz"
    np.savez(path, **arrays)
    with pytest.raises(ModelError, match=words):
        opened(path)
