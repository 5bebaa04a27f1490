"""The DETR family: RT-DETR, D-FINE, DEIM, RF-DETR, DETR, YOLOS and their like.

A model gives a fixed number of queries, each a box; queries are a set, so there is no NMS. Four layouts:

- `chosen`, the official exports of RT-DETR, D-FINE and DEIM: `labels [1, K]`, `boxes [1, K, 4]` xyxy and `scores
  [1, K]`, the best K over all queries and classes. They multiply the boxes by an input `orig_target_sizes`, (width,
  height). It is set to (1, 1) for good, so that boxes come as fractions of the input, whatever the order of the two.
- `logits`, RF-DETR (`dets`, `labels`) and Hugging Face (`pred_boxes`, `logits`): boxes `[1, Q, 4]` and logits
  `[1, Q, C]`. With sigmoids a query may be several classes, and the best Q over all queries and classes count, as in
  the post-processing of RT-DETR, D-FINE and RF-DETR; with a softmax its best class counts, as in DETR's.
- `rows`, Ultralytics since 8.4: `[1, K, 6]`: a box, its score, its class.
- `classes`, Ultralytics before: `[1, K, 4+nc]`: a box and the probability of each class; the best class counts.

Boxes are centre and size in fractions of the input but for `chosen`. The picture is stretched to the input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core import detr
from edge_agent.core.boxes import cxcywh_to_xyxy, to_detections
from edge_agent.core.datatypes import (
    Array,
    Detections,
    FloatArray,
    InputFormat,
    ModelSpec,
    Recognition,
    TensorSpec,
    Thresholds,
)
from edge_agent.core.detr import Background, Layout, Scores, Slots
from edge_agent.core.heads import input_wh
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.pixels import FORMATS
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import dequantise, require_readable
from edge_agent.core.refusals import check_classes, check_unit, labels_for, required_labels, unclear, unexpected
from edge_agent.core.scores import best_classes, softmax
from edge_agent.core.ultralytics import BOX
from edge_agent.errors import ModelError

Boxes = Literal["pixels", "normalised"]
Normalisation = Literal["none", "imagenet"]

_SIZES, _MASK = "orig_target_sizes", "pixel_mask"
_LOGIT_SLACK = 0.01  # far above the rounding of a sigmoid: what lies within it is judged by its score


class Config(BaseModel):
    """How to read a model of the DETR family. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["detr"] = Field("detr", description="RT-DETR, D-FINE, DEIM, RF-DETR, DETR and their like.")
    layout: Layout | None = Field(
        None,
        description="`chosen` is labels, boxes and scores; `logits` is boxes and logits; `rows` is [1, K, 6] and "
        "`classes` [1, K, 4+nc], both of Ultralytics.",
    )
    scores: Scores | None = Field(None, description="What makes scores of the layout `logits`.")
    background: Background | None = Field(
        None, description="Which of the numbers of the layout `logits` stands for no object."
    )
    boxes: Boxes | None = Field(
        None, description="Of the layout `chosen`: `pixels` of the model input, or `normalised` to 0..1."
    )
    normalisation: Normalisation | None = Field(
        None, description="Of the picture, beyond 0..1: `none`, or `imagenet`, its mean and standard deviation."
    )


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a model of the family, by its metadata or its tensors' names; None where not."""
    found = detr.known(model)
    return found and Recognition(found[0], {"layout": found[1]}, found[2])


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the model does not fit the configuration, its labels do not fit its classes, or what the
            configuration leaves open cannot be found out.
    """
    layout = config.layout or _layout(model)
    places = detr.find(model, layout)
    specs = [model.outputs[place] for place in places]
    for spec in specs:
        if not (layout == "chosen" and spec is specs[0]):
            require_readable(model.name, spec)
    if layout == "rows":
        return RowsDecoder(config, model, thresholds)
    if layout == "classes":
        return ClassesDecoder(config, model, thresholds)
    if layout == "chosen":
        return ChosenDecoder(config, model, places, thresholds)
    return LogitsDecoder(config, model, places, thresholds)


class RowsDecoder:
    """Reads `[1, K, 6]`: centre, size, score, class."""

    def __init__(self, config: Config, model: ModelSpec, thresholds: Thresholds) -> None:
        if model.outputs[0].quant is not None:
            raise ModelError(
                f"{model.name}: {model.outputs[0]} is quantised, which does not leave class numbers whole; export the "
                "model with float outputs"
            )
        self._thresholds = thresholds
        self.labels = required_labels(model)
        self.input_format = _input_format(model, config.normalisation or "none")

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. Rows of a class without a label are broken."""
        with np.errstate(all="ignore"):  # broken numbers are dropped, not warned of
            rows: FloatArray = outputs[0][0].astype(np.float32)
            found = _above(rows[:, 4], np.rint(rows[:, 5]), len(self.labels), self._thresholds)
            boxes = cxcywh_to_xyxy(rows[found, :BOX]) * letterbox.model_whwh
            classes = np.rint(rows[found, 5]).astype(np.int32)
            return to_detections(boxes, rows[found, 4], classes, letterbox, self._thresholds.max_detections, None)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes that are no fractions, and classes that are not whole or have no label."""
        rows = outputs[0][0].astype(np.float32)
        check_unit(rows[:, :BOX], 'kind = "yolo"', fractions=True)
        numbers = rows[np.isfinite(rows).all(axis=1), 5]
        check_classes(numbers, self.labels)
        if (numbers != np.rint(numbers)).any():
            raise unexpected(
                "the last column, which should be classes, is not whole numbers", 'kind = "detr"\nlayout = "classes"'
            )


class ClassesDecoder:
    """Reads `[1, K, 4+nc]`: centre, size, and the probability of each class."""

    def __init__(self, config: Config, model: ModelSpec, thresholds: Thresholds) -> None:
        self._quant = model.outputs[0].quant
        self._thresholds = thresholds
        self.labels = labels_for(model, model.outputs[0], model.outputs[0].shape[2] - BOX)
        self.input_format = _input_format(model, config.normalisation or "none")

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`."""
        with np.errstate(all="ignore"):
            rows = dequantise(outputs[0][0], self._quant)
            return _best_of_each(rows[:, :BOX], rows[:, BOX:], letterbox, self._thresholds)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes that are no fractions, and probabilities above 1."""
        rows = dequantise(outputs[0][0], self._quant)
        check_unit(rows[:, :BOX], 'kind = "yolo"', fractions=True)
        if (rows[:, BOX:] > 1 + 1e-3).any():
            raise unexpected("what should be probabilities is above 1", 'kind = "detr"\nlayout = "rows"')


class ChosenDecoder:
    """Reads labels, boxes and scores, which the model has chosen itself."""

    def __init__(self, config: Config, model: ModelSpec, places: Sequence[int], thresholds: Thresholds) -> None:
        sized = any(spec.name == _SIZES for spec in model.inputs)
        self._fractions = (config.boxes or ("normalised" if sized else "pixels")) == "normalised"
        self._places = places
        self._quants = [model.outputs[place].quant for place in places]
        self._thresholds = thresholds
        self.labels = required_labels(model)
        self.input_format = _input_format(model, config.normalisation or "none", fractions=self._fractions)

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. Rows of a class without a label are broken."""
        with np.errstate(all="ignore"):
            numbers, boxes, scores = self._read(outputs)
            found = _above(scores, numbers, len(self.labels), self._thresholds)
            boxes = boxes[found] * letterbox.model_whwh if self._fractions else boxes[found]
            limit = self._thresholds.max_detections
            return to_detections(boxes, scores[found], numbers[found].astype(np.int32), letterbox, limit, None)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes in the other unit, and classes without a label."""
        numbers, boxes, _ = self._read(outputs)
        check_classes(numbers, self.labels)
        check_unit(boxes, 'kind = "detr"\nboxes = "{seen}"', fractions=self._fractions)

    def _read(self, outputs: Sequence[Array]) -> tuple[Array, FloatArray, FloatArray]:
        labels, *others = (outputs[place][0] for place in self._places)
        boxes, scores = (dequantise(tensor, quant) for tensor, quant in zip(others, self._quants[1:], strict=True))
        return np.rint(labels) if labels.dtype.kind == "f" else labels, boxes, scores


class LogitsDecoder:
    """Reads boxes and logits."""

    def __init__(self, config: Config, model: ModelSpec, places: Sequence[int], thresholds: Thresholds) -> None:
        self._boxes, self._logits = places
        self._quants = [model.outputs[place].quant for place in places]
        self._slots = detr.slots(model, model.outputs[self._logits], config.scores, config.background)
        self._columns = np.array(self._slots.columns, np.intp)
        self._floor = np.float32(_logit(thresholds.conf) - _LOGIT_SLACK)
        self._thresholds = thresholds
        self.labels = self._slots.labels
        self.input_format = _input_format(
            model, config.normalisation or _normalisation(model.outputs[self._logits], self._slots)
        )

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`."""
        with np.errstate(all="ignore"):
            boxes, logits = self._read(outputs)
            if self._slots.scores == "softmax":
                return _best_of_each(boxes, softmax(logits)[:, self._columns], letterbox, self._thresholds)
            some = np.flatnonzero((logits > self._floor).any(axis=1))  # the sigmoid of all would be most of the work
            scores: FloatArray = np.float32(1) / (1 + np.exp(-logits[some][:, self._columns]))
            rows, classes = np.nonzero(scores > np.float32(self._thresholds.conf))
            limit = min(len(boxes), self._thresholds.max_detections)
            whole = cxcywh_to_xyxy(boxes[some[rows]]) * letterbox.model_whwh
            return to_detections(whole, scores[rows, classes], classes, letterbox, limit, None)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: boxes that are no fractions, and logits that look like probabilities."""
        boxes, logits = self._read(outputs)
        check_unit(boxes, fractions=True)
        if logits.size and logits.any() and ((logits >= 0) & (logits <= 1)).all():
            raise ModelError(
                "all logits of the warm-up run are between 0 and 1, as if they were probabilities already; export the "
                "model without its post-processing"
            )

    def _read(self, outputs: Sequence[Array]) -> tuple[FloatArray, FloatArray]:
        boxes, logits = (
            dequantise(outputs[place][0], quant)
            for place, quant in zip((self._boxes, self._logits), self._quants, strict=True)
        )
        return boxes, logits


def _logit(share: float) -> float:
    """What a sigmoid makes this share of."""
    if not 0 < share < 1:
        return -math.inf if share <= 0 else math.inf
    return math.log(share / (1 - share))


def _layout(model: ModelSpec) -> Layout:
    found = detr.known(model)
    if found:
        return found[1]
    by_number: dict[int, Layout] = {2: "logits", 3: "chosen"}
    if len(model.outputs) in by_number:
        return by_number[len(model.outputs)]
    problem = f"which layout {', '.join(map(str, model.outputs))} is cannot be told"
    setting = 'layout = "rows"     # [1, K, 6]; or "classes", [1, K, 4 + classes]; or "chosen"; or "logits"'
    raise unclear(model, problem, "detr", setting)


def _normalisation(logits: TensorSpec, slots: Slots) -> Normalisation:
    """RF-DETR and DETR want ImageNet's; of those with sigmoids, RT-DETR and D-FINE, which are the most, want none."""
    return "imagenet" if logits.name == detr.ROBOFLOW[1] or slots.scores == "softmax" else "none"


def _input_format(model: ModelSpec, normalisation: Normalisation, *, fractions: bool = True) -> InputFormat:
    wh = (1, 1) if fractions else input_wh(model.inputs[0]) or (1, 1)
    known: Mapping[str, tuple[float, ...]] = {_SIZES: (float(wh[0]), float(wh[1])), _MASK: (1.0,)}
    constants = {spec.name: known[spec.name] for spec in model.inputs if spec.name in known}
    counts = FORMATS["imagenet" if normalisation == "imagenet" else "zero_to_one"]
    return replace(counts, fit="stretch", constants=constants)


def _above(scores: FloatArray, numbers: Array, classes: int, thresholds: Thresholds) -> Array:
    """Which rows are above the threshold and of a class that has a label."""
    return np.flatnonzero((scores > np.float32(thresholds.conf)) & (numbers >= 0) & (numbers < classes))


def _best_of_each(boxes: FloatArray, scores: FloatArray, letterbox: Letterbox, thresholds: Thresholds) -> Detections:
    """Each query by its best class."""
    classes, best = best_classes(scores)
    found = np.flatnonzero(best > np.float32(thresholds.conf))
    whole = cxcywh_to_xyxy(boxes[found]) * letterbox.model_whwh
    return to_detections(whole, best[found], classes[found], letterbox, thresholds.max_detections, None)
