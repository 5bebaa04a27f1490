"""The kernel's own source, compiled for the CPU and launched by the pretended driver, against the CPU's preprocessor."""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge_agent import cuda
from edge_agent.app.preprocessing import choose_preprocessor, steps_apart
from edge_agent.backends import tensorrt as kind
from edge_agent.backends.tensorrt import pictures
from edge_agent.backends.tensorrt.pictures import GpuPreprocessor
from edge_agent.core.datatypes import InputFormat, TensorSpec
from edge_agent.errors import ModelError
from edge_agent.runtime.preprocess import Preprocessor
from tests import fake_tensorrt, pretended_cuda
from tests.backends.tensorrt import kernels
from tests.fixtures import REPO
from tests.runtime.test_preprocess import PLAIN, TYPES, VIEWS, bound, picture, with_fit

FITS = ["letterbox", "letterbox_top_left", "stretch"]
COLOURS = ["rgb", "bgr", "grey"]
PTX = kernels.SOURCES / "letterbox.ptx"
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenCV may have other code for this processor")


@pytest.fixture(scope="module")
def driver():
    driver = pretended_cuda.load()
    driver.pretended_reset()
    driver.pretended_kernels(os.fsencode(kernels.build()))
    yield driver
    driver.pretended_reset()


@pytest.fixture(scope="module")
def gpu(driver):
    gpu = cuda.open_cuda()
    yield gpu
    gpu.close()
    assert driver.pretended_live() == 0


class Both:
    """One input in the host's memory and one in the GPU's, and the preprocessor of each."""

    def __init__(self, gpu, target, fmt, *, mapped=False):
        self.gpu, self.target = gpu, target
        self.cpu = Preprocessor(target, fmt)
        self.memory = gpu.device(target.array.nbytes)
        self.device = GpuPreprocessor.for_(gpu, target.spec, self.memory, fmt, self.cpu.table, mapped=mapped)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.device.close()
        self.gpu.release(self.memory)

    def steps(self, image):
        """How many of 255 a picture comes out apart, at most."""
        assert self.device.prepare(image) == self.cpu.prepare(image)
        return steps_apart(self.target.spec, self.cpu.table, self.target.array, self.device.read()).max()

    def assert_same(self, image):
        assert self.device.prepare(image) == self.cpu.prepare(image)
        got, wanted = (array.view(f"u{array.itemsize}") for array in (self.device.read(), self.target.array))
        np.testing.assert_array_equal(got, wanted)


def depth_of(channels):
    return 1 if channels == "grey" else 3


sides = st.integers(1, 90)


@given(
    frames=st.lists(st.tuples(sides, sides, st.sampled_from([None, *VIEWS])), min_size=1, max_size=3),
    model=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    kind=st.sampled_from(sorted(TYPES)),
    values=st.sampled_from(sorted(PLAIN)),
    planar=st.booleans(),
    fit=st.sampled_from(FITS),
    channels=st.sampled_from(COLOURS),
    pad_value=st.sampled_from([0, 114, 255]),
    mapped=st.booleans(),
)
@example([(40, 1, None), (1, 40, None)], (7, 9), "int8 shifted", "divided", True, "letterbox", "rgb", 114, False)
@settings(max_examples=150, deadline=None)
def test_pictures_of_any_size_come_out_as_by_the_cpu_within_one_step(
    gpu, frames, model, kind, values, planar, fit, channels, pad_value, mapped
):
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN[values], fit, channels, pad_value)
    target = bound(dtype, model, planar=planar, quant=quant, depth=depth_of(channels))
    try:
        both = Both(gpu, target, fmt, mapped=mapped)
    except ModelError:
        assert quant is not None
        return
    with both:
        for number, (width, height, view) in enumerate(frames):
            image = picture(width, height, seed=number)
            assert both.steps(VIEWS[view](image) if view and min(width, height) > 70 else image) <= 1


@on_x86
@pytest.mark.parametrize("ipp", [False, True])
@given(frame=st.tuples(sides, sides), model=st.tuples(st.integers(4, 90), st.integers(4, 90)))
@settings(max_examples=80, deadline=None)
def test_resized_pictures_are_those_of_opencv_bit_for_bit(gpu, ipp, frame, model):
    was = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(ipp)
    try:
        with Both(gpu, bound(np.float32, model), with_fit(PLAIN["divided"], "stretch", "rgb")) as both:
            both.assert_same(picture(*frame))
    finally:
        cv2.ipp.setUseIPP(was)


@on_x86
@pytest.mark.parametrize(
    "frame", [(640, 360), (1280, 720), (1920, 1080), (1024, 768), (317, 511), (3840, 2160)], ids=str
)
def test_camera_pictures_are_those_of_opencv_bit_for_bit(gpu, frame):
    with Both(gpu, bound(np.uint8, (320, 320), quant=TYPES["uint8 as it is"][1]), InputFormat()) as both:
        both.assert_same(picture(*frame))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", COLOURS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_picture_of_the_models_own_size_is_the_same_in_every_type_and_layout(gpu, planar, channels, kind):
    dtype, quant = TYPES[kind]
    fmt = with_fit(PLAIN["centred" if kind == "uint8 centred" else "divided"], "letterbox", channels)
    target = bound(dtype, (160, 96), planar=planar, quant=quant, depth=depth_of(channels))
    with Both(gpu, target, fmt) as both:
        both.assert_same(picture(160, 96))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_a_picture_is_taken_as_it_lies(gpu, view, mapped):
    with Both(gpu, bound(np.float32, (64, 48)), InputFormat(), mapped=mapped) as both:
        for image in (picture(128, 96), VIEWS[view](picture(128, 96)), picture(128, 96, seed=1)):
            assert both.steps(image) <= 1


def test_padding_is_written_only_when_the_geometry_changes(gpu):
    with Both(gpu, bound(np.float32, (64, 64)), InputFormat()) as both:
        both.assert_same(picture(64, 32))
        fives = gpu.host(both.memory.nbytes)
        fives.array.view(np.float32)[:] = 5
        gpu.upload(both.memory, fives)
        gpu.wait()
        both.device.prepare(picture(64, 32, seed=1))
        got = both.device.read()[0]
        assert (got[:16] == 5).all()
        assert (got[48:] == 5).all()
        assert not (got[16:48] == 5).any()
        both.assert_same(picture(64, 48))
        gpu.release(fives)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_picture_costs_no_memory_but_where_it_is_larger_than_all_before(gpu, driver, mapped):
    def allocated():
        return driver.pretended_calls(b"cuMemHostAlloc"), driver.pretended_calls(b"cuMemAlloc")

    with Both(gpu, bound(np.float32, (320, 320), planar=True), InputFormat(), mapped=mapped) as both:
        both.device.prepare(picture(1280, 720))
        before = allocated()
        for wh in ((640, 480), (1280, 720), (320, 320)):
            both.device.prepare(picture(*wh))
        assert allocated() == before
        image = picture(1280, 720)
        both.device.prepare(image)
        tracemalloc.start()
        both.device.prepare(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 1024
        assert allocated() == before
        both.device.prepare(picture(1280, 1280))
        assert allocated() != before


def test_only_the_rows_that_are_looked_at_are_copied(gpu):
    with Both(gpu, bound(np.float32, (64, 64)), InputFormat()) as both:
        assert both.steps(picture(640, 480)) <= 1
        assert both.device._staged.shape == (2 * 48, 640, 3)


def test_what_opencv_averages_is_not_offered(gpu):
    spec = TensorSpec("images", (1, 32, 32, 3), np.dtype(np.float32))
    table = np.zeros((3, 256), np.float32)
    memory = gpu.device(32 * 32 * 3 * 4)
    assert GpuPreprocessor.for_(gpu, spec, memory, InputFormat("centre_crop"), table, mapped=True) is None
    gpu.release(memory)


@pytest.mark.parametrize("call", [b"cuMemHostAlloc", b"cuMemAlloc", b"cuModuleLoadData"])
def test_where_the_driver_refuses_nothing_is_left_behind(gpu, driver, call):
    target = bound(np.float32, (32, 32))
    table, memory = Preprocessor(target, InputFormat()).table, gpu.device(target.array.nbytes)
    live = driver.pretended_live()
    tries = 1 + (gpu.name.startswith("pycuda") and call == b"cuMemAlloc")  # it tries again
    driver.pretended_fail_times(call, 2, 0, tries)
    with pytest.raises(cuda.CudaError, match="OUT_OF_MEMORY"):
        GpuPreprocessor.for_(gpu, target.spec, memory, InputFormat(), table, mapped=False)
    assert driver.pretended_live() == live
    gpu.release(memory)


def test_closing_twice_gives_all_memory_back_once(gpu, driver):
    live = driver.pretended_live()
    with Both(gpu, bound(np.float32, (32, 32)), InputFormat()) as both:
        both.device.prepare(picture(64, 48))
        both.device.close()
    assert driver.pretended_live() == live


def test_the_ptx_is_made_of_the_source_that_lies_beside_it():
    """Else: scripts/build_ptx."""
    digest = hashlib.sha256((kernels.SOURCES / "letterbox.cu").read_bytes()).hexdigest()
    assert digest in PTX.read_text().splitlines()[0]


def test_the_ptx_is_for_drivers_from_cuda_11_and_gpus_from_7_5():
    text = PTX.read_text()
    assert "\n.version 6.3\n.target sm_75\n" in text
    assert f"letterbox_param_0[{ctypes.sizeof(pictures._Work)}]" in text


@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc, which compiles for the GPU")
def test_nvcc_makes_the_same_ptx_again(tmp_path):
    """The text depends on the compiler's version, which stands in it."""
    out = tmp_path / "letterbox.ptx"
    script = REPO / "scripts" / "build_ptx"
    subprocess.run([script, out], check=True, capture_output=True)
    compilers = [re.search("Compiler Build ID: .*", path.read_text()) for path in (out, PTX)]
    if compilers[0].group() != compilers[1].group():
        pytest.skip(f"another nvcc made it: {compilers[1].group()}")
    assert out.read_text() == PTX.read_text()


@pytest.mark.skipif(not shutil.which("ptxas"), reason="needs ptxas, which translates for a GPU as its driver does")
@pytest.mark.parametrize("gpu", ["sm_75", "sm_87", "sm_90", "sm_110"])
def test_the_ptx_can_be_translated_for(gpu, tmp_path):
    known = subprocess.run(["ptxas", "--help"], check=True, capture_output=True, text=True).stdout
    if f"'{gpu}'" not in known:
        pytest.skip(f"this ptxas does not know {gpu}")
    subprocess.run(["ptxas", f"-arch={gpu}", "-o", tmp_path / "out.cubin", PTX], check=True, capture_output=True)


@pytest.fixture
def engine(tensorrt, tmp_path):
    """The bundled model."""
    path = fake_tensorrt.write_engine(
        tmp_path / "bottles.engine", REPO / "edge_agent/demo_model/bottles.onnx", compute=[8, 7]
    )
    backend = kind.create(kind.Config(path=path))
    yield backend
    backend.close()


def test_an_engine_finds_the_same_whoever_wrote_the_picture(engine):
    fmt, image = InputFormat(), cv2.resize(picture(64, 36), (1280, 720))
    cpu = Preprocessor(engine.inputs[0], fmt)
    cpu.prepare(image)
    by_cpu = [array.copy() for array in engine.infer()]
    device = engine.device_preprocessor(fmt, cpu.table)
    engine.inputs[0].array.fill(0)
    device.prepare(image)
    for wanted, got in zip(by_cpu, engine.infer(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    engine.picture_from_gpu(wanted=False)
    assert any((got != wanted).any() for wanted, got in zip(by_cpu, engine.infer(), strict=True))


def test_an_engines_preprocessing_is_compared_timed_and_chosen(engine):
    with capture_logs() as logs:
        chosen = choose_preprocessor(engine, engine.inputs[0], InputFormat())
    (line,) = [line for line in logs if line["event"] == "preprocessing"]
    assert isinstance(chosen, GpuPreprocessor if line["chosen"] == "gpu" else Preprocessor)
    assert line["log_level"] == "info"
