import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.core.datatypes import BoundTensor, InputFormat, Later, Quantisation, TensorSpec
from edge_agent.core.letterbox import Letterbox
from edge_agent.errors import BadFrameError, ModelError
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


def bound(dtype, size, *, planar=False, quant=None, depth=3):
    """An input of `size` (width, height), filled with what must not be left."""
    width, height = size
    shape = (1, depth, height, width) if planar else (1, height, width, depth)
    spec = TensorSpec("images", shape, np.dtype(dtype), quant)
    return BoundTensor(spec, np.full(shape, 77, dtype))


def picture(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(image, spec, fmt, *, planar):
    """The same in the plainest way, in double precision, a whole picture at a time."""
    height, width = spec.shape[2:] if planar else spec.shape[1:3]
    box = Letterbox.fit((image.shape[1], image.shape[0]), (width, height), fmt.fit)
    canvas = np.full((height, width, 3), fmt.pad_value, np.uint8)
    image = np.ascontiguousarray(image)[box.crop_top :, box.crop_left :][: box.crop_h, : box.crop_w]
    shrinks = box.crop_w > box.inner_w and box.crop_h > box.inner_h
    how = cv2.INTER_AREA if fmt.fit == "centre_crop" and shrinks else cv2.INTER_LINEAR
    inner = cv2.resize(image, (box.inner_w, box.inner_h), interpolation=how)
    canvas[box.pad_top : box.pad_top + box.inner_h, box.pad_left : box.pad_left + box.inner_w] = inner
    ordered = canvas[..., ::-1] if fmt.channels == "rgb" else canvas
    depth = 3
    if fmt.channels == "grey":
        ordered, depth = cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY)[..., None], 1
    real = (ordered.astype(np.float64) * fmt.scale - np.array(fmt.mean[:depth])) / np.array(fmt.std[:depth])
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
    fit=st.sampled_from(["letterbox", "letterbox_top_left", "stretch", "centre_crop"]),
    channels=st.sampled_from(["rgb", "bgr", "grey"]),
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
    target = bound(dtype, model, planar=planar, quant=quant, depth=1 if channels == "grey" else 3)
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
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("fit", ["letterbox", "centre_crop"])
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
def test_every_type_and_layout_takes_a_camera_picture(planar, channels, fit, kind, values):
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN[values], fit, channels)
    target = bound(dtype, (320, 320), planar=planar, quant=quant, depth=1 if channels == "grey" else 3)
    image = picture(1280, 720)
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


@pytest.mark.parametrize(
    ("frame", "model"),
    [((1920, 1080), (640, 640)), ((960, 540), (320, 320)), ((320, 192), (64, 64)), ((90, 70), (30, 14))],
    ids=str,
)
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("kind", ["float32", "uint8 as it is"])
def test_what_shrinks_to_a_third_or_a_fifth_is_interpolated_as_any_other(frame, model, fit, kind):
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN["divided"], fit, "rgb")
    target = bound(dtype, model, quant=quant)
    image = picture(*frame)
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=False))


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("planar", [False, True])
def test_a_picture_of_the_models_own_size_is_not_resized(planar, channels):
    fmt = with_fit(PLAIN["divided"], "letterbox", channels)
    target = bound(np.float32, (64, 48), planar=planar)
    image = picture(64, 48)
    image.flags.writeable = False
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


def region(image):
    return image[10:58, 30:94]


def padded_rows(image):
    """Rows with bytes behind them, as cameras' drivers lay them out."""
    rows = np.full((image.shape[0], image.shape[1] * 3 + 20), 99, np.uint8)
    rows[:, :-20] = image.reshape(image.shape[0], -1)
    return np.lib.stride_tricks.as_strided(rows, image.shape, (rows.strides[0], 3, 1), writeable=False)


VIEWS = {
    "a region": region,
    "rows with padding": padded_rows,
    "every other pixel": lambda image: image[::2, ::2],
    "upside down": lambda image: image[::-1],
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: image.transpose(1, 0, 2),
    "from RGB": lambda image: image[..., ::-1],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (100, 50)], ids=str)
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("fit", ["letterbox", "centre_crop"])
@pytest.mark.parametrize("kind", ["float32", "uint8 as it is", "int8 shifted"])
def test_a_view_of_a_picture_is_taken_as_it_lies(view, size, planar, channels, fit, kind):
    """Also one of the model's own size, which is not resized."""
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN["divided"], fit, channels)
    image = VIEWS[view](picture(128, 96))
    target = bound(dtype, size, planar=planar, quant=quant, depth=1 if channels == "grey" else 3)
    Preprocessor(target, fmt).prepare(image)
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=planar))


def test_padding_is_written_again_only_where_a_picture_lay():
    target = bound(np.float32, (64, 64))
    preprocessor = Preprocessor(target, InputFormat())
    preprocessor.prepare(picture(64, 32))
    target.array[0, 0] = 5
    preprocessor.prepare(picture(64, 32, seed=1))
    assert (target.array[0, 0] == 5).all()
    preprocessor.prepare(picture(128, 64))
    assert (target.array[0, 0] == 5).all()
    preprocessor.prepare(picture(64, 48))
    image = picture(64, 32)
    preprocessor.prepare(image)
    assert (target.array[0, 0] == 5).all()
    target.array[0, 0] = target.array[0, 1]
    np.testing.assert_array_equal(target.array, reference(image, target.spec, InputFormat(), planar=False))


def test_pictures_of_more_sizes_than_are_kept_come_out_right():
    target = bound(np.float32, (32, 32))
    preprocessor = Preprocessor(target, InputFormat())
    for width in [*range(20, 60), *range(20, 60)]:
        image = picture(width, 30)
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


@pytest.mark.parametrize("planar", [False, True])
def test_cameras_of_several_sizes_that_take_turns_cost_no_large_memory(planar):
    preprocessor = Preprocessor(bound(np.float32, (320, 320), planar=planar), InputFormat())
    images = [picture(*size) for size in ((1280, 720), (640, 480), (480, 640))]
    for image in images:
        preprocessor.prepare(image)
    tracemalloc.start()
    for image in images:
        preprocessor.prepare(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_a_crop_costs_no_large_memory(channels):
    fmt = with_fit(PLAIN["divided"], "centre_crop", channels)
    preprocessor = Preprocessor(bound(np.float32, (224, 224), planar=True, depth=1 if channels == "grey" else 3), fmt)
    image = picture(1280, 720)
    preprocessor.prepare(image)
    tracemalloc.start()
    preprocessor.prepare(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 3, 32, 32)])
def test_a_grey_format_for_an_input_with_three_channels_is_refused_with_a_sentence(shape):
    spec = TensorSpec("x", shape, np.dtype(np.float32))
    with pytest.raises(ModelError, match=r"does not take a grey picture; it must be \[1, H, W, 1\]"):
        Preprocessor(BoundTensor(spec, np.zeros(shape, np.float32)), InputFormat(channels="grey"))


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


def halved(image):
    """As a camera's JPEG: half of it can be had."""
    size = image.shape[1], image.shape[0]
    return Later(lambda: image, size, lambda: np.ascontiguousarray(image[::2, ::2]))


@pytest.mark.parametrize("fit", ["letterbox", "letterbox_top_left", "stretch"])
@pytest.mark.parametrize("size", [(128, 130), (200, 160), (130, 260)], ids=str)
def test_a_half_lies_where_the_whole_would(fit, size):
    fmt = with_fit(PLAIN["divided"], fit, "rgb")
    target, other = bound(np.float32, (64, 64)), bound(np.float32, (64, 64))
    image = picture(*size)
    half = np.ascontiguousarray(image[::2, ::2])
    assert Preprocessor(target, fmt).prepare(halved(image)) == Letterbox.fit(size, (64, 64), fit)
    Preprocessor(other, fmt).prepare(half)
    np.testing.assert_array_equal(target.array, other.array)


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "centre_crop"])
@pytest.mark.parametrize("size", [(126, 72), (72, 126), (64, 64), (40, 30)], ids=str)
def test_a_half_that_is_less_than_the_model_sees_is_not_used(fit, size):
    fmt = with_fit(PLAIN["divided"], fit, "rgb")
    target = bound(np.float32, (64, 64))
    image = picture(*size)
    Preprocessor(target, fmt).prepare(halved(image))
    np.testing.assert_array_equal(target.array, reference(image, target.spec, fmt, planar=False))


@pytest.mark.parametrize("size", [(128, 200), (202, 130), (130, 134), (256, 128)], ids=str)
def test_a_crop_of_a_half_is_the_middle_of_it(size):
    fmt = with_fit(PLAIN["divided"], "centre_crop", "bgr")
    target = bound(np.float32, (64, 64))
    image = np.zeros((*size[::-1], 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(size[0]), np.arange(size[1])[:, None]
    box = Preprocessor(target, fmt).prepare(halved(image))
    assert box == Letterbox.fit(size, (64, 64), "centre_crop")
    middle = target.array[0, 31:33, 31:33, :2].mean((0, 1)) * 255
    np.testing.assert_allclose(middle, (np.array(size) - 1) / 2, atol=2)


def test_halves_and_wholes_may_take_turns():
    target = bound(np.float32, (64, 64))
    preprocessor = Preprocessor(target, InputFormat())
    image = picture(128, 72)
    half = Later(lambda: image, (128, 72), lambda: np.zeros((36, 64, 3), np.uint8))
    for _ in range(2):
        preprocessor.prepare(half)
        assert not target.array[0, 14:50].any()
        preprocessor.prepare(image)
        np.testing.assert_array_equal(target.array, reference(image, target.spec, InputFormat(), planar=False))


@pytest.mark.parametrize(
    "given", [np.zeros((40, 50, 3), np.uint16), np.zeros((40, 50), np.uint8), np.zeros((40, 50, 4), np.uint8)]
)
@pytest.mark.parametrize("planar", [False, True])
def test_what_is_no_picture_is_a_bad_frame_and_is_not_taken_for_the_one_before(given, planar):
    preprocessor = Preprocessor(bound(np.float32, (32, 32), planar=planar), InputFormat())
    preprocessor.prepare(picture(50, 40))
    with pytest.raises(BadFrameError, match="no picture"):
        preprocessor.prepare(given)
