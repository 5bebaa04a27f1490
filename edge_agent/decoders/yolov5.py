"""YOLOv5 heads as YOLOv5's own exporter and YOLOv7's give them: `[1, 3 x cells, 5+nc]`, with objectness.

For each of three anchors of each cell of the grids: centre x, centre y, width, height, objectness, then one
probability for each class; the score is objectness x class. With a single class it is the objectness alone: the class
column is not trained then, and YOLOv7 leaves it out for that reason (`utils/general.py`, `non_max_suppression`). Boxes
are in pixels of the model input from ONNX and TensorRT, in fractions of it from TensorFlow (`models/tf.py`). YOLOv5 for
segmentation has 32 mask coefficients more, and prototypes as a second output: only its boxes are used.

Models that Ultralytics' later package exports (v5u) have no objectness and are `yolo`. The files say no more of
themselves than `stride` and `names`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.boxes import cxcywh_to_xyxy, to_detections
from edge_agent.core.datatypes import (
    Array,
    Certainty,
    Detections,
    FloatArray,
    InputFormat,
    IntArray,
    ModelSpec,
    Recognition,
    TensorSpec,
    Thresholds,
)
from edge_agent.core.heads import STRIDES, cells, input_wh, is_grey, is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import comparable, dequantise, floor_of, quietly, require_readable, rows_of
from edge_agent.core.refusals import check_unit, labels_for, unclear
from edge_agent.core.scores import best_classes
from edge_agent.core.ultralytics import Boxes
from edge_agent.errors import ModelError

_ANCHORS = 3
_OBJECTNESS = 4
_CLASSES = 5
_MASKS = 32
_HEAD_RANK, _PROTOS_RANK, _RAW_RANK = 3, 4, 5


class Config(BaseModel):
    """How to read a YOLOv5 or YOLOv7 model. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["yolov5"] = Field("yolov5", description="A YOLOv5 or YOLOv7 detection model, with objectness.")
    boxes: Boxes | None = Field(None, description="`pixels` of the model input, or `normalised` to 0..1.")


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a YOLOv5 or YOLOv7 model: three rows for each cell tell it; None if not.

    Raises:
        ModelError: it is one, but without its detection layer, or the unit of its boxes is not certain.
    """
    if len(model.inputs) != 1 or "task" in model.metadata:
        return None
    _refuse_raw(model)
    spec = _head(model)
    if spec is None:
        return None
    settings = {"boxes": _boxes(model)}
    if {"stride", "names"} <= model.metadata.keys():
        return Recognition(Certainty.METADATA, settings, "its metadata and its shape are those of a YOLOv5 export")
    why = f"its output has the shape {list(spec.shape)}: three rows for each cell of the grids"
    return Recognition(Certainty.SHAPES, settings, why)


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the shapes are not those of a YOLOv5 model, its labels do not fit its classes, or the unit of its
            boxes is not certain.
    """
    _refuse_raw(model)
    spec = _head(model)
    if spec is None:
        outputs = ", ".join(map(str, model.outputs))
        raise ModelError(
            f"{model.name}: {outputs} for the input {model.inputs[0]} is not YOLOv5's: [1, N, 5 + classes], with a fixed "
            "input size, batch 1, and three rows for every cell of 8, 16 and 32 (and 64) pixels"
        )
    require_readable(model.name, spec)
    return YoloV5Decoder(config.boxes or _boxes(model), spec, model, thresholds)


class YoloV5Decoder:
    """Reads the head of a YOLOv5 or YOLOv7 model."""

    def __init__(self, boxes: Boxes, spec: TensorSpec, model: ModelSpec, thresholds: Thresholds) -> None:
        self._fractions = boxes == "normalised"
        self._output = model.outputs.index(spec)
        self._end = spec.shape[2] - (_MASKS if _has_protos(model) else 0)
        self._quant = spec.quant
        self._floor = floor_of(thresholds.conf, spec)
        self._thresholds = thresholds
        self.labels = labels_for(model, spec, self._end - _CLASSES)
        self.input_format = InputFormat(channels="grey" if is_grey(model.inputs[0]) else "rgb")

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. The head is `[1, N, 5+nc]`; other outputs are not looked at."""
        tensor = outputs[self._output][0]
        # no class probability is above 1, so a low objectness alone decides
        found = (comparable(tensor[:, _OBJECTNESS]) > self._floor).nonzero()[0]
        if not found.size:
            return Detections.empty()
        rows = dequantise(rows_of(tensor, found, channels_first=False), self._quant)
        with quietly(rows):
            classes, scores = self._best_classes(rows)
            above = (scores > np.float32(self._thresholds.conf)).nonzero()[0]
            boxes = cxcywh_to_xyxy(rows[:, :4].take(above, axis=0))
            if self._fractions:
                boxes *= letterbox.model_whwh
            limit, iou_threshold = self._thresholds.max_detections, self._thresholds.iou
            return to_detections(boxes, scores.take(above), classes.take(above), letterbox, limit, iou_threshold)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes in the other unit."""
        boxes = dequantise(outputs[self._output][0][:, :4], self._quant)
        check_unit(boxes, 'kind = "yolov5"\nboxes = "{seen}"', fractions=self._fractions)

    def _best_classes(self, rows: FloatArray) -> tuple[IntArray, FloatArray]:
        """`(K,)` the best class of each row, and its score."""
        if self._end - _CLASSES == 1:
            return np.zeros(len(rows), np.int32), rows[:, _OBJECTNESS]
        classes, scores = best_classes(rows[:, _CLASSES : self._end])
        return classes, scores * rows[:, _OBJECTNESS]


def _head(model: ModelSpec) -> TensorSpec | None:
    """The one output that has three rows for each cell. Older exports give the raw heads, or prototypes, besides."""
    wh = input_wh(model.inputs[0]) if len(model.inputs) == 1 else None
    if wh is None:
        return None
    counts = {_ANCHORS * cells(wh, strides) for strides in (STRIDES, (*STRIDES, 64))}
    extra = _MASKS if _has_protos(model) else 0
    heads = [spec for spec in model.outputs if len(spec.shape) == _HEAD_RANK]
    fitting = [
        spec
        for spec in heads
        if spec.shape[0] in {1, -1} and spec.shape[1] in counts and spec.shape[2] > _CLASSES + extra
    ]
    return fitting[0] if len(heads) == len(fitting) == 1 else None


def _has_protos(model: ModelSpec) -> bool:
    return any(len(spec.shape) == _PROTOS_RANK for spec in model.outputs)


def _refuse_raw(model: ModelSpec) -> None:
    ranks = {len(spec.shape) for spec in model.outputs}
    if ranks == {_RAW_RANK} and all(spec.shape[1] == _ANCHORS for spec in model.outputs):
        raise ModelError(
            f"{model.name}: {', '.join(map(str, model.outputs))} are the raw heads of YOLOv5 or YOLOv7, without the layer "
            "that makes boxes of them; export it again: YOLOv5 with export.py --include onnx and without --train, "
            "YOLOv7 with export.py --grid"
        )


def _boxes(model: ModelSpec) -> Boxes:
    planar = is_planar(model.inputs[0])
    if planar is False:
        return "normalised"  # only exports by way of TensorFlow have the channels last
    if model.format in ("onnx", "engine"):
        return "pixels"
    raise unclear(model, "the unit of its boxes is not certain", "yolov5", 'boxes = "pixels"     # or "normalised"')
