"""Whatever comes in, an answer or a sentence comes out, and no box lies outside the frame.

`scripts/fuzz` runs these with as many cases as one likes; the usual test run takes a few of each.
"""

import os
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import plugins
from edge_agent.app.engine import choose_decoder, make_decoder
from edge_agent.config import ConfigProblemsError, load
from edge_agent.core.datatypes import ModelSpec, Quantisation, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.errors import ModelError
from edge_agent.models import bare
from edge_agent.models.labels import read_labels
from tests.contract.test_decoders import samples
from tests.fixtures import REPO

CASES = int(os.environ.get("EDGE_AGENT_FUZZ_CASES", "40"))
fuzzed = settings(max_examples=CASES)

ODD_NUMBERS = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 0.5, 1e-38, 1e38, -1e38, 3.4e38, 300, 1e6])
ODD_WORDS = ["", "task", "detect", "segment", "pose", "obb", "classify", "names", "RTDETRDecoder", "0", "-1", "1e9"]
EXAMPLES = [path.read_bytes() for path in sorted((REPO / "examples").glob("*.toml"))]
sides = st.integers(1, 6000)


# ---- tensors


@st.composite
def tensors(draw, shapes):
    """Numbers of one kind or mixed with odd ones; of each shape and dtype."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.001, 1, 3, 1000, 1e30]))
    share = draw(st.sampled_from([0, 0.01, 0.5, 1]))
    return [_filled(rng, shape, dtype, spread, share) for shape, dtype in shapes]


def _filled(rng, shape, dtype, spread, share):
    if dtype.kind in "iub":
        return rng.integers(0, 256, shape).astype(np.uint8).astype(dtype)
    numbers = rng.random(shape) * spread if rng.random() < 0.5 else rng.normal(0, spread, shape)
    odd = rng.random(shape) < share
    with np.errstate(over="ignore"):
        return np.where(odd, rng.choice(ODD_NUMBERS, shape), numbers).astype(dtype)


def assert_sound(found, labels, frame_wh):
    width, height = frame_wh
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (width, height, width, height)).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.classes >= 0) & (found.classes < len(labels))).all()
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("sample", samples())
@fuzzed
@given(data=st.data(), frame_wh=st.tuples(sides, sides), conf=st.sampled_from([0, 0.001, 0.25, 0.999, 1]))
def test_every_decoder_on_random_tensors(sample, data, frame_wh, conf):
    kind, chosen, model, outputs = sample
    module = plugins.load("decoders", kind)
    decoder = module.create(module.Config(**chosen), model, Thresholds(conf=conf))
    made = data.draw(tensors([(output.shape, output.dtype) for output in outputs]))
    letterbox = Letterbox.fit(frame_wh, (160, 96), decoder.input_format.fit)
    for _ in range(2):  # some remember what they have seen
        assert_sound(decoder(made, letterbox), decoder.labels, frame_wh)
    _may_refuse(lambda: decoder.check(made))


# ---- models that nobody has seen


NAMES = (
    "images output0 output x boxes scores labels dets logits pred_boxes num_dets orig_target_sizes "
    "TFLite_Detection_PostProcess TFLite_Detection_PostProcess:1 StatefulPartitionedCall:1"
)
names = st.sampled_from(NAMES.split())
lengths = st.sampled_from([-1, 1, 2, 3, 4, 5, 6, 7, 38, 57, 100, 300, 315, 945]) | st.integers(0, 9)
dtypes = st.sampled_from([np.float32, np.float16, np.int8, np.uint8, np.int64, np.int32, np.bool_]).map(np.dtype)
quants = st.none() | st.builds(Quantisation, st.sampled_from([0.0, 1e-9, 1 / 255, 1.0, 1e9]), st.integers(-200, 300))
specs = st.builds(TensorSpec, names, st.lists(lengths, max_size=5).map(tuple), dtypes, quants)
pictures = st.sampled_from([(1, 3, 96, 160), (1, 96, 160, 3), (1, 1, 96, 160), (2, 3, 96, 160), (1, 3, -1, -1)]).map(
    lambda shape: TensorSpec("images", shape, np.dtype(np.float32))
)
words = st.sampled_from(ODD_WORDS) | st.text(max_size=10)
facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.integers(-2, 5), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(
    ["task", "stride", "names", "imgsz", "head", "end2end", "args", "kpt_shape", "channels", "labels", "description"]
)
metadatas = st.dictionaries(keys | words, facts, max_size=8)
models = st.builds(
    ModelSpec,
    name=st.just("odd"),
    sha256=st.just("00"),
    format=st.sampled_from(["tflite", "onnx", "engine", "recorded"]),
    inputs=st.lists(pictures | specs, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(specs, max_size=5).map(tuple),
    labels=st.lists(st.text(string.ascii_letters, min_size=1, max_size=5), max_size=6).map(tuple),
    metadata=metadatas,
)


def _may_refuse(attempt):
    """The result, or None where it is refused in a sentence."""
    try:
        return attempt()
    except ModelError as error:
        sentence = str(error)
    assert len(sentence) > 10
    return None


@fuzzed
@given(model=models, data=st.data())
def test_every_model_is_decoded_or_refused(model, data):
    chosen = _may_refuse(lambda: choose_decoder(model, None))
    decoder = chosen and _may_refuse(lambda: make_decoder(chosen[0], model, Thresholds()))
    if decoder is None:
        return
    shapes = [(tuple(5 if side < 0 else side for side in spec.shape), spec.dtype) for spec in model.outputs]
    made = data.draw(tensors(shapes))
    letterbox = Letterbox.fit((1280, 720), (160, 96), decoder.input_format.fit)
    if _may_refuse(lambda: decoder.check(made) or True):
        assert_sound(decoder(made, letterbox), decoder.labels, (1280, 720))


@fuzzed
@given(metadata=metadatas)
def test_every_metadata_is_read_or_refused(tmp_path_factory, metadata):
    file = bare.ModelFile(tmp_path_factory.getbasetemp() / "odd.onnx", "odd", "00", "onnx")
    texts = {str(key): value if isinstance(value, str) else repr(value) for key, value in metadata.items()}
    for told in (metadata, texts):
        _may_refuse(lambda told=told: bare.describe(file, told, [], []))


# ---- label files


lines = st.text(max_size=12) | st.sampled_from(
    ["???", "item {", "}", "  id: 1", "name: 'cat'", "0 cat", "1 dog", "id: -1"]
)
label_files = st.binary(max_size=200) | st.lists(lines, max_size=12).map(lambda found: "\n".join(found).encode())


@fuzzed
@given(content=label_files, suffix=st.sampled_from([".txt", ".pbtxt", ".names", ""]))
def test_every_label_file_is_read_or_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"labels{suffix}"
    path.write_bytes(content)
    labels = _may_refuse(lambda: read_labels(path))
    assert labels is None or (labels and all(label and label.isprintable() for label in labels))


# ---- configurations


VALUES = """
0 -1 1e308 nan inf true "" '\\u0000' [] {} [[0,0],[1,1]] 1979-05-27 "auto" "/dev/null" "../.." 0xffffffffffffffffffffffff
[1,'a',{}] {kind='line'}
"""
values = st.sampled_from(["", *VALUES.split()])


@st.composite
def spoilt_configurations(draw):
    """One of the examples with a few things changed."""
    rows = draw(st.sampled_from(EXAMPLES)).splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(rows) - 1)))
        match draw(st.sampled_from(["drop", "twice", "swap", "value", "key", "bytes", "cut"])):
            case "drop":
                del rows[at : at + draw(st.integers(1, 4))]
            case "twice":
                rows[at:at] = rows[at : at + 3]
            case "swap":
                rows[at : at + 2] = rows[at : at + 2][::-1]
            case "value":
                rows[at : at + 1] = [row.split(b"=")[0] + b"= " + draw(values).encode() for row in rows[at : at + 1]]
            case "key":
                rows[at:at] = [draw(st.text(string.ascii_letters + "._", max_size=12)).encode() + b" = 1"]
            case "bytes":
                rows[at:at] = [draw(st.binary(max_size=12))]
            case "cut":
                rows = [*rows[:at], *(row[: len(row) // 2] for row in rows[at : at + 1])]
    return b"\n".join(rows)


@fuzzed
@given(content=spoilt_configurations() | st.binary(max_size=300))
def test_every_configuration_is_loaded_or_all_its_problems_are_told(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "spoilt.toml"
    path.write_bytes(content)
    try:
        loaded, problems = load(path), ()
    except ConfigProblemsError as error:
        loaded, problems = None, error.problems
    assert loaded or problems
    assert all(problem.message for problem in problems)
