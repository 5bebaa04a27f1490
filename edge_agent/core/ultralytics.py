"""What a model exported by Ultralytics says about itself, and what can be told from its tensors where it says nothing.

The facts are those of Ultralytics 8.4 (`engine/exporter`, `nn/backends`): ONNX and TensorRT give boxes in pixels of
the model input; TFLite with `[1, H, W, 3]` input gives fractions of it; TFLite with `[1, 3, H, W]` input gives
fractions from the dense head and pixels from the end-to-end head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.core.datatypes import Certainty, ModelSpec
from edge_agent.core.heads import STRIDES, Layout, cells, input_wh, is_planar, layouts
from edge_agent.errors import ModelError

Head = Literal["dense", "end2end"]
Boxes = Literal["pixels", "normalised"]

BOX = 4
"""Columns of a box."""
ROW = 6
"""Columns of the end-to-end head: a box, its score and its class."""

_MORE_STRIDES = ((4, *STRIDES), (*STRIDES, 64))  # the P2 and P6 variants
_ONNX_NAMES = ("images", "output0")
_MEGVII_NAMES = ("images", "output")  # YOLOX


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a detection model. `layout` is None for the end-to-end head, which has but one."""

    head: Head
    boxes: Boxes
    layout: Layout | None


def detection(model: ModelSpec) -> tuple[Certainty, str] | None:
    """How surely `model` is a YOLO detection model, and by what; None where it is not one.

    Raises:
        ModelError: it is a YOLO model for another task, or its shape is that of other families as well.
    """
    says = model.metadata
    if _is_export(says):
        if says.get("head") == "RTDETRDecoder" or "rtdetr" in str(says.get("description", "")).lower():
            return None
        if says["task"] != "detect":
            raise ModelError(
                f"{model.name}: this is a YOLO model for the task {says['task']!r}; only 'detect' can be read so far"
            )
        return Certainty.METADATA, "its metadata is that of an Ultralytics detection model"
    if not _has_one_output(model) or _names(model) == _MEGVII_NAMES or not _shaped_like_yolo(model):
        return None
    if _names(model) == _ONNX_NAMES:
        return Certainty.NAMES, "its tensors are named images and output0, as Ultralytics names them"
    return Certainty.SHAPES, f"its output has the shape {list(model.outputs[0].shape)}"


def reading(
    model: ModelSpec, head: Head | None = None, boxes: Boxes | None = None, layout: Layout | None = None
) -> Reading:
    """How to read `model`, found out for whatever is not given.

    Raises:
        ModelError: its outputs are not those of a detection model, or something cannot be told; the message says
            what to write.
    """
    if not _has_one_output(model):
        outputs = ", ".join(map(str, model.outputs))
        raise ModelError(f"{model.name}: a YOLO detection model has one output of three dimensions, not {outputs}")
    if model.outputs[0].shape[0] > 1:
        raise ModelError(
            f"{model.name}: it takes {model.outputs[0].shape[0]} pictures at a time; export it with batch=1"
        )
    head = head or _head(model)
    columns = model.outputs[0].shape[2]
    if head == "end2end" and columns != ROW:
        raise _unclear(model, f"an end-to-end head has 6 columns, not {columns}", 'head = "dense"')
    if head == "end2end":
        return Reading(head, boxes or _boxes(model, head), None)
    return Reading(head, boxes or _boxes(model, head), layout or _layout(model))


def _is_export(metadata: Mapping[str, Any]) -> bool:
    return {"task", "stride", "names"} <= metadata.keys()


def _has_one_output(model: ModelSpec) -> bool:
    return len(model.inputs) == len(model.outputs) == 1 and len(model.outputs[0].shape) == 3  # noqa: PLR2004 - rank


def _names(model: ModelSpec) -> tuple[str, str]:
    return model.inputs[0].name, model.outputs[0].name


def _shaped_like_yolo(model: ModelSpec) -> bool:
    """Whether the shape would do. YOLOX has one column more than YOLO, which only the number of labels can tell."""
    _, rows, columns = model.outputs[0].shape
    wh = input_wh(model.inputs[0])
    possible = _layouts(model)
    if not possible and columns == ROW and not (wh and rows == 3 * cells(wh)):  # three anchors: YOLOv5 and 7
        problem = f"[1, {rows}, 6] may be YOLO's end-to-end head, an export with NMS inside, or RT-DETR"
        raise _unclear(model, problem, 'kind = "yolo"     # if it is not RT-DETR')
    if possible == ["anchors_first"] and not model.labels and _names(model) != _ONNX_NAMES:
        problem = f"[1, {rows}, {columns}] may be YOLO with {columns - 4} classes or YOLOX with {columns - 5}"
        raise _unclear(model, problem, 'kind = "yolo"     # or "yolox"')
    counts = [rows if layout == "channels_first" else columns for layout in possible]
    return any(count - BOX - 1 != len(model.labels) for count in counts)


def _layouts(model: ModelSpec) -> list[Layout]:
    more = _MORE_STRIDES if _is_export(model.metadata) else ()
    return layouts(model.inputs[0], model.outputs[0], *more)


def _head(model: ModelSpec) -> Head:
    args = model.metadata.get("args")
    done = isinstance(args, Mapping) and args.get("nms") is True
    if done or model.metadata.get("end2end") is True:
        return "end2end"
    return "end2end" if model.outputs[0].shape[2] == ROW and not _layouts(model) else "dense"


def _layout(model: ModelSpec) -> Layout:
    possible = _layouts(model)
    if len(possible) == 1:
        return possible[0]
    problem = f"which dimension of {list(model.outputs[0].shape)} counts the boxes is not certain"
    raise _unclear(model, problem, 'layout = "channels_first"     # [1, 4+nc, N]; or "anchors_first", [1, N, 4+nc]')


def _boxes(model: ModelSpec, head: Head) -> Boxes:
    planar = is_planar(model.inputs[0])
    if planar is False:
        return "normalised"  # only exports by way of TensorFlow have the channels last
    if planar and model.format == "tflite":
        return "normalised" if head == "dense" else "pixels"
    if planar and (model.format in ("onnx", "engine") or _names(model) == _ONNX_NAMES):
        return "pixels"
    raise _unclear(model, "the unit of its boxes is not certain", 'boxes = "pixels"     # or "normalised"')


def _unclear(model: ModelSpec, problem: str, setting: str) -> ModelError:
    kind = "" if setting.startswith("kind") else 'kind = "yolo"\n'
    return ModelError(f"{model.name}: {problem}; write\n[model.decoder]\n{kind}{setting}")
