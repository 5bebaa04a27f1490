"""The GPU prepares pictures as the CPU does, and the faster of the two is used."""

from contextlib import closing

import numpy as np
import pytest

from edge_agent.app.preprocessing import steps_apart
from edge_agent.runtime.preprocess import Preprocessor
from tests.gpu.engines import MODELS, backend_of, engine_of, photos

cv2 = pytest.importorskip("cv2")
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
SIZES = [(1280, 720), (640, 480), (1920, 1080), (333, 517), (416, 416), (100, 80)]


@pytest.mark.parametrize("name", ["yolox", "bottles"])
def test_the_gpu_writes_what_the_cpu_writes_within_one_step(build, name, record_property):
    with engine_of(name, MODELS[name], "onnx") as cpu_engine:
        fmt = cpu_engine.decoder.input_format
    with backend_of(build(name, "fp32").path) as backend:
        (picture,) = backend.inputs
        cpu = Preprocessor(picture, fmt)
        gpu = backend.device_preprocessor(fmt, cpu.table)
        assert gpu is not None
        with closing(gpu):
            worst, unequal = compared(picture, cpu, gpu)

    record_property("most steps of 255 apart", f"{worst}, {unequal:.2e} of all values unequal")
    assert worst <= 1


def compared(picture, cpu, gpu):
    """The greatest difference over all sizes, and how many values differ at all."""
    noise, steps = np.random.default_rng(0), []
    for width, height in SIZES:
        image = noise.integers(0, 256, (height, width, 3), np.uint8)
        place = cpu.prepare(image)
        wanted = picture.array.copy()
        assert gpu.prepare(image) == place
        steps.append(steps_apart(picture.spec, cpu.table, wanted, gpu.read()).ravel())
    apart = np.concatenate(steps)
    return int(apart.max()), float((apart > 0).mean())


@pytest.mark.parametrize("name", ["yolox", "bottles"])
def test_detections_do_not_depend_on_who_prepared_the_picture(build, name, record_property):
    photo = photos(name)[0]
    image = cv2.imread(str(photo))
    with engine_of(name, build(name, "fp32").path, "tensorrt") as engine:
        found = engine.look(image)[0]
        record_property("prepared by", "CPU" if isinstance(engine.preprocessor, Preprocessor) else "GPU")
    with engine_of(name, MODELS[name], "onnx") as engine:
        wanted = engine.look(image)[0]

    assert len(found.scores) == len(wanted.scores)
