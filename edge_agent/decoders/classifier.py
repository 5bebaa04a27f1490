"""Classification models: one number for each class, `[1, nc]` (also `[nc]`, `[1, 1, 1, nc]`, `[1, nc, 1, 1]`).

The best class is one detection that covers the whole frame, also where the model saw only the middle of it. Ultralytics
gives probabilities and takes the centre of the picture, RGB 0..1 without a mean (for an oblong input it stretches);
those of TensorFlow mostly give probabilities, those of torchvision and timm logits, and nothing in such a file says how
its input counts: an integer input tells by its quantisation, a float input must be configured.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_agent.core.datatypes import (
    Array,
    Certainty,
    Detections,
    Fit,
    InputFormat,
    ModelSpec,
    Recognition,
    TensorSpec,
    Thresholds,
)
from edge_agent.core.heads import input_wh, is_grey, is_planar
from edge_agent.core.letterbox import Letterbox
from edge_agent.core.pixels import FORMATS, Range, range_of
from edge_agent.core.ports import Decoder
from edge_agent.core.quantised import dequantise, require_readable
from edge_agent.core.refusals import labels_for, unclear, unexpected
from edge_agent.core.scores import softmax
from edge_agent.core.ultralytics import is_export
from edge_agent.errors import ModelError

Scores = Literal["probabilities", "logits"]

_SLACK = 0.02  # of a sum of probabilities in half precision
_SURELY = 1e-3  # logits of a picture do not sum to 1 so exactly


class Config(BaseModel):
    """How to read a classification model. What is not given is found out from the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classifier"] = Field(
        "classifier", description="A classification model: the whole frame gets a label, as one detection."
    )
    scores: Scores | None = Field(
        None, description="What the outputs are. Not given: probabilities, and the first run proves that they sum to 1."
    )
    input: Range | None = Field(
        None,
        description="What the model's input counts: 0..1, -1..1, ImageNet's mean and deviation taken off, or pixels 0..255.",
    )
    fit: Literal["centre_crop", "stretch", "letterbox"] | None = Field(
        None, description="What becomes of a frame of other proportions. Not given: its centre is cut out."
    )
    top: int = Field(
        1, ge=1, le=100, description="How many classes of a frame may be reported, if their scores suffice."
    )


def recognise(model: ModelSpec) -> Recognition | None:
    """Whether this is a classification model, by its metadata, or because it gives a picture one number per label.

    Raises:
        ModelError: it may be one, but there are no labels, or more or fewer than numbers.
    """
    exported = is_export(model.metadata)
    if exported and model.metadata["task"] == "classify":
        return Recognition(Certainty.METADATA, {}, "its metadata is that of an Ultralytics classification model")
    single = len(model.inputs) == len(model.outputs) == 1 and is_planar(model.inputs[0]) is not None
    classes = _classes(model.outputs[0]) if single and not exported else None
    if classes is None:
        return None
    _labels(model, classes)
    return Recognition(Certainty.SHAPES, {}, f"it gives a picture {classes} numbers, as many as there are labels")


def create(config: Config, model: ModelSpec, thresholds: Thresholds) -> Decoder:
    """The decoder of `model`.

    Raises:
        ModelError: it does not give one number for each label, or what its input counts is not certain.
    """
    classes = _classes(model.outputs[0]) if len(model.inputs) == len(model.outputs) == 1 else None
    if classes is None:
        outputs = ", ".join(map(str, model.outputs))
        raise ModelError(
            f"{model.name}: a classification model has one output with one number for each class, [1, classes], for one "
            f"picture at a time, not {outputs}"
        )
    require_readable(model.name, model.outputs[0])
    return ClassifierDecoder(config, model, _labels(model, classes), thresholds)


class ClassifierDecoder:
    """Reads one number for each class."""

    def __init__(self, config: Config, model: ModelSpec, labels: tuple[str, ...], thresholds: Thresholds) -> None:
        self._scores = config.scores
        self._logits = config.scores == "logits"
        self._limit = min(config.top, thresholds.max_detections)
        self._conf = np.float32(thresholds.conf)
        self._quant = model.outputs[0].quant
        self.labels = labels
        self.input_format = _input_format(config, model)

    def __call__(self, outputs: Sequence[Array], letterbox: Letterbox) -> Detections:
        """See `Decoder`. `outputs` is the one tensor with one number for each class; each box is the whole frame."""
        with np.errstate(all="ignore"):  # broken numbers are dropped, not warned of
            numbers = dequantise(outputs[0].ravel(), self._quant)
            scores = softmax(numbers) if self._logits else numbers
            sure = np.flatnonzero(np.isfinite(scores) & (scores > self._conf))
        best = sure[np.argsort(-scores[sure], kind="stable")][: self._limit]
        frame = np.array([[0, 0, letterbox.frame_w, letterbox.frame_h]], np.float32)
        found = np.clip(scores[best], 0, 1).astype(np.float32)
        return Detections(frame.repeat(len(best), axis=0), found, best.astype(np.int32))

    def check(self, outputs: Sequence[Array]) -> None:
        """See `Decoder`: numbers that are no probabilities, or no logits, whichever is expected.

        The sum of many quantised probabilities proves little: each is half a step off.
        """
        numbers = dequantise(outputs[0].ravel(), self._quant)
        if not np.isfinite(numbers).all():
            return
        inside = numbers.min() >= -_SLACK and numbers.max() <= 1 + _SLACK
        total = float(numbers.sum(dtype=np.float64))
        excess = abs(total - 1)
        seen = f"go from {numbers.min():.4g} to {numbers.max():.4g}, with a sum of {total:.4g}"
        instead = 'kind = "classifier"\nscores = '
        if self._logits and inside and excess <= _SURELY and len(numbers) > 2:  # noqa: PLR2004 - of two, by chance
            raise unexpected(f"scores, which should be logits, {seen}", f'{instead}"probabilities"')
        if self._logits or (self._scores and inside):
            return
        slack = _SLACK + (len(numbers) * self._quant.scale / 2 if self._quant else 0)
        if not inside or excess > slack:
            others = '     # or "probabilities", if a picture may be of several classes' if inside else ""
            raise unexpected(f"scores, which should be probabilities, {seen}", f'{instead}"logits"{others}')


def _classes(spec: TensorSpec) -> int | None:
    """How many numbers an output has for one picture; None where it has several dimensions, or one number only."""
    sides = [side for side in spec.shape if side != 1]
    batch = len(spec.shape) > 1 and spec.shape[0] > 1
    return sides[0] if len(sides) == 1 and sides[0] > 1 and not batch else None


def _labels(model: ModelSpec, classes: int) -> tuple[str, ...]:
    if model.labels:
        return labels_for(model, model.outputs[0], classes)
    raise ModelError(
        f"{model.name}: it may be a classification model with {classes} classes, but the file does not name them; write "
        'labels = "FILE" under [model], a text file with one name per line'
    )


def _input_format(config: Config, model: ModelSpec) -> InputFormat:
    image, exported = model.inputs[0], is_export(model.metadata)
    counts = FORMATS[config.input or ("zero_to_one" if exported else _range(model))]
    wh = input_wh(image)
    fit: Fit = config.fit or ("stretch" if exported and wh and wh[0] != wh[1] else "centre_crop")
    return replace(counts, fit=fit, channels="grey" if is_grey(image) else "rgb")


def _range(model: ModelSpec) -> Range:
    """What an integer input counts, by its quantisation; without any, a uint8 can but be a pixel."""
    image = model.inputs[0]
    plain = image.quant is None and image.dtype == np.uint8
    known: Range | None = "pixels" if plain else range_of(image)
    if known:
        return known
    problem = f"what its input {image} counts is not certain"
    setting = 'input = "zero_to_one"     # or "minus_one_to_one", "imagenet" (torchvision, timm), "pixels" (0..255)'
    raise unclear(model, problem, "classifier", setting)
