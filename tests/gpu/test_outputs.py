"""TensorRT gives what ONNX Runtime gives, in numbers and in detections."""

import json

import pytest

from edge_agent import plugins
from edge_agent.models.bundled import FOLDER, TFLITE
from tests.gpu.engines import MODELS, backend_of, engine_of, error_of, noise, outputs_on, photos, unmatched

cv2 = pytest.importorskip("cv2")
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
ALLOWED = {"fp32": 1e-3, "fp16": 2e-2}


def test_the_outputs_are_those_of_onnx_runtime(build, model, precision, record_property):
    engine = build(model, precision)
    errors = []
    with backend_of(MODELS[model]) as cpu, backend_of(engine.path) as gpu:
        record_property("runtime", gpu.runtime)
        for seed in range(5):
            picture = noise(cpu, seed)
            errors.append(error_of(outputs_on(gpu, picture), outputs_on(cpu, picture)))

    record_property("greatest relative error", f"{max(errors):.2e}, allowed {ALLOWED[precision]:.0e}")
    record_property("built in", f"{engine.seconds} s")
    assert max(errors) <= ALLOWED[precision]


def test_the_detections_are_those_of_onnx_runtime(build, model, precision, record_property):
    lost, extra, count = compared(model, build(model, precision).path, MODELS[model], "onnx")

    record_property("detections", f"{count}, {lost} not found, {extra} not expected")
    assert count > 0
    assert (lost, extra) == (0, 0)


def test_the_detections_are_those_of_the_tflite_file(build, precision, record_property):
    """Which is int8: its boxes are known in steps only, so small ones overlap less."""
    if reason := plugins.load("backends", "tflite").available():
        pytest.skip(reason)
    step_px = json.loads((FOLDER / "golden" / "expected.json").read_text())["tolerances"][TFLITE.name]["box_px"]
    lost, extra, count = compared("bottles", build("bottles", precision).path, TFLITE, "tflite", step_px)

    record_property("detections", f"{count}, {lost} not found, {extra} not expected")
    assert count > 0
    assert (lost, extra) == (0, 0)


def compared(name, engine, other, kind, box_px=0.0):
    """How many of the other's sure detections the engine lacks, how many of its own the other lacks, of how many."""
    lost = extra = count = 0
    with engine_of(name, engine, "tensorrt") as gpu, engine_of(name, other, kind) as cpu:
        for photo in photos(name):
            image = cv2.imread(str(photo))
            wanted, found = cpu.look(image)[0], gpu.look(image)[0]
            lost, extra = lost + unmatched(wanted, found, box_px), extra + unmatched(found, wanted, box_px)
            count += len(wanted.scores)
    return lost, extra, count
