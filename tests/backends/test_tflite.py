import gc
import json
import os
import sys

import numpy as np
import pytest

from edge_agent.backends import tflite
from edge_agent.core.datatypes import Quantisation
from edge_agent.errors import ModelError
from tests.backends.models import append_zip, write_tflite
from tests.fixtures import SHARED, needs_shared

pytest.importorskip("ai_edge_litert", reason=tflite._MISSING)
MODELS = SHARED / "fixtures" / "models"


@pytest.fixture
def model(tmp_path):
    return write_tflite(tmp_path / "model.tflite", "RELU", (1, 4, 4, 3))


def opened(path, **options):
    return tflite.TfliteBackend(tflite.Config(path=path), **options)


def test_the_engine_reads_and_writes_its_own_memory_without_copies(model):
    backend = opened(model)
    assert backend.in_place
    view = backend.inputs[0].array
    for value in (3, 5):
        view.fill(value)
        assert (backend.infer()[0] == value).all()
    assert backend.infer()[0] is backend.infer()[0]


def test_copying_in_and_out_gives_the_same(model):
    backend = opened(model, in_place=False)
    backend.inputs[0].array.fill(7)
    assert (backend.infer()[0] == 7).all()
    assert not backend.in_place


@pytest.mark.parametrize("in_place", [True, False])
def test_an_output_that_varies_in_size_is_fetched_after_each_run(tmp_path, in_place):
    backend = opened(write_tflite(tmp_path / "m.tflite", "WHERE", (1, 4), output=("INT64", (1, 2))), in_place=in_place)
    assert backend.outputs[0].shape == (-1, 2)
    for count in (0, 4, 0, 1, 3):
        backend.inputs[0].array[:] = np.arange(4) < count
        assert backend.infer()[0].tolist() == [[0, column] for column in range(count)]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_second_input_is_read_and_kept_from_run_to_run(tmp_path, in_place):
    path = write_tflite(tmp_path / "m.tflite", "MAXIMUM", (1, 4, 4, 3), second=True, repeat=3)
    backend = opened(path, in_place=in_place)
    picture, level = backend.inputs
    assert level.spec.name == "s"
    level.array.fill(4)
    for value in (3, 5, 2):
        picture.array.fill(value)
        assert (backend.infer()[0] == max(value, 4)).all()


def test_views_outlive_the_engine(model):
    backend = opened(model)
    backend.inputs[0].array.fill(2)
    inside, outside = backend.inputs[0].array, backend.infer()[0]
    backend.close()
    del backend
    gc.collect()
    inside.fill(9)
    assert (outside == 2).all()


def test_a_batch_that_is_not_fixed_is_one(tmp_path):
    backend = opened(write_tflite(tmp_path / "m.tflite", "RELU", (1, 4, 4, 3), signature=(-1, 4, 4, 3)))
    assert backend.inputs[0].spec.shape == backend.outputs[0].shape == (1, 4, 4, 3)


def test_an_input_without_a_fixed_size_is_refused(tmp_path):
    with pytest.raises(ModelError, match="fixed size, for example imgsz=640"):
        opened(write_tflite(tmp_path / "m.tflite", "RELU", (1, 1, 1, 3), signature=(1, -1, -1, 3)))


@pytest.mark.parametrize(
    ("operation", "words"),
    [("FlexErf", r"TensorFlow's own operations \(Flex\)"), ("Unheard", "an operation that is not here")],
)
def test_operations_that_are_missing_are_named_with_what_to_do(tmp_path, operation, words):
    with pytest.raises(ModelError, match=words + ".*export it with built-in operations only"):
        opened(write_tflite(tmp_path / "m.tflite", operation, (1, 4)))


def test_as_many_threads_as_cores_unless_it_is_said(model):
    cores = len(os.sched_getaffinity(0))
    assert opened(model).runtime.startswith("ai-edge-litert ")
    assert f", {cores} thread" in opened(model).runtime
    assert tflite.create(tflite.Config(path=model, threads=3)).runtime.endswith(", 3 threads")


def test_importing_the_module_imports_no_engine():
    import subprocess

    code = (
        "import sys, edge_agent.backends.tflite as t; t.available(); print('ai_edge_litert.interpreter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


NAMES = {"names": {0: "bottle", 1: "cap"}, "stride": 32}


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"metadata.json": json.dumps({"task": "detect"})}, {"task": "detect"}),
        ({"temp_meta.txt": repr(NAMES)}, NAMES),
        ({"temp_meta.txt": repr(NAMES), "metadata.json": '{"task": "detect"}'}, {"task": "detect"}),
        ({"labelmap.txt": "bottle\r\ncap\r\n"}, {"labels": ["bottle", "cap"]}),
        ({"labels.txt": "\ufeffbottle\nbottle cap\n"}, {"labels": ["bottle", "bottle cap"]}),
        ({"vocab.bin": b"\x00", "coco_labels.txt": "a\nb"}, {"labels": ["a", "b"]}),
        ({"picture.png": b"\x89PNG"}, {}),
        ({"metadata.json": "{"}, {}),
        ({"metadata.json": "[1]"}, {}),
        ({"metadata.json": b"\xff\xfe"}, {}),
        ({"metadata.json": "[" * 200_000}, {}),
        ({"metadata.json": b" " * (2 << 20)}, {}),
        ({"temp_meta.txt": "{'names': __import__('os')}"}, {}),
        ({"temp_meta.txt": "{" + "1+" * 400_000 + "1}"}, {}),
        ({}, {}),
    ],
    ids=range(15),
)
def test_metadata_is_read_from_the_appended_zip_and_never_harms(model, files, wanted):
    assert opened(append_zip(model, files)).metadata == wanted


def test_a_damaged_zip_leaves_the_model_usable(model):
    append_zip(model, {"metadata.json": json.dumps({"task": "detect", "names": ["x" * 50] * 50})})
    content = bytearray(model.read_bytes())
    start = content.index(b"metadata.json") + 20
    content[start : start + 30] = bytes(30)
    model.write_bytes(content)
    assert opened(model).metadata == {}


@needs_shared
@pytest.mark.parametrize(
    ("name", "classes"), [("yolo11n_640_int8", 80), ("yolo11n_416_int8_full", 80), ("yolov8n_320_int8_nms", 80)]
)
def test_the_metadata_of_real_exports_is_read(name, classes):
    assert len(opened(MODELS / f"{name}.tflite").metadata["names"]) == classes


@needs_shared
def test_quantisation_is_given_where_there_is_one_scale():
    backend = opened(MODELS / "yolo11n_416_int8_full.tflite")
    assert backend.inputs[0].spec.quant == Quantisation(pytest.approx(1 / 255, rel=1e-6), -128)
    assert backend.outputs[0].quant == Quantisation(pytest.approx(0.0045247, rel=1e-4), -119)
    assert opened(MODELS / "yolo11n_640_int8.tflite").outputs[0].quant is None


@needs_shared
@pytest.mark.parametrize("name", ["yolo11n_416_int8_full", "yolov8n_320_int8_nms", "ssd_mobilenet_pets"])
def test_real_models_give_what_the_interpreter_gives_by_copies(name):
    path = MODELS / f"{name}.tflite"
    views, copies = opened(path), opened(path, in_place=False)
    picture = np.random.default_rng(0).integers(0, 100, views.inputs[0].spec.shape)
    for backend in (views, copies):
        backend.inputs[0].array[...] = picture
    for ours, theirs in zip(views.infer(), copies.infer(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
