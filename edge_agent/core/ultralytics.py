"""What a model exported by Ultralytics says about itself, and what can be told from its tensors where it says nothing.

The facts are those of Ultralytics 8.4 (`engine/exporter`, `nn/modules/head`, `nn/backends`): ONNX and TensorRT give
boxes in pixels of the model input; TFLite with `[1, H, W, 3]` input gives fractions of it; TFLite with `[1, 3, H, W]`
input gives fractions from the dense head and pixels from the end-to-end head. Angles are radians everywhere.

Behind the class columns stand, by task: nothing (`detect`), 32 mask coefficients (`segment`), two or three columns for
each keypoint (`pose`), the angle (`obb`). In number they look like more classes: only metadata or configuration tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from edge_agent.core.datatypes import Certainty, FloatArray, ModelSpec, TensorSpec
from edge_agent.core.heads import STRIDES, Layout, cells, input_wh, is_planar, layouts
from edge_agent.core.refusals import unclear, unexpected
from edge_agent.errors import ModelError

Head = Literal["dense", "end2end"]
Boxes = Literal["pixels", "normalised"]
Task = Literal["detect", "segment", "pose", "obb"]
Keypoints = tuple[int, int]
"""How many there are, and how many columns each has: 2 or 3."""

BOX = 4
"""Columns of a box."""
ROW = 6
"""Columns of the end-to-end head before those of its task: a box, its score and its class."""

_MASKS = 32
_CALLED: dict[str, str] = {"detect": "detection", "segment": "segmentation", "pose": "pose", "obb": "oriented box"}
_MORE_STRIDES = ((4, *STRIDES), (*STRIDES, 64))  # the P2 and P6 variants
_ONNX_NAMES = ("images", "output0")
_MEGVII_NAMES = ("images", "output")  # YOLOX
_HEAD_RANK, _PROTOS_RANK = 3, 4
_SCORE_SLACK = 0.05  # of quantised scores
_TASKS_TO_WRITE = 'task = "segment"     # or "pose", with keypoints = [17, 3]; or "obb"'


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says; what is None must be found out."""

    task: Task | None = None
    head: Head | None = None
    boxes: Boxes | None = None
    layout: Layout | None = None
    keypoints: Keypoints | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a model.

    `layout` is None for the end-to-end head, which has but one. `output` is the position of the head among the
    outputs, `extra` the number of columns behind those of the classes (or of the class), `keypoints` None but for pose.
    """

    task: Task
    head: Head
    boxes: Boxes
    layout: Layout | None
    output: int
    extra: int
    keypoints: Keypoints | None


def recognised(model: ModelSpec) -> tuple[Certainty, str] | None:
    """How surely `model` is a YOLO model that finds boxes, and by what; None where it is not one.

    Raises:
        ModelError: it is a YOLO model that finds no boxes, or its shape is that of other families as well.
    """
    says = model.metadata
    if is_export(says):
        if is_rtdetr(says) or says["task"] == "classify":
            return None
        called = _CALLED.get(str(says["task"]))
        if called is None:
            raise ModelError(
                f"{model.name}: this is a YOLO model for the task {says['task']!r}, which finds no boxes; "
                f"{', '.join(_CALLED)} and classify can be read"
            )
        return Certainty.METADATA, f"its metadata is that of an Ultralytics {called} model"
    index = _head_index(model)
    if index is None or _names(model, index) == _MEGVII_NAMES or not _shaped_like_yolo(model, index):
        return None
    if _names(model, index) == _ONNX_NAMES:
        return Certainty.NAMES, "its tensors are named images and output0, as Ultralytics names them"
    return Certainty.SHAPES, f"its output has the shape {list(model.outputs[index].shape)}"


def is_export(metadata: Mapping[str, Any]) -> bool:
    """Whether this is what an export by Ultralytics says of itself; what YOLOv5's own exporter says has no task."""
    return {"task", "stride", "names"} <= metadata.keys()


def is_rtdetr(metadata: Mapping[str, Any]) -> bool:
    """Whether this is the metadata of an export by Ultralytics of RT-DETR; the `head` stands there since 8.4."""
    named = metadata.get("head") == "RTDETRDecoder" or "rtdetr" in str(metadata.get("description", "")).lower()
    return named and is_export(metadata)


def reading(model: ModelSpec, given: Settings | None = None) -> Reading:
    """How to read `model`, found out for whatever is not given.

    Raises:
        ModelError: its outputs are not those of such a model, or something cannot be told; the message says what to
            write.
    """
    given = given or Settings()
    index = _head_index(model)
    if index is None:
        outputs = ", ".join(map(str, model.outputs))
        raise ModelError(
            f"{model.name}: a YOLO detection model has one output of three dimensions, and one of four if it is for "
            f"segmentation, not {outputs}"
        )
    spec = model.outputs[index]
    if spec.shape[0] > 1:
        raise ModelError(f"{model.name}: it takes {spec.shape[0]} pictures at a time; export it with batch=1")
    task = given.task or _task(model)
    keypoints = (given.keypoints or _keypoints(model)) if task == "pose" else None
    extra = keypoints[0] * keypoints[1] if keypoints else {"segment": _MASKS, "obb": 1}.get(task, 0)
    head = given.head or _head(model, spec, extra)
    if head == "end2end" and spec.shape[2] != ROW + extra:
        problem = f"an end-to-end head for the task {task} has {ROW + extra} columns, not {spec.shape[2]}"
        raise unclear(model, problem, "yolo", 'head = "dense"')
    layout = None if head == "end2end" else given.layout or _layout(model, spec)
    columns = spec.shape[1 if layout == "channels_first" else 2]
    if columns <= BOX + extra:
        problem = f"{columns} columns are too few for the task {task}"
        raise unclear(model, problem, "yolo", 'task = "detect"     # or "obb"; or "pose", with the keypoints it has')
    return Reading(task, head, given.boxes or _boxes(model, index, head), layout, index, extra, keypoints)


def check_scores(scores: FloatArray) -> None:
    """Class probabilities lie in 0..1; mask coefficients, keypoints and angles that are taken for them do not.

    Raises:
        ModelError: some do not; the message says what to write.
    """
    scores = scores[np.isfinite(scores)]
    if not scores.size or (scores.min() >= -_SCORE_SLACK and scores.max() <= 1 + _SCORE_SLACK):
        return
    raise unexpected(
        f"the class columns go from {scores.min():.4g} to {scores.max():.4g}, so not all of them are probabilities; if "
        "the model is for segmentation, pose or oriented boxes",
        f'kind = "yolo"\n{_TASKS_TO_WRITE}',
    )


def _head_index(model: ModelSpec) -> int | None:
    """Which output is the head: the only one of three dimensions, alone or with the prototypes of masks, of four."""
    ranks = [len(spec.shape) for spec in model.outputs]
    if len(model.inputs) != 1 or ranks.count(_HEAD_RANK) != 1 or len(ranks) != 1 + ranks.count(_PROTOS_RANK):
        return None
    return ranks.index(_HEAD_RANK) if len(ranks) <= 2 else None  # noqa: PLR2004 - head, prototypes


def _names(model: ModelSpec, index: int) -> tuple[str, str]:
    return model.inputs[0].name, model.outputs[index].name


def _shaped_like_yolo(model: ModelSpec, index: int) -> bool:
    """Whether the shape would do. YOLOX has one column more than YOLO, which only the number of labels can tell."""
    spec = model.outputs[index]
    _, rows, columns = spec.shape
    wh = input_wh(model.inputs[0])
    possible = _layouts(model, spec)
    if len(model.outputs) > 1:
        if possible or columns == ROW + _MASKS:
            raise unclear(model, "its two outputs may be those of YOLO for segmentation", "yolo", 'task = "segment"')
        return False
    if not possible and columns == ROW and not (wh and rows == 3 * cells(wh)):  # three anchors: YOLOv5 and 7
        problem = f"[1, {rows}, 6] may be YOLO's end-to-end head, an export with NMS inside, or RT-DETR"
        raise unclear(model, problem, "yolo", "# if it is not RT-DETR")
    named = _names(model, index) == _ONNX_NAMES
    if possible == ["anchors_first"] and not model.labels and not named:
        problem = f"[1, {rows}, {columns}] may be YOLO with {columns - 4} classes or YOLOX with {columns - 5}"
        raise unclear(model, problem, "yolo", '# or "yolox"')
    counts = [rows if layout == "channels_first" else columns for layout in possible]
    fitting = [count for count in counts if count - BOX - 1 != len(model.labels)]
    if model.labels and fitting and min(fitting) - BOX > len(model.labels):
        _refuse_more_columns(model, min(fitting))
    return bool(fitting)


def _refuse_more_columns(model: ModelSpec, columns: int) -> None:
    classes = len(model.labels)
    problem = (
        f"{columns} columns are those of a box, of the {classes} labels, and {columns - BOX - classes} more. Either "
        "labels are missing, or the model is for segmentation, pose or oriented boxes"
    )
    raise unclear(model, problem, "yolo", _TASKS_TO_WRITE)


def _layouts(model: ModelSpec, spec: TensorSpec) -> list[Layout]:
    more = _MORE_STRIDES if is_export(model.metadata) else ()
    return layouts(model.inputs[0], spec, *more)


def _task(model: ModelSpec) -> Task:
    said = model.metadata.get("task", "detect" if len(model.outputs) == 1 else None)
    for task in get_args(Task):
        if task == said:
            found: Task = task
            return found
    raise unclear(model, "what it is for is not certain", "yolo", 'task = "segment"     # or "detect", "pose", "obb"')


def _keypoints(model: ModelSpec) -> Keypoints:
    match model.metadata.get("kpt_shape"):
        case [int(count), int(columns)] if count > 0 and columns in {2, 3}:
            return count, columns
    problem = "how many keypoints it has, and how many numbers each, is not certain"
    raise unclear(model, problem, "yolo", 'task = "pose"\nkeypoints = [17, 3]')


def _head(model: ModelSpec, spec: TensorSpec, extra: int) -> Head:
    args = model.metadata.get("args")
    done = isinstance(args, Mapping) and args.get("nms") is True
    if done or model.metadata.get("end2end") is True:
        return "end2end"
    return "end2end" if spec.shape[2] == ROW + extra and not _layouts(model, spec) else "dense"


def _layout(model: ModelSpec, spec: TensorSpec) -> Layout:
    possible = _layouts(model, spec)
    if len(possible) == 1:
        return possible[0]
    problem = f"which dimension of {list(spec.shape)} counts the boxes is not certain"
    raise unclear(
        model, problem, "yolo", 'layout = "channels_first"     # [1, 4+nc, N]; or "anchors_first", [1, N, 4+nc]'
    )


def _boxes(model: ModelSpec, index: int, head: Head) -> Boxes:
    planar = is_planar(model.inputs[0])
    if planar is False:
        return "normalised"  # only exports by way of TensorFlow have the channels last
    if planar and model.format == "tflite":
        return "normalised" if head == "dense" else "pixels"
    if planar and (model.format in ("onnx", "engine") or _names(model, index) == _ONNX_NAMES):
        return "pixels"
    raise unclear(model, "the unit of its boxes is not certain", "yolo", 'boxes = "pixels"     # or "normalised"')
