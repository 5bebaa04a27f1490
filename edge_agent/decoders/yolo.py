"""YOLO heads as Ultralytics exports them: v5u, 8, 9, 11, 12 (dense); v10, 26 and `nms=True` (end to end).

dense    `[1, 4+nc+extra, N]` or `[1, N, 4+nc+extra]`: for each cell of the grids centre x, centre y, width, height,
         one probability for each class, and what the task adds. NMS is done here.
end2end  `[1, K, 6+extra]`: left, top, right, bottom, score, class, and what the task adds. NMS is done in the model;
         unused rows are zero.

Models for segmentation, pose and oriented boxes are used for their boxes: masks and keypoints are not looked at. A box
of `obb` is centre, width and height in both heads; the angle, in radians, is what the task adds. It becomes the upright
rectangle around it, after NMS on the rotated boxes.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from edge_agent.core import ultralytics
from edge_agent.core.boxes import cxcywh_to_xyxy, rotated_to_detections, to_detections
from edge_agent.core.datatypes import (
    Array,
    Detections,
    FloatArray,
    InputFormat,
    IntArray,
    ModelSpec,
    Recognition,
    Thresholds,
)
from edge_agent.core.heads import Layout, is_grey
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import comparable, dequantise, floor_of, quietly, require_readable, rows_of
from edge_agent.core.refusals import check_classes, check_unit, labels_for, required_labels
from edge_agent.core.scores import best_classes
from edge_agent.core.ultralytics import BOX, Boxes, Head, Reading, Settings, Task
from edge_agent.errors import ModelError


class Config(BaseModel):
    """How to read a YOLO model. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["yolo"] = Field("yolo", description="An Ultralytics YOLO model.")
    task: Task | None = Field(
        None,
        description="What the model was trained for. Masks and keypoints are not used, but must be told from classes.",
    )
    keypoints: tuple[PositiveInt, Literal[2, 3]] | None = Field(
        None,
        description="Of a pose model: how many keypoints, and how many numbers for each (2 or 3), as its kpt_shape.",
    )
    head: Head | None = Field(None, description="`dense` needs NMS; `end2end` is [1, K, 6 or more], with NMS done.")
    boxes: Boxes | None = Field(None, description="`pixels` of the model input, or `normalised` to 0..1.")
    layout: Layout | None = Field(
        None, description="Of the dense head: `channels_first` is [1, 4+nc, N], `anchors_first` is [1, N, 4+nc]."
    )


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a YOLO model that finds boxes, by its metadata, its tensors' names, or its shapes; None if not.

    Raises:
        ModelError: it is one, but of a task that finds no boxes, or how to read it is not certain.
    """
    found = ultralytics.recognised(model)
    if found is None:
        return None
    how = ultralytics.reading(model)
    settings: dict[str, Any] = {"head": how.head, "boxes": how.boxes}
    settings |= {"layout": how.layout} if how.layout else {}
    settings |= {"task": how.task} if how.task != "detect" else {}
    settings |= {"keypoints": how.keypoints} if how.keypoints else {}
    return Recognition(found[0], settings, found[1])


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the model does not fit the configuration, its labels do not fit its classes, or what the
            configuration leaves open cannot be found out.
    """
    given = Settings(config.task, config.head, config.boxes, config.layout, config.keypoints)
    how = ultralytics.reading(model, given)
    require_readable(model.name, model.outputs[how.output])
    return EndToEndDecoder(how, model, thresholds) if how.head == "end2end" else DenseDecoder(how, model, thresholds)


class DenseDecoder:
    """Reads the dense head; the best class of each cell counts. It keeps a buffer: only one thread may use it."""

    def __init__(self, how: Reading, model: ModelSpec, thresholds: Thresholds) -> None:
        spec = model.outputs[how.output]
        self._how = how
        self._channels_first = how.layout == "channels_first"
        self._quant = spec.quant
        self._floor = floor_of(thresholds.conf, spec)
        self._thresholds = thresholds
        self._buffer: Array = np.empty(0, spec.dtype)
        self._end = spec.shape[1 if self._channels_first else 2] - how.extra
        self._shape = _shape_columns(how)
        self.labels = labels_for(model, spec, self._end - BOX)
        self.input_format = _input_format(model)

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. The head is `[1, 4+nc+extra, N]` or `[1, N, 4+nc+extra]`; other outputs are not looked at."""
        tensor = outputs[self._how.output][0]
        found = self._above_threshold(comparable(tensor))
        if not found.size:
            return Detections.empty()
        rows = rows_of(tensor, found, channels_first=self._channels_first)
        classes, scores = best_classes(rows[:, BOX : self._end])
        shapes, scores = dequantise(rows[:, self._shape], self._quant), dequantise(scores, self._quant)
        return _detections(shapes, scores, classes, letterbox, self._how, self._thresholds)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes in the other unit, and scores that are no probabilities."""
        tensor = outputs[self._how.output][0]
        rows = dequantise(tensor.T if self._channels_first else tensor, self._quant)
        _check_unit(rows, self._how)
        ultralytics.check_scores(rows[:, BOX : self._end])

    def _above_threshold(self, stored: Array) -> NDArray[np.intp]:
        """The cells that have a class above the threshold, ascending."""
        if self._channels_first:
            self._fit_buffer(stored.shape[1:], stored.dtype)
            best = np.maximum.reduce(stored[BOX : self._end], axis=0, out=self._buffer)
            above: NDArray[np.intp] = (best > self._floor).nonzero()[0]
            return above
        # numpy's max is ten times slower along short rows: here every number is compared instead
        self._fit_buffer(stored.shape, np.dtype(bool))
        each = np.greater(stored, self._floor, out=self._buffer)
        each[:, :BOX] = each[:, self._end :] = False
        return np.unique(np.flatnonzero(each) // stored.shape[1])

    def _fit_buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if self._buffer.shape != shape or self._buffer.dtype != dtype:
            self._buffer = np.empty(shape, dtype)


class EndToEndDecoder:
    """Reads the end-to-end head, which has chosen its boxes itself."""

    def __init__(self, how: Reading, model: ModelSpec, thresholds: Thresholds) -> None:
        self.labels = required_labels(model)
        if model.outputs[how.output].quant is not None:
            raise ModelError(
                f"{model.name}: {model.outputs[how.output]} is quantised, which does not leave class numbers whole; export the "
                "model with float outputs, or with end2end=False and nms=False"
            )
        self._how = how
        self._shape = _shape_columns(how)
        self._floor = np.float32(thresholds.conf)
        self._thresholds = thresholds
        self.input_format = _input_format(model)

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. The head is `[1, K, 6+extra]`; rows of a class without a label are broken."""
        tensor = outputs[self._how.output][0]
        found = (tensor[:, 4].astype(np.float32, copy=False) > self._floor).nonzero()[0]
        rows = tensor.take(found, axis=0).astype(np.float32, copy=False)
        classes = np.rint(rows[:, 5])
        if found.size and not (np.minimum.reduce(classes) >= 0 and np.maximum.reduce(classes) < len(self.labels)):
            known = np.flatnonzero((classes >= 0) & (classes < len(self.labels)))
            rows, classes = rows[known], classes[known]
        if not len(rows):
            return Detections.empty()
        shapes, numbers = rows[:, self._shape], classes.astype(np.int32)
        return _detections(shapes, rows[:, 4], numbers, letterbox, self._how, self._thresholds)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes in the other unit, and classes without a label. Unused rows tell nothing."""
        rows = outputs[self._how.output][0].astype(np.float32)
        _check_unit(rows, self._how)
        check_classes(np.rint(rows[np.isfinite(rows).all(axis=1), 5]), self.labels)


def _shape_columns(how: Reading) -> slice | list[int]:
    """The columns of a box, and that of its angle."""
    return [*range(BOX), -1] if how.task == "obb" else slice(BOX)


def _detections(
    shapes: FloatArray,
    scores: FloatArray,
    classes: IntArray,
    letterbox: Letterbox,
    how: Reading,
    thresholds: Thresholds,
) -> Detections:
    """What these are: `(K, 4)` boxes, or `(K, 5)` with an angle, which are turned in pixels: fractions would shear them."""
    limit, iou_threshold = thresholds.max_detections, thresholds.iou if how.head == "dense" else None
    with quietly(shapes):
        boxes = shapes[:, :BOX]
        if how.boxes == "normalised":
            boxes = boxes * letterbox.model_whwh
        if how.task == "obb":
            rotated = np.concatenate([boxes, shapes[:, BOX:]], axis=1)
            return rotated_to_detections(rotated, scores, classes, letterbox, limit, iou_threshold)
        boxes = cxcywh_to_xyxy(boxes) if how.head == "dense" else boxes
        return to_detections(boxes, scores, classes, letterbox, limit, iou_threshold)


def _check_unit(rows: FloatArray, how: Reading) -> None:
    check_unit(rows[:, :BOX], 'kind = "yolo"\nboxes = "{seen}"', fractions=how.boxes == "normalised")


def _input_format(model: ModelSpec) -> InputFormat:
    return InputFormat(channels="grey" if is_grey(model.inputs[0]) else "rgb")
