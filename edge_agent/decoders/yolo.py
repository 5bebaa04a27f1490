"""YOLO detection heads as Ultralytics exports them: v5u, 8, 9, 11, 12 (dense); v10, 26 and `nms=True` (end to end).

dense    `[1, 4+nc, N]` or `[1, N, 4+nc]`: for each cell of the grids centre x, centre y, width, height, then one
         probability for each class. NMS is done here.
end2end  `[1, K, 6]`: left, top, right, bottom, score, class. NMS is done in the model; unused rows are zero.

A decoder has two things beyond its port: `labels`, a name for every class it can give, and `check(outputs)`, to be
called once with what the warm-up run gave: it raises `ModelError` where boxes are not in the unit expected.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core import ultralytics
from edge_agent.core.boxes import cxcywh_to_xyxy, to_detections
from edge_agent.core.datatypes import (
    Array,
    Detections,
    FloatArray,
    InputFormat,
    ModelSpec,
    Recognition,
    Thresholds,
)
from edge_agent.core.heads import Layout, labels_for
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import comparable, dequantise, floor_of, require_readable
from edge_agent.core.ultralytics import BOX, Boxes, Head, Reading
from edge_agent.errors import ModelError

_FRACTION_MOST = 2.0  # a box in fractions reaches a little over 1, one in pixels far beyond


class Config(BaseModel):
    """How to read a YOLO model. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["yolo"] = Field("yolo", description="An Ultralytics YOLO detection model.")
    head: Head | None = Field(None, description="`dense` needs NMS; `end2end` is [1, K, 6], with NMS done.")
    boxes: Boxes | None = Field(None, description="`pixels` of the model input, or `normalised` to 0..1.")
    layout: Layout | None = Field(
        None, description="Of the dense head: `channels_first` is [1, 4+nc, N], `anchors_first` is [1, N, 4+nc]."
    )


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a YOLO detection model, by its metadata, its tensors' names, or its shapes; None where not.

    Raises:
        ModelError: it is one, but of a task that cannot be read yet, or how to read it is not certain.
    """
    found = ultralytics.detection(model)
    if found is None:
        return None
    how = ultralytics.reading(model)
    settings = {"head": how.head, "boxes": how.boxes} | ({"layout": how.layout} if how.layout else {})
    return Recognition(found[0], settings, found[1])


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the model does not fit the configuration, its labels do not fit its classes, or what the
            configuration leaves open cannot be found out.
    """
    how = ultralytics.reading(model, config.head, config.boxes, config.layout)
    require_readable(model.name, model.outputs[0])
    return EndToEndDecoder(how, model, thresholds) if how.head == "end2end" else DenseDecoder(how, model, thresholds)


class DenseDecoder:
    """Reads the dense head; the best class of each cell counts. It keeps a buffer: only one thread may use it."""

    def __init__(self, how: Reading, model: ModelSpec, thresholds: Thresholds) -> None:
        spec = model.outputs[0]
        self._fractions = how.boxes == "normalised"
        self._channels_first = how.layout == "channels_first"
        self._quant = spec.quant
        self._floor = floor_of(thresholds.conf, spec)
        self._thresholds = thresholds
        self._buffer: Array = np.empty(0, spec.dtype)
        self.labels = labels_for(model, spec.shape[1 if self._channels_first else 2] - BOX)
        self.input_format = InputFormat()

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. `outputs` is the one tensor `[1, 4+nc, N]` or `[1, N, 4+nc]`."""
        with np.errstate(all="ignore"):  # broken numbers are dropped, not warned of
            found = self._above_threshold(comparable(outputs[0][0]))
            if not found.size:
                return Detections.empty()
            rows = self._real(outputs[0][0], found)
            classes = rows[:, BOX:].argmax(axis=1)
            scores = rows[np.arange(len(rows)), classes + BOX]
            boxes = cxcywh_to_xyxy(rows[:, :BOX])
            if self._fractions:
                boxes *= _input_whwh(letterbox)
            limit, iou_threshold = self._thresholds.max_detections, self._thresholds.iou
            return to_detections(boxes, scores, classes, letterbox, limit, iou_threshold)

    def check(self, outputs: Sequence[Array]) -> None:
        """See the module."""
        tensor = outputs[0][0]
        rows = self._real(tensor, np.arange(tensor.shape[1 if self._channels_first else 0]))
        _check_unit(rows[:, :BOX], fractions=self._fractions)

    def _above_threshold(self, stored: Array) -> NDArray[np.intp]:
        """The cells that have a class above the threshold, ascending."""
        if self._channels_first:
            self._fit_buffer(stored.shape[1:], stored.dtype)
            best = np.max(stored[BOX:], axis=0, out=self._buffer)
            return np.flatnonzero(best > self._floor)
        # numpy's max is ten times slower along short rows: here every number is compared instead
        self._fit_buffer(stored.shape, np.dtype(bool))
        above = np.greater(stored, self._floor, out=self._buffer)
        above[:, :BOX] = False
        return np.unique(np.flatnonzero(above) // stored.shape[1])

    def _fit_buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if self._buffer.shape != shape or self._buffer.dtype != dtype:
            self._buffer = np.empty(shape, dtype)

    def _real(self, tensor: Array, found: NDArray[np.intp]) -> FloatArray:
        """`(K, 4+nc)` real numbers of the cells found."""
        return dequantise(tensor[:, found].T if self._channels_first else tensor[found], self._quant)


class EndToEndDecoder:
    """Reads the end-to-end head, which has chosen its boxes itself."""

    def __init__(self, how: Reading, model: ModelSpec, thresholds: Thresholds) -> None:
        if not model.labels:
            raise ModelError(
                f"{model.name}: an end-to-end head does not show how many classes it has, and the file does not name "
                'them; write labels = "FILE" under [model], a text file with one name per line'
            )
        if model.outputs[0].quant is not None:
            raise ModelError(
                f"{model.name}: {model.outputs[0]} is quantised, which does not leave class numbers whole; export the "
                "model with float outputs, or with end2end=False and nms=False"
            )
        self._fractions = how.boxes == "normalised"
        self._thresholds = thresholds
        self.labels = model.labels
        self.input_format = InputFormat()

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. `outputs` is the one tensor `[1, K, 6]`; rows of a class without a label are broken."""
        with np.errstate(all="ignore"):
            rows: FloatArray = outputs[0][0].astype(np.float32)
            numbers = np.rint(rows[:, 5])
            known = (numbers >= 0) & (numbers < len(self.labels))
            found = np.flatnonzero(known & (rows[:, 4] > np.float32(self._thresholds.conf)))
            if not found.size:
                return Detections.empty()
            rows, classes = rows[found], numbers[found].astype(np.int32)
            boxes = rows[:, :BOX] * _input_whwh(letterbox) if self._fractions else rows[:, :BOX]
            return to_detections(boxes, rows[:, 4], classes, letterbox, self._thresholds.max_detections, None)

    def check(self, outputs: Sequence[Array]) -> None:
        """See the module."""
        _check_unit(outputs[0][0][:, :BOX].astype(np.float32), fractions=self._fractions)


def _input_whwh(letterbox: Letterbox) -> FloatArray:
    return np.array([letterbox.model_w, letterbox.model_h] * 2, np.float32)


def _check_unit(boxes: FloatArray, *, fractions: bool) -> None:
    """Boxes of any picture tell their unit: the dense head's cover the whole picture. Empty rows tell nothing."""
    reach = np.abs(boxes).max(axis=1)
    reach = reach[np.isfinite(reach) & (reach > 0)]
    if not reach.size or (np.median(reach) <= _FRACTION_MOST) == fractions:
        return
    said, seen = ("normalised", "pixels") if fractions else ("pixels", "normalised")
    raise ModelError(
        f"boxes should be {said}, but those of the warm-up run look {seen}: half of them reach {np.median(reach):.4g} "
        f'or more; write\n[model.decoder]\nkind = "yolo"\nboxes = "{seen}"'
    )
