"""What the exports of the DETR family look like: their tensors' names, and what can be told where they say little.

The facts are those of the exporters: RT-DETR, D-FINE and DEIM (`tools/export_onnx.py`, postprocessor in deploy mode),
RF-DETR 1.x (`dets` and `labels`; its metadata `rfdetr_inference`), Hugging Face Transformers 5 (`pred_boxes` and
`logits`), the original DETR (`pred_boxes` and `pred_logits`), and Ultralytics 8.4 (metadata, `models/rtdetr`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.core.datatypes import Certainty, ModelSpec, TensorSpec
from edge_agent.core.refusals import unclear
from edge_agent.core.ultralytics import BOX, ROW, is_rtdetr
from edge_agent.errors import ModelError

Layout = Literal["rows", "classes", "chosen", "logits"]
Scores = Literal["sigmoid", "softmax"]
Background = Literal["none", "first", "last"]

ROBOFLOW = ("dets", "labels")
_PAIRS = (ROBOFLOW, ("pred_boxes", "logits"), ("pred_boxes", "pred_logits"))
_CHOSEN = ("labels", "boxes", "scores")
_METADATA = "rfdetr_inference"
_COCO_SLOTS = 91  # the category ids of COCO go from 1 to 90


@dataclass(frozen=True, slots=True)
class Slots:
    """Of a row of logits: which numbers are classes, and their names; `scores` makes probabilities of them all."""

    scores: Scores
    columns: tuple[int, ...]
    labels: tuple[str, ...]


def known(model: ModelSpec) -> tuple[Certainty, Layout, str] | None:
    """The layout of a model of the family, how surely it is one, and by what; None where it is not one."""
    if is_rtdetr(model.metadata):
        return Certainty.METADATA, _ultralytics_layout(model), "its metadata is that of an Ultralytics RT-DETR model"
    names = [spec.name for spec in model.outputs]
    if set(_CHOSEN) <= set(names) and _are_chosen(*(model.outputs[names.index(name)] for name in _CHOSEN)):
        return Certainty.NAMES, "chosen", "its outputs are named labels, boxes and scores, as RT-DETR and D-FINE are"
    for pair in _PAIRS:
        if set(pair) <= set(names) and _are_pair(*(model.outputs[names.index(name)] for name in pair)):
            sure = Certainty.METADATA if _METADATA in model.metadata else Certainty.NAMES
            return sure, "logits", f"its outputs are named {pair[0]} and {pair[1]}"
    return None


def find(model: ModelSpec, layout: Layout) -> tuple[int, ...]:
    """Which outputs a layout is read from, by their names, else by their shapes.

    One for `rows` and `classes`; labels, boxes and scores for `chosen`; boxes and logits for `logits`.

    Raises:
        ModelError: the outputs are not of that layout, or which is which cannot be told.
    """
    names = [spec.name for spec in model.outputs]
    found: tuple[int, ...] | None
    if layout in ("rows", "classes"):
        found = (0,) if len(names) == 1 and _is_table(model.outputs[0], layout) else None
    elif layout == "chosen":
        found = _by_name(names, _CHOSEN) or _chosen_by_shape(model.outputs)
        found = found if found and _are_chosen(*(model.outputs[place] for place in found)) else None
    else:
        found = next(filter(None, (_by_name(names, pair) for pair in _PAIRS)), None) or _pair_by_shape(model.outputs)
        found = found if found and _are_pair(*(model.outputs[place] for place in found)) else None
    if found is None:
        outputs = ", ".join(map(str, model.outputs))
        raise ModelError(
            f"{model.name}: {outputs} cannot be read as the layout {layout!r} of a DETR model: {_WANTED[layout]}"
        )
    return found


def slots(model: ModelSpec, logits: TensorSpec, scores: Scores | None, background: Background | None) -> Slots:
    """How logits relate to classes: as set, as RF-DETR's metadata says, or as the number of labels tells.

    Raises:
        ModelError: it cannot be told, or the labels do not fit; the message says what to write.
    """
    count, labels = logits.shape[2], model.labels
    if not labels and background is None and (named := _named_slots(model.metadata, count)):
        return Slots(scores or "sigmoid", tuple(named), tuple(named.values()))
    if scores is None:
        scores = "sigmoid" if logits.name == ROBOFLOW[1] else _scores_by_labels(model, logits)
    if background is None:
        background = "last" if scores == "softmax" else _background_by_labels(model, logits)
    columns = range(count)[{"none": slice(None), "first": slice(1, None), "last": slice(None, -1)}[background]]
    if labels and len(labels) != len(columns):
        raise ModelError(
            f"{model.name}: there are {len(labels)} labels, but {logits} has {len(columns)} classes (scores = "
            f'"{scores}", background = "{background}"); give the labels file that belongs to the model'
        )
    return Slots(scores, tuple(columns), labels or tuple(f"class_{number}" for number in range(len(columns))))


def _ultralytics_layout(model: ModelSpec) -> Layout:
    """Since 8.4 `[1, 300, 6]`, and the metadata name the head; before that `[1, 300, 4+nc]`: two classes make 6 too."""
    columns = model.outputs[0].shape[-1:]
    if columns == (ROW,) and (len(model.labels) != ROW - BOX or "head" in model.metadata):
        return "rows"
    return "classes"


def _named_slots(metadata: Mapping[str, Any], count: int) -> dict[int, str]:
    """The names by slot that RF-DETR's metadata has; official weights use the category ids of COCO, with gaps."""
    says = metadata.get(_METADATA)
    names = says.get("class_id_to_name") if isinstance(says, Mapping) else None
    if not isinstance(names, Mapping):
        return {}
    try:
        known_slots = {int(slot): str(name) for slot, name in names.items()}
    except (TypeError, ValueError):
        return {}
    return {slot: known_slots[slot] for slot in sorted(known_slots) if 0 <= slot < count}


def _scores_by_labels(model: ModelSpec, logits: TensorSpec) -> Scores:
    """As many logits as labels: sigmoids. One more, for no object: softmax."""
    more = logits.shape[2] - len(model.labels)
    if model.labels and more in (0, 1):
        return "softmax" if more else "sigmoid"
    problem = f"whether the scores of {logits} are sigmoids or a softmax is not certain"
    if model.labels:
        problem = f"{logits} has {logits.shape[2]} numbers for {len(model.labels)} labels, and {problem}"
    setting = 'scores = "sigmoid"     # RT-DETR, D-FINE, Deformable; or "softmax", DETR and YOLOS'
    raise unclear(model, problem, "detr", setting)


def _background_by_labels(model: ModelSpec, logits: TensorSpec) -> Background:
    more = logits.shape[2] - len(model.labels)
    if not model.labels or more == 0:
        return "none"
    if more == 1 and logits.shape[2] == _COCO_SLOTS:
        problem = (
            "90 labels for 91 numbers may be the categories 1 to 90 of COCO, whose number 0 is not used, or the last "
            "number is none"
        )
        raise unclear(model, problem, "detr", 'background = "first"     # official weights, COCO; or "last"')
    return "last"


_WANTED = {
    "rows": "one output [1, K, 6]",
    "classes": "one output [1, K, 4 + classes]",
    "chosen": "labels [1, K], boxes [1, K, 4] and scores [1, K], named so or with whole numbers as labels",
    "logits": "boxes [1, K, 4] and logits [1, K, C], named dets and labels, or pred_boxes and logits, or C is not 4",
}


def _by_name(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    return tuple(names.index(name) for name in wanted) if set(wanted) <= set(names) else None


def _chosen_by_shape(outputs: Sequence[TensorSpec]) -> tuple[int, ...] | None:
    flat = [place for place, spec in enumerate(outputs) if len(spec.shape) == 2]  # noqa: PLR2004 - batch, queries
    labels = [place for place in flat if outputs[place].dtype.kind in "iu" and outputs[place].quant is None]
    boxes = [place for place, spec in enumerate(outputs) if _is_boxes(spec)]
    scores = [place for place in flat if place not in labels]
    return (labels[0], boxes[0], scores[0]) if len(labels) == len(boxes) == len(scores) == 1 else None


def _pair_by_shape(outputs: Sequence[TensorSpec]) -> tuple[int, ...] | None:
    boxes = [place for place, spec in enumerate(outputs) if _is_boxes(spec)]
    others = [place for place in range(len(outputs)) if place not in boxes and len(outputs[place].shape) == 3]  # noqa: PLR2004 - rank
    return (boxes[0], others[0]) if len(boxes) == len(others) == 1 else None


def _is_table(spec: TensorSpec, layout: Layout) -> bool:
    if len(spec.shape) != 3 or spec.shape[0] not in (1, -1):  # noqa: PLR2004 - batch, rows, columns
        return False
    return spec.shape[2] == ROW if layout == "rows" else spec.shape[2] > BOX


def _is_boxes(spec: TensorSpec) -> bool:
    return len(spec.shape) == 3 and spec.shape[0] in (1, -1) and spec.shape[2] == BOX  # noqa: PLR2004 - rank


def _are_chosen(labels: TensorSpec, boxes: TensorSpec, scores: TensorSpec) -> bool:
    return _is_boxes(boxes) and all(_same(spec.shape, boxes.shape[:2]) for spec in (labels, scores))


def _are_pair(boxes: TensorSpec, logits: TensorSpec) -> bool:
    whole = len(logits.shape) == 3 and logits.shape[2] > 0  # noqa: PLR2004 - batch, queries, classes
    return whole and _is_boxes(boxes) and _same(logits.shape[:2], boxes.shape[:2])


def _same(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes can be the same; -1 is not known."""
    return len(a) == len(b) and all(x == y or -1 in (x, y) for x, y in zip(a, b, strict=True))
