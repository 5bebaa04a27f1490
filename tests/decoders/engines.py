"""Runs a model of the fixtures on a picture in the plainest way, without the product's backends and preprocessing."""

import ast
import json
import zipfile
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.core.datatypes import InputFormat, ModelSpec, Quantisation, TensorSpec
from edge_agent.core.letterbox import Letterbox
from edge_agent.models import bare
from tests.fixtures import SHARED

FIXTURES = SHARED / "fixtures"


@cache
def model_of(name: str, *, with_labels: bool = True) -> ModelSpec:
    path = FIXTURES / "models" / name
    engine = _engine(name)
    labels = next((file for file in map(path.with_suffix, (".txt", ".pbtxt")) if file.exists()), None)
    return bare.describe(
        bare.identify(path),
        engine.metadata,
        engine.inputs,
        engine.outputs,
        labels if with_labels else None,
    )


def run(name: str, picture: str, wanted: InputFormat):
    """The outputs, and the letterbox the picture went in with."""
    model, image = model_of(name), cv2.imread(str(FIXTURES / "images" / picture))
    spec = model.inputs[0]
    planar = spec.shape[1] == 3
    height, width = spec.shape[2:] if planar else spec.shape[1:3]
    letterbox = Letterbox.fit((image.shape[1], image.shape[0]), (width, height), wanted.fit)
    canvas = np.full((height, width, 3), wanted.pad_value, np.uint8)
    inside = canvas[letterbox.pad_top :, letterbox.pad_left :][: letterbox.inner_h, : letterbox.inner_w]
    inside[:] = cv2.resize(image, (letterbox.inner_w, letterbox.inner_h), interpolation=cv2.INTER_LINEAR)
    # by a table made in double precision: a last bit more or less moves the scores of models quantised at run time
    table = (np.arange(256)[:, None] * wanted.scale - wanted.mean) / wanted.std
    pixels = canvas if wanted.channels == "bgr" else canvas[..., ::-1]
    tensor = np.stack([table[pixels[..., i], i] for i in range(3)], axis=-1).astype(np.float32)
    if spec.quant:
        info = np.iinfo(spec.dtype)
        tensor = np.clip(np.rint(tensor / spec.quant.scale + spec.quant.zero_point), info.min, info.max)
    tensor = tensor.transpose(2, 0, 1) if planar else tensor
    return _engine(name).infer(np.ascontiguousarray(tensor[None], spec.dtype)), letterbox


@cache
def _engine(name: str):
    path = FIXTURES / "models" / name
    return _Onnx(path) if path.suffix == ".onnx" else _Tflite(path)


class _Tflite:
    def __init__(self, path: Path) -> None:
        litert = pytest.importorskip("ai_edge_litert.interpreter")
        self._interpreter = litert.Interpreter(str(path), num_threads=2)
        self._interpreter.allocate_tensors()
        self.inputs = [_litert_spec(detail) for detail in self._interpreter.get_input_details()]
        self.outputs = [_litert_spec(detail) for detail in self._interpreter.get_output_details()]
        self.metadata = _appended(path) if zipfile.is_zipfile(path) else {}

    def infer(self, tensor):
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]


class _Onnx:
    def __init__(self, path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.inputs = [_onnx_spec(value) for value in self._session.get_inputs()]
        self.outputs = [_onnx_spec(value) for value in self._session.get_outputs()]
        self.metadata = self._session.get_modelmeta().custom_metadata_map

    def infer(self, tensor):
        return self._session.run(None, {self.inputs[0].name: tensor})


def _litert_spec(detail) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    quant = Quantisation(scale, zero_point) if scale else None
    return TensorSpec(detail["name"], tuple(map(int, detail["shape"])), np.dtype(detail["dtype"]), quant)


def _onnx_spec(value) -> TensorSpec:
    return TensorSpec(value.name, tuple(value.shape), np.dtype(np.float32))


def _appended(path: Path):
    with zipfile.ZipFile(path) as archive:
        name = archive.namelist()[0]
        text = archive.read(name).decode()
        return json.loads(text) if name.endswith(".json") else ast.literal_eval(text)
