"""From a trained net to the two files that the agent reads: ONNX in float, TFLite in int8."""

import copy
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_agent.cameras.simulator import LABELS
from edge_agent.core.datatypes import Image
from tools.demo_model.net import HEIGHT, STRIDES, WIDTH, Exported, Net
from tools.demo_model.pictures import CALIBRATION, PER_LINE, Shrink, hard, of_line

CALIBRATION_PICTURES = 256
_OPSET = 17


def metadata() -> dict[str, Any]:
    """What the model says about itself, in the words of Ultralytics' exports, which the agent and others read."""
    return {
        "description": "edge-agent's demo model: bottles on a simulated line",
        "author": "edge-agent",
        "license": "Apache-2.0",
        "task": "detect",
        "stride": max(STRIDES),
        "batch": 1,
        "imgsz": [HEIGHT, WIDTH],
        "names": dict(enumerate(LABELS)),
        "channels": 3,
    }


def write_onnx(net: Net, path: Path) -> None:
    """Float32, `images` `(1, 3, H, W)` to `output0` `(1, 4 + classes, N)` with boxes in pixels of the input."""
    import onnx

    whole = Exported(net, pixels=True).eval()
    example = (torch.zeros(1, 3, HEIGHT, WIDTH),)
    # the older of torch's two exporters: the newer needs another package, and gives nothing more for a net like this
    torch.onnx.export(
        whole, example, str(path), input_names=["images"], output_names=["output0"], opset_version=_OPSET, dynamo=False
    )
    model = onnx.load(path)
    for key, value in metadata().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_tflite(net: Net, path: Path) -> None:
    """Int8 throughout, `(1, H, W, 3)` to `(1, 4 + classes, N)` with boxes in fractions of the input."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    whole = litert_torch.to_channel_last_io(Exported(net, pixels=False).eval(), args=[0]).eval()
    as_float = path.with_suffix(".float.tflite")
    litert_torch.convert(whole, (torch.zeros(1, HEIGHT, WIDTH, 3),)).export(str(as_float))
    quantise = quantizer.Quantizer(str(as_float), recipe.static_wi8_ai8())
    (signature, runner) = _signature(as_float)
    (name,) = runner.get_input_details()
    shown = [{name: picture[None].astype(np.float32) / 255} for picture in calibration_pictures()]
    result = quantise.quantize(quantise.calibrate({signature: shown}))
    path.unlink(missing_ok=True)
    result.export_model(str(path))
    path.chmod(0o644)  # the quantiser makes it executable
    as_float.unlink()
    _append_metadata(path)


def calibration_pictures() -> Iterable[Image]:
    """`(H, W, 3) uint8` RGB, from lines that nothing else uses."""
    shrink = Shrink()
    for line in range(CALIBRATION_PICTURES // PER_LINE):
        for picture in of_line(hard(CALIBRATION + line)):
            yield copy.copy(shrink(picture)[0])


def _signature(path: Path) -> tuple[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (name,) = interpreter.get_signature_list()
    return name, interpreter.get_signature_runner(name)


def _append_metadata(path: Path) -> None:
    """As a zip behind the model, where Ultralytics puts it. Last of all: the quantiser would drop it."""
    entry = zipfile.ZipInfo("metadata.json", date_time=(2020, 1, 1, 0, 0, 0))  # the same file each time
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, json.dumps(metadata()))
