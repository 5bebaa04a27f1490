"""SSD and EfficientDet models whose graph ends in the post-processing of TensorFlow Lite: four outputs for N rows.

boxes `[1, N, 4]`: top, left, bottom, right in fractions of the picture, which may lie outside of 0..1.
classes, scores `[1, N]`: of each box; NMS is done in the graph. count `[1]`: how many of the rows count.

N may differ from run to run, and the order of the outputs is that of no standard (0 is the first):
`TFLite_Detection_PostProcess` has boxes, classes, scores, count, which TF1's exporter keeps;
`StatefulPartitionedCall:0` to `:3` are count, scores, classes, boxes, in any order (TF2's `export_tflite_graph_lib_tf2`,
EfficientDet-Lite of Model Maker). So shapes tell boxes and count; and of the other two, classes are whole numbers and
scores go from 0 to 1, which every run with a score that is not whole proves. Names are believed until then.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.boxes import to_detections
from edge_agent.core.datatypes import (
    Array,
    Certainty,
    Detections,
    FloatArray,
    InputFormat,
    ModelSpec,
    Recognition,
    TensorSpec,
    Thresholds,
)
from edge_agent.core.heads import is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.pixels import FORMATS, Range, range_of
from edge_agent.core.ports import Decoder
from edge_agent.core.refusals import check_classes, check_unit, required_labels, unclear, unexpected
from edge_agent.errors import ModelError

_OUTPUTS = 4
_COUNTED = re.compile(r"(?:.*/)?(TFLite_Detection_PostProcess|StatefulPartitionedCall)(?:_\d+)?(?::([0-3]))?")
_ORDERS = {
    "TFLite_Detection_PostProcess": ("boxes", "classes", "scores", "count"),
    "StatefulPartitionedCall": ("count", "scores", "classes", "boxes"),
}
_WORDS = (("classes", ("class", "categor", "label")), ("scores", ("score", "confidence", "prob")))
_NORMALISED_INPUT = "normalized_input_image_tensor"
"""Of TF1's exporter, -1..1. That of TF2, `serving_default_input`, is -1..1 for MobileNet and ImageNet's for EfficientDet."""

_XYXY = [1, 0, 3, 2]
_SCORE_MOST = 1.001  # rounding


class Config(BaseModel):
    """How to read an SSD or EfficientDet model. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ssd"] = Field("ssd", description="An SSD or EfficientDet model with the post-processing inside.")
    input: Range | None = Field(
        None,
        description="What the model's input counts: 0..1, -1..1, ImageNet's mean and deviation taken off, or pixels 0..255.",
    )
    first_class: Literal[0, 1] | None = Field(
        None, description="The number of the first class: 0 in TFLite's post-processing, 1 in other TensorFlow graphs."
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the outputs stand. Of the two `others` one is the classes: the first, the second, or not known (None)."""

    boxes: int
    count: int
    others: tuple[int, int]
    classes_first: bool | None
    named: bool


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a model with TFLite's post-processing, by the names of its outputs or by their shapes.

    Raises:
        ModelError: it is an SSD without the post-processing, or what its input counts is not certain.
    """
    if any(output.name.startswith("raw_outputs/") for output in model.outputs):
        raise ModelError(
            f"{model.name}: this is an SSD without the post-processing, of which nothing but raw anchors come; export "
            "it again with it (add_postprocessing_op=true; for TF2 export_tflite_graph_tf2.py)"
        )
    places = _places(model)
    foreign = {"task", "stride"} & model.metadata.keys()  # YOLOv5 and its heirs, whose boxes begin with the left side
    if len(model.inputs) != 1 or places is None or is_planar(model.inputs[0]) is not False or foreign:
        return None
    settings = {"input": _range(model), "first_class": _first_class(model)}
    if places.named:
        names = ", ".join(output.name for output in model.outputs)
        return Recognition(Certainty.NAMES, settings, f"its outputs are named {names}")
    why = "its four outputs have the shapes of boxes, classes, scores and a count"
    return Recognition(Certainty.SHAPES, settings, why)


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: the outputs are not those of the post-processing, or there are no labels.
    """
    places = _places(model)
    outputs = ", ".join(map(str, model.outputs))
    if places is None or model.outputs[places.boxes].shape[0] > 1:
        raise ModelError(
            f"{model.name}: the outputs {outputs} are not those of an SSD with its post-processing: boxes [1, N, 4], "
            "classes [1, N], scores [1, N] and a count [1]; export it with the post-processing and batch 1"
        )
    if any(output.quant is not None for output in model.outputs):
        raise ModelError(
            f"{model.name}: the outputs {outputs} are quantised, which does not leave class numbers whole; export the "
            "model again with float outputs"
        )
    return SsdDecoder(config, model, places, thresholds)


class SsdDecoder:
    """Reads the four outputs. It remembers which one the classes are, once a run has shown it: one thread uses it."""

    def __init__(self, config: Config, model: ModelSpec, places: _Places, thresholds: Thresholds) -> None:
        self._places = places
        self._classes_first = places.classes_first
        self._thresholds = thresholds
        self._first_class = _first_class(model) if config.first_class is None else config.first_class
        self._names = [output.name for output in model.outputs]
        self.labels = required_labels(model)
        self.input_format = _input_format(model.inputs[0], config.input or _range(model))

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. `outputs` are the four tensors; rows of a class without a label are broken."""
        with np.errstate(all="ignore"):  # broken numbers are dropped, not warned of
            boxes, first, second = self._rows(outputs)
            if not self._know_classes(first, second):
                return Detections.empty()
            classes, scores = (first, second) if self._classes_first else (second, first)
            numbers = classes - self._first_class
            known = (numbers == np.rint(numbers)) & (numbers >= 0) & (numbers < len(self.labels))
            found = np.flatnonzero(known & (scores > np.float32(self._thresholds.conf)) & (scores <= _SCORE_MOST))
            if not found.size:
                return Detections.empty()
            pixels = boxes[found][:, _XYXY] * letterbox.model_whwh
            limit = self._thresholds.max_detections
            return to_detections(pixels, scores[found], numbers[found].astype(np.int32), letterbox, limit, None)

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: outputs that are not those four, and classes without a label. No rows tell nothing."""
        with np.errstate(all="ignore"):
            boxes, first, second = self._rows(outputs)
        if not len(boxes):
            return
        if not (_fit(first, second) or _fit(second, first)):
            one, other = (self._names[place] for place in self._places.others)
            raise ModelError(
                f"neither the output {one} nor {other} is whole class numbers, with scores from 0 to 1 in the other: "
                "this is not the post-processing of an SSD; choose another decoder, or export the model again"
            )
        check_unit(boxes, fractions=True)
        if self._know_classes(first, second):
            self._check_labels(first if self._classes_first else second)

    def _rows(self, outputs: Sequence[Array]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The rows that count and have no broken numbers: boxes `(K, 4)`, and `(K,)` of each of the others."""
        boxes = outputs[self._places.boxes].reshape(-1, 4).astype(np.float32)
        first, second = (outputs[place].ravel().astype(np.float32) for place in self._places.others)
        count = outputs[self._places.count].ravel()[:1].astype(np.float64)
        most = min(len(boxes), len(first), len(second))
        rows = int(np.clip(count[0], 0, most)) if np.isfinite(count).any() else 0
        boxes, first, second = boxes[:rows], first[:rows], second[:rows]
        sound = np.isfinite(boxes).all(axis=1) & np.isfinite(first) & np.isfinite(second)
        return boxes[sound], first[sound], second[sound]

    def _know_classes(self, first: FloatArray, second: FloatArray) -> bool:
        """Whether it is known which of the two the classes are: by this run, by one before, or by their names."""
        possible = _fit(first, second), _fit(second, first)
        if possible[0] != possible[1]:
            self._classes_first = possible[0]
        return self._classes_first is not None

    def _check_labels(self, classes: FloatArray) -> None:
        check_classes(classes, self.labels, self._first_class)
        if classes.min() < self._first_class:
            raise unexpected("the model counts its classes from 0", 'kind = "ssd"\nfirst_class = 0')


def _fit(classes: FloatArray, scores: FloatArray) -> bool:
    """Whether all rows can be classes and scores, in this order; also where there are none."""
    whole = (classes >= 0) & (classes == np.rint(classes))
    return bool((whole & (scores >= 0) & (scores <= _SCORE_MOST)).all())


def _places(model: ModelSpec) -> _Places | None:
    """By shapes, which must be those of the four; then by types and names. None where it is another model."""
    outputs = model.outputs
    boxes = [i for i, output in enumerate(outputs) if len(output.shape) == 3 and output.shape[2] == 4]  # noqa: PLR2004
    rows = [i for i, output in enumerate(outputs) if len(output.shape) == 2]  # noqa: PLR2004 - batch and rows
    counts = [i for i, output in enumerate(outputs) if len(output.shape) <= 1] or [
        i
        for i in rows
        if outputs[i].shape[1] == 1 and len(rows) > 2  # noqa: PLR2004 - classes, scores
    ]
    others = [i for i in rows if i not in counts]
    if (len(outputs), len(boxes), len(counts), len(others)) != (_OUTPUTS, 1, 1, 2):
        return None
    first, second = others
    whole = [outputs[i].dtype.kind in "iu" for i in others]
    roles = _named_roles([output.name for output in outputs])
    agree = roles.get(boxes[0]) in {None, "boxes"} and roles.get(counts[0]) in {None, "count"}
    named = agree and {roles.get(first), roles.get(second)} == {"classes", "scores"}
    classes_first = roles[first] == "classes" if named else None
    if whole[0] != whole[1]:
        classes_first = whole[0]
    return _Places(boxes[0], counts[0], (first, second), classes_first, named)


def _named_roles(names: Sequence[str]) -> dict[int, str]:
    """What outputs are by their names, of those whose names say it."""
    roles = {}
    for place, name in enumerate(names):
        counted = _COUNTED.fullmatch(name)
        said = [role for role, words in _WORDS if any(word in name.lower() for word in words)]
        if counted:
            roles[place] = _ORDERS[counted[1]][int(counted[2] or 0)]
        elif len(said) == 1:
            roles[place] = said[0]
    return roles


def _range(model: ModelSpec) -> Range:
    """What the input counts, where that is certain."""
    spec = model.inputs[0]
    if spec.dtype.kind in "iu":
        return "imagenet" if range_of(spec) == "imagenet" else "pixels"
    if spec.name.partition(":")[0] == _NORMALISED_INPUT:
        return "minus_one_to_one"
    setting = (
        'input = "minus_one_to_one"     # MobileNet; or "imagenet" (EfficientDet), "zero_to_one", "pixels" (0..255)'
    )
    raise unclear(model, f"what its input {spec} counts is not certain", "ssd", setting)


def _first_class(model: ModelSpec) -> int:
    """Graphs that keep TensorFlow's own names keep its numbers too, in which 0 is the background."""
    own = any(output.name.partition(":")[0].endswith("detection_classes") for output in model.outputs)
    return 1 if own and model.format != "tflite" else 0


def _input_format(spec: TensorSpec, counts: Range) -> InputFormat:
    if counts != "pixels" or (spec.quant is None and spec.dtype != np.int8):
        return replace(FORMATS[counts], fit="stretch")
    # of quantised inputs the pixels are the stored numbers, whatever real ones these stand for; int8 from -128 on
    scale, zero = (spec.quant.scale, spec.quant.zero_point) if spec.quant else (1.0, 0)
    zero += 128 if spec.dtype == np.int8 else 0
    return InputFormat(fit="stretch", scale=scale, mean=(zero * scale,) * 3)
