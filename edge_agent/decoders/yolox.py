"""YOLOX detection heads as Megvii exports them: `[1, N, 5+nc]`, or `[1, 5+nc, N]` after some converters.

For each cell of the grids: x, y, width, height, objectness, then one probability for each class; the score is
objectness x class. Boxes are relative to their cell (x and y in cells from its corner, width and height as logarithms
of cells) unless the model was exported with `--decode_in_inference`, which gives centre and size in pixels of the
model input (Megvii YOLOX 0.3, `models/yolo_head.py`). The picture goes in as BGR 0..255, padded right and below.
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
    ModelSpec,
    Recognition,
    Thresholds,
)
from edge_agent.core.heads import Layout, corners_and_strides, input_wh, layouts
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import comparable, dequantise, floor_of, quietly, require_readable, rows_of
from edge_agent.core.refusals import labels_for, unexpected
from edge_agent.core.scores import best_classes
from edge_agent.errors import ModelError

_OBJECTNESS = 4
_CLASSES = 5
_NAMES = ("images", "output")
_LOG_MOST = 80.0  # the exponential of more is no float32


class Config(BaseModel):
    """How to read a YOLOX model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["yolox"] = Field("yolox", description="A Megvii YOLOX detection model.")
    decoded: bool = Field(
        default=False, description="Whether it was exported with --decode_in_inference: boxes in pixels already."
    )
    layout: Layout | None = Field(
        None, description="`anchors_first` is [1, N, 5+nc], `channels_first` is [1, 5+nc, N]; found out by the shape."
    )


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a YOLOX model, by its tensors' names, or by its shape and the number of labels; None if not."""
    if len(model.inputs) != 1 or len(model.outputs) != 1 or "task" in model.metadata:
        return None
    spec = model.outputs[0]
    possible = layouts(model.inputs[0], spec) if len(spec.shape) == 3 else []  # noqa: PLR2004 - batch, rows, columns
    if len(possible) != 1:
        return None
    settings = {"decoded": False, "layout": possible[0]}
    if (model.inputs[0].name, spec.name) == _NAMES:
        return Recognition(Certainty.NAMES, settings, "its tensors are named images and output, as Megvii names them")
    if len(model.labels) == _classes(model, possible[0]):
        why = f"its output has the shape {list(spec.shape)}: 5 columns more than the {len(model.labels)} labels"
        return Recognition(Certainty.SHAPES, settings, why)
    return None


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the shapes are not those of a YOLOX model, or its labels do not fit its classes.
    """
    spec = model.outputs[0]
    possible = layouts(model.inputs[0], spec) if len(spec.shape) == 3 else []  # noqa: PLR2004 - batch, rows, columns
    layout = config.layout or (possible[0] if possible else None)
    wh = input_wh(model.inputs[0])
    if wh is None or layout not in possible or spec.shape[0] > 1:
        raise ModelError(
            f"{model.name}: {spec} for the input {model.inputs[0]} is not YOLOX's: [1, N, 5 + classes], with a fixed "
            "input size and one N for every cell of 8, 16 and 32 pixels; export it with a fixed size and batch 1"
        )
    require_readable(model.name, spec)
    labels = labels_for(model, spec, _classes(model, layout))
    return YoloxDecoder(config, layout, wh, model, labels, thresholds)


class YoloxDecoder:
    """Reads the head of a YOLOX model of one input size."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        wh: tuple[int, int],
        model: ModelSpec,
        labels: tuple[str, ...],
        thresholds: Thresholds,
    ) -> None:
        self._decoded = config.decoded
        self._transposed = layout == "channels_first"
        self._wh = wh
        self._corners, self._strides = corners_and_strides(wh)
        self._quant = model.outputs[0].quant
        self._floor = floor_of(thresholds.conf, model.outputs[0])
        self._thresholds = thresholds
        self.labels = labels
        self.input_format = InputFormat(fit="letterbox_top_left", channels="bgr", scale=1.0)

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. `outputs` is the one tensor `[1, N, 5+nc]` or `[1, 5+nc, N]`."""
        # no class probability is above 1, so a low objectness alone decides
        found = (comparable(self._cells(outputs)[:, _OBJECTNESS]) > self._floor).nonzero()[0]
        if not found.size:
            return Detections.empty()
        rows = rows_of(outputs[0][0], found, channels_first=self._transposed)
        classes, best = best_classes(rows[:, _CLASSES:])
        boxes = dequantise(rows[:, :_CLASSES], self._quant)
        with quietly(boxes) if self._decoded else quietly(boxes, _LOG_MOST):
            scores = dequantise(best, self._quant) * boxes[:, _OBJECTNESS]
            above = (scores > np.float32(self._thresholds.conf)).nonzero()[0]
            boxes = self._boxes(boxes.take(above, axis=0), found.take(above))
            limit, iou_threshold = self._thresholds.max_detections, self._thresholds.iou
            return to_detections(boxes, scores.take(above), classes.take(above), letterbox, limit, iou_threshold)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes that are relative, or are not, and YOLOv6, which looks the same.

        Relative centres lie within a few cells, those in pixels all over the picture.
        """
        rows = dequantise(self._cells(outputs), self._quant)
        if (rows[:, _OBJECTNESS] == 1).all():
            raise unexpected("every cell has an objectness of 1, as YOLOv6 has it, which wants another picture")
        x = np.abs(rows[np.isfinite(rows[:, 0]), 0])
        if not x.size or (np.median(x) > self._wh[0] / 8) == self._decoded:
            return
        seen = "relative to the cells" if self._decoded else "pixels"
        raise unexpected(
            f"boxes look {seen}, which was not expected", f'kind = "yolox"\ndecoded = {str(not self._decoded).lower()}'
        )

    def _cells(self, outputs: Sequence[Array]) -> Array:
        """`(N, 5+nc)`, a view."""
        tensor: Array = outputs[0][0]
        return tensor.T if self._transposed else tensor

    def _boxes(self, rows: FloatArray, cells: Array) -> FloatArray:
        """`(K, 4)` xyxy in pixels of the model input, of the rows of these cells."""
        if self._decoded:
            return cxcywh_to_xyxy(rows[:, :4])
        stride = self._strides[cells]
        centres = (rows[:, :2] + self._corners[cells]) * stride
        return cxcywh_to_xyxy(np.concatenate([centres, np.exp(rows[:, 2:4]) * stride], axis=1))


def _classes(model: ModelSpec, layout: Layout) -> int:
    return model.outputs[0].shape[1 if layout == "channels_first" else 2] - _CLASSES
