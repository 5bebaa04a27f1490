import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.core.datatypes import BoundTensor, InputFormat, Quantisation, TensorSpec
from edge_agent.core.letterbox import Letterbox
from edge_agent.errors import ModelError
from edge_agent.runtime.preprocess import Preprocessor

PLAIN = {
    "divided": InputFormat(),
    "raw": InputFormat(scale=1.0),
    "centred": InputFormat(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "imagenet": InputFormat(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "multiplied": InputFormat(scale=float(np.float32(1 / 255))),
}
TYPES = {
    "float32": (np.float32, None),
    "float16": (np.float16, None),
    "uint8 as it is": (np.uint8, Quantisation(1 / 255, 0)),
    "int8 shifted": (np.int8, Quantisation(0.003921568859368563, -128)),
    "int8 coarse": (np.int8, Quantisation(0.02, -17)),
    "uint8 centred": (np.uint8, Quantisation(0.0078125, 128)),
}


def bound(dtype, size, *, planar=False, quant=None):
    """An input of `size` (width, height), filled with what must not be left."""
    width, height = size
    shape = (1, 3, height, width) if planar else (1, height, width, 3)
    spec = TensorSpec("images", shape, np.dtype(dtype), quant)
    return BoundTensor(spec, np.full(shape, 77, dtype))


def picture(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(image, spec, fmt, *, planar):
    """The same in the plainest way, in double precision, a whole picture at a time."""
    height, width = spec.shape[2:] if planar else spec.shape[1:3]
    box = Letterbox.fit((image.shape[1], image.shape[0]), (width, height), fmt.fit)
    canvas = np.full((height, width, 3), fmt.pad_value, np.uint8)
    inner = cv2.resize(image, (box.inner_w, box.inner_h), interpolation=cv2.INTER_LINEAR)
    canvas[box.pad_top : box.pad_top + box.inner_h, box.pad_left : box.pad_left + box.inner_w] = inner
    ordered = canvas[..., ::-1] if fmt.channels == "rgb" else canvas
    real = (ordered.astype(np.float64) * fmt.scale - np.array(fmt.mean)) / np.array(fmt.std)
    if spec.quant is not None:
        info = np.iinfo(spec.dtype)
        real = np.clip(np.rint(real / spec.quant.scale) + spec.quant.zero_point, info.min, info.max)
    return (real.transpose(2, 0, 1) if planar else real)[None].astype(spec.dtype)


def with_fit(fmt, fit, channels, pad_value=114):
    return InputFormat(fit, channels, fmt.scale, fmt.mean, fmt.std, pad_value)


sides = st.integers(1, 40)


@given(
    frames=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    model=st.tuples(st.integers(4, 32), st.integers(4, 32)),
    kind=st.sampled_from(sorted(TYPES)),
    values=st.sampled_from(sorted(PLAIN)),
    planar=st.booleans(),
    fit=st.sampled_from(["letterbox", "letterbox_top_left", "stretch"]),
    channels=st.sampled_from(["rgb", "bgr"]),
    pad_value=st.sampled_from([0, 114, 255]),
)
@example([(40, 1), (1, 40)], (7, 9), "int8 shifted", "divided", True, "letterbox", "rgb", 114)
@settings(max_examples=400, deadline=None)
def test_pictures_of_any_size_come_out_exactly_as_double_precision_says(
    frames, model, kind, values, planar, fit, channels, pad_value
):
    """Several pictures into one input: also that nothing is left of the one before."""
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN[values], fit, channels, pad_value)
    target = bound(dtype, model, planar=planar, quant=quant)
    try:
        preprocessor = Preprocessor(target, fmt)
    except ModelError:
        assert quant is not None
        return
    for number, (width, height) in enumerate(frames):
        image = picture(width, height, seed=number)
        letterbox = preprocessor.prepare(image)
        assert letterbox == Letterbox.fit((width, height), model, fit)
        np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *((kind, values) for kind in ("float32", "float16") for values in PLAIN),
        ("uint8 as it is", "divided"),
        ("int8 shifted", "divided"),
        ("int8 coarse", "imagenet"),
        ("uint8 centred", "centred"),
    ],
)
def test_every_type_and_layout_takes_a_camera_picture(planar, channels, kind, values):
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN[values], "letterbox", channels)
    target = bound(dtype, (320, 320), planar=planar, quant=quant)
    image = picture(1280, 720)
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("planar", [False, True])
def test_a_picture_of_the_models_own_size_is_not_resized(planar, channels):
    fmt = with_fit(PLAIN["divided"], "letterbox", channels)
    target = bound(np.float32, (64, 48), planar=planar)
    image = picture(64, 48)
    image.flags.writeable = False
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


def test_a_part_of_a_larger_picture_is_taken_as_it_lies():
    target = bound(np.float32, (64, 64))
    part = picture(200, 100)[10:90, 30:170]
    Preprocessor(target, InputFormat()).prepare(part)
    np.testing.assert_array_equal(target.array, reference(part, target.spec, InputFormat(), planar=False))


def test_padding_is_written_again_only_when_the_geometry_changes():
    target = bound(np.float32, (64, 64))
    preprocessor = Preprocessor(target, InputFormat())
    preprocessor.prepare(picture(64, 32))
    target.array[0, 0] = 5
    preprocessor.prepare(picture(64, 32, seed=1))
    assert (target.array[0, 0] == 5).all()
    preprocessor.prepare(picture(128, 64))
    assert (target.array[0, 0] == 5).all()
    image = picture(64, 48)
    preprocessor.prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, InputFormat(), planar=False))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_a_picture_costs_no_large_memory(kind, planar):
    dtype, quant = TYPES[kind]
    fmt = InputFormat() if kind != "uint8 centred" else PLAIN["centred"]
    preprocessor = Preprocessor(bound(dtype, (320, 320), planar=planar, quant=quant), fmt)
    image = picture(1280, 720)
    preprocessor.prepare(image)
    tracemalloc.start()
    preprocessor.prepare(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_last_bit_of_a_float_is_that_of_a_true_division():
    target = bound(np.float32, (256, 2))
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2, 1, 3))
    Preprocessor(target, InputFormat()).prepare(ramp)
    np.testing.assert_array_equal(target.array[0, 0, :, 0], (np.arange(256) / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 640, 640), np.float32, "does not take a picture"),
        ((1, 32, 32, 1), np.float32, "does not take a picture"),
        ((1, 1, 32, 32), np.float32, "does not take a picture"),
        ((1, 32, 32, 7), np.float32, "does not take a picture"),
        ((4, 32, 32, 3), np.float32, "4 pictures at a time"),
        ((1, 32, 32, 3), np.int64, "takes neither float32"),
        ((1, 32, 32, 3), np.uint8, "its quantisation is wrong or missing"),
    ],
)
def test_an_input_that_takes_no_picture_is_refused_with_a_sentence(shape, dtype, words):
    spec = TensorSpec("x", shape, np.dtype(dtype))
    with pytest.raises(ModelError, match=f"the input x .*{words}"):
        Preprocessor(BoundTensor(spec, np.zeros(shape, dtype)), InputFormat())
