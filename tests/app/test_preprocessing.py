import time

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_agent.app import preprocessing
from edge_agent.app.preprocessing import choose_preprocessor, steps_apart
from edge_agent.core.datatypes import BoundTensor, InputFormat, Quantisation, TensorSpec
from edge_agent.cuda import CudaError
from edge_agent.runtime.preprocess import Preprocessor

FRAME_WH = (160, 90)


def bound(dtype=np.float32, quant=None):
    shape = (1, 3, 48, 64)
    return BoundTensor(TensorSpec("images", shape, np.dtype(dtype), quant), np.zeros(shape, dtype))


class Device:
    """Memory of its own, written as the CPU does it; `spoil` changes what was written, `wait_s` is what it takes."""

    def __init__(self, fmt, spoil, wait_s):
        right = bound()  # nobody but the preprocessor may write into that
        self.right, self.memory, self.preprocessor = right.array, right.array, Preprocessor(right, fmt)
        self.spoil, self.wait_s, self.is_closed = spoil, wait_s, False

    def prepare(self, image):
        letterbox = self.preprocessor.prepare(image)
        self.memory = self.right.copy()
        self.spoil(self.memory)
        time.sleep(self.wait_s)
        return letterbox

    def read(self):
        return self.memory.copy()

    def close(self):
        self.is_closed = True


class Engine:
    """A `Backend` with a device. A picture that the CPU wrote takes it `upload_s` longer."""

    runtime, outputs, metadata = "an engine", (), {}

    def __init__(self, *, spoil=lambda array: None, device_s=0.0, upload_s=0.0, fit=None):
        self.inputs = [bound()]
        self.spoil, self.device_s, self.upload_s, self.fit = spoil, device_s, upload_s, fit
        self.device, self.is_device_read, self.runs = None, False, 0

    def device_preprocessor(self, fmt, table):
        self.device = Device(InputFormat(self.fit or fmt.fit), self.spoil, self.device_s)
        self.is_device_read = True
        return self.device

    def picture_from_gpu(self, *, wanted):
        self.is_device_read = wanted

    def infer(self):
        self.runs += 1
        time.sleep(0 if self.is_device_read else self.upload_s)
        return ()

    def close(self):
        """Nothing to do."""


def choose(engine, fmt=InputFormat()):  # noqa: B008 - frozen
    with capture_logs() as logs:
        chosen = choose_preprocessor(engine, engine.inputs[0], fmt, FRAME_WH)
    return chosen, logs


def assert_cpu_with_a_warning(engine, words):
    chosen, (line,) = choose(engine)
    assert isinstance(chosen, Preprocessor)
    assert (line["event"], line["log_level"]) == ("gpu_preprocessing_unused", "warning")
    assert words in line["reason"]


def test_the_faster_device_that_writes_the_same_is_used():
    engine = Engine(upload_s=0.01)
    chosen, (line,) = choose(engine)
    assert chosen is engine.device
    assert engine.is_device_read
    assert not engine.device.is_closed
    assert (line["event"], line["chosen"], line["size"]) == ("preprocessing", "gpu", [*FRAME_WH])
    assert line["gpu_ms"] < line["cpu_ms"]


def test_the_slower_device_is_let_go_of():
    engine = Engine(device_s=0.01)
    chosen, (line,) = choose(engine)
    assert isinstance(chosen, Preprocessor)
    assert not engine.is_device_read
    assert engine.device.is_closed
    assert line["chosen"] == "cpu"
    assert line["cpu_ms"] < line["gpu_ms"]


def test_both_are_timed_by_turns_and_with_the_engine():
    engine = Engine()
    choose(engine)
    assert engine.runs == preprocessing._ROUNDS_MOST * 2 * (preprocessing._RUNS + 1)


def test_a_slow_engine_is_run_fewer_times(monkeypatch):
    monkeypatch.setattr(preprocessing, "_ROUNDS_S", 0.0)
    engine = Engine()
    choose(engine)
    assert engine.runs == preprocessing._ROUNDS_LEAST * 2 * (preprocessing._RUNS + 1)


def test_the_cpu_writes_what_no_device_can():
    class Plain:
        pass

    with capture_logs() as logs:
        chosen = choose_preprocessor(Plain(), bound(), InputFormat())
    assert isinstance(chosen, Preprocessor)
    assert logs == []


def test_a_fit_that_the_device_does_not_do_is_left_to_the_cpu():
    engine = Engine()
    engine.device_preprocessor = lambda fmt, table: None
    chosen, (line,) = choose(engine, InputFormat("centre_crop"))
    assert isinstance(chosen, Preprocessor)
    assert (line["event"], line["chosen"]) == ("preprocessing", "cpu")
    assert "centre_crop" in line["reason"]


def shifted(steps):
    """Every value by so many of 255."""

    def spoil(array):
        values = np.rint(array * 255).astype(int)
        array[:] = (np.where(values < 128, values + steps, values - steps) / 255).astype(np.float32)

    return spoil


def test_a_difference_of_one_step_is_no_difference():
    engine = Engine(spoil=shifted(1), upload_s=0.01)
    assert choose(engine)[0] is engine.device


def test_a_difference_of_two_steps_leaves_it_to_the_cpu_and_says_how_much_differs():
    engine = Engine(spoil=shifted(2), upload_s=0.01)
    assert_cpu_with_a_warning(engine, "of 9216 pixel values differ from the CPU's by up to 2")
    assert engine.device.is_closed
    assert not engine.is_device_read


def test_one_wrong_number_leaves_it_to_the_cpu():
    def spoil(array):
        array[0, 1, 20, 30] = np.nan

    assert_cpu_with_a_warning(Engine(spoil=spoil, upload_s=0.01), "1 of 9216 pixel values")


def test_a_picture_in_another_place_leaves_it_to_the_cpu():
    assert_cpu_with_a_warning(Engine(fit="letterbox_top_left"), "in another place")


@pytest.mark.parametrize("where", ["device_preprocessor", "infer"])
def test_a_device_that_fails_leaves_it_to_the_cpu(where):
    def fail(*_):
        raise CudaError("cuLaunchKernel", 719, "the kernel failed")

    engine = Engine()
    setattr(engine, where, fail)
    assert_cpu_with_a_warning(engine, "cuLaunchKernel")
    assert not engine.is_device_read


@pytest.mark.parametrize(
    ("dtype", "quant"),
    [
        (np.float32, None),
        (np.float16, None),
        (np.uint8, Quantisation(1 / 255, 0)),
        (np.int8, Quantisation(1 / 255, -128)),
    ],
)
@pytest.mark.parametrize("planar", [False, True])
def test_steps_are_counted_in_pixel_values_in_every_type_and_layout(dtype, quant, planar):
    shape = (1, 3, 8, 16) if planar else (1, 8, 16, 3)
    target = BoundTensor(TensorSpec("images", shape, np.dtype(dtype), quant), np.zeros(shape, dtype))
    preprocessor = Preprocessor(target, InputFormat(mean=(0.0, 0.0, 0.0) if quant else (0.4, 0.5, 0.6)))
    image = np.random.default_rng(0).integers(10, 200, (8, 16, 3), dtype=np.uint8)
    preprocessor.prepare(image)
    one = target.array.copy()
    image[3, 5, 0] += 7
    preprocessor.prepare(image)
    apart = steps_apart(target.spec, preprocessor.table, one, target.array)
    assert apart.max() == 7
    assert np.count_nonzero(apart) == 1
    assert apart[2, 3 * 16 + 5] == 7
