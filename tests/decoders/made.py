"""Models and outputs made up for tests: one small input, three classes, a few objects on an otherwise empty picture."""

from dataclasses import replace

import numpy as np

from edge_agent.core.datatypes import Array, Detections, ModelSpec, Quantisation, TensorSpec
from edge_agent.core.heads import cells, corners_and_strides
from edge_agent.core.letterbox import Letterbox

WH = (160, 96)
CELLS = cells(WH)
LABELS = ("bottle", "cap", "crack")
EXPORT = {"task": "detect", "stride": 32, "names": dict(enumerate(LABELS)), "imgsz": [96, 160]}
"""What an export by Ultralytics says of itself."""

LETTERBOX = Letterbox.fit((320, 180), WH)
TOP_LEFT = Letterbox.fit((320, 180), WH, "letterbox_top_left")

# cell, box as centre and size in pixels of the model input, class, score; each weaker twin is thinned by NMS
OBJECTS = (
    (7, (80.0, 48.0, 40.0, 30.0), 0, 0.9),
    (8, (81.0, 48.0, 40.0, 30.0), 0, 0.6),
    (20, (80.0, 48.0, 40.0, 30.0), 1, 0.7),
    (250, (20.0, 40.0, 60.0, 50.0), 2, 0.5),
    (310, (140.0, 60.0, 20.0, 10.0), 2, 0.2),
)
QUANT = {np.dtype(np.int8): Quantisation(1.25 / 255, -118), np.dtype(np.uint8): Quantisation(1.25 / 255, 10)}


def wanted(letterbox: Letterbox) -> Detections:
    """What a decoder must find of `OBJECTS` above 0.25."""
    chosen = [OBJECTS[0], OBJECTS[2], OBJECTS[3]]
    boxes = np.array([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for _, (x, y, w, h), _, _ in chosen], np.float32)
    scores = np.array([score for *_, score in chosen], np.float32)
    return Detections(letterbox.to_frame(boxes), scores, np.array([number for _, _, number, _ in chosen], np.int32))


def assert_alike(found: Detections, expected: Detections, box_px: float = 0.01, score: float = 1e-6) -> None:
    assert found.classes.tolist() == expected.classes.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=score)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=box_px)


def spec(
    shape: tuple[int, ...],
    dtype=np.float32,
    *,
    labels=LABELS,
    metadata=None,
    planar: bool = True,
    form: str = "onnx",
    names=("images", "output0"),
    quant: Quantisation | None = None,
    wh=WH,
) -> ModelSpec:
    image = (1, 3, wh[1], wh[0]) if planar else (1, wh[1], wh[0], 3)
    inputs = (TensorSpec(names[0], image, np.dtype(np.float32)),)
    outputs = (TensorSpec(names[1], shape, np.dtype(dtype), quant),)
    return ModelSpec("caps", "00", form, inputs, outputs, tuple(labels), metadata or {})


def dense_rows(*, fractions: bool) -> Array:
    """`(CELLS, 4+nc) float32`, of the dense YOLO head."""
    rows = np.zeros((CELLS, 4 + len(LABELS)), np.float32)
    rows[:, :4] = (80, 48, 8, 8)
    for cell, box, number, score in OBJECTS:
        rows[cell, :4] = box
        rows[cell, 4 + number] = score
    if fractions:
        rows[:, :4] /= (*WH, *WH)
    return rows


EXTRA = {"segment": 32, "pose": 6, "obb": 1}
"""Columns behind those of the classes; the pose has two keypoints of three numbers."""
ANGLE = 0.5


def export_for(task: str) -> dict[str, object]:
    return EXPORT | {"task": task} | ({"kpt_shape": [2, 3]} if task == "pose" else {})


def of_task(task: str, dtype=np.float32, *, head: str = "dense", reverse: bool = False, **more) -> ModelSpec:
    """A model with three classes for a task; that for segmentation has prototypes, first if in `reverse`."""
    shape = (1, 7 + EXTRA[task], CELLS) if head == "dense" else (1, 300, 6 + EXTRA[task])
    model = spec(shape, dtype, **more)
    if task != "segment":
        return model
    protos = TensorSpec("output1", (1, 32, WH[1] // 4, WH[0] // 4), np.dtype(np.float32))
    outputs = (*model.outputs, protos)
    return replace(model, outputs=outputs[::-1] if reverse else outputs)


def task_rows(task: str, *, fractions: bool = False) -> Array:
    """`(CELLS, 7+extra) float32`: what the task adds looks like scores, and better ones than those of the classes."""
    rows = dense_rows(fractions=fractions)
    extra = np.full((CELLS, EXTRA[task]), ANGLE if task == "obb" else 0.97, np.float32)
    return np.concatenate([rows, extra], axis=1)


def task_outputs(task: str, dtype=np.float32, *, fractions: bool = False, reverse: bool = False, quant=None):
    head = stored(task_rows(task, fractions=fractions), dtype, channels_first=True, quant=quant)
    protos = [np.ones((1, 32, WH[1] // 4, WH[0] // 4), np.float32)] if task == "segment" else []
    return (head + protos)[::-1] if reverse else head + protos


def turned(letterbox: Letterbox, angle: float = ANGLE) -> Detections:
    """What an `obb` decoder must find of `OBJECTS`, whose boxes are all turned by `angle`: upright rectangles."""
    chosen = [OBJECTS[0], OBJECTS[2], OBJECTS[3]]
    boxes = []
    for _, (x, y, w, h), _, _ in chosen:
        corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = corners @ turn + (x, y)
        boxes.append([*points.min(axis=0), *points.max(axis=0)])
    return replace(wanted(letterbox), boxes=letterbox.to_frame(np.array(boxes, np.float32)))


def yolov5_rows(*, fractions: bool, copies: int = 3) -> Array:
    """`(3 * CELLS, 5+nc) float32`; the score is split evenly into objectness and class."""
    dense = dense_rows(fractions=fractions)
    rows = np.zeros((copies * CELLS, 5 + len(LABELS)), np.float32)
    rows[:, :4] = np.tile(dense[:, :4], (copies, 1))
    rows[:CELLS, 4] = np.sqrt(dense[:, 4:].max(axis=1))
    rows[:CELLS, 5:] = np.sqrt(dense[:, 4:])
    return rows


def yolox_rows(*, decoded: bool) -> Array:
    """`(CELLS, 5+nc) float32`, of the YOLOX head; the score is split evenly into objectness and class."""
    corners, strides = corners_and_strides(WH)
    rows = np.zeros((CELLS, 5 + len(LABELS)), np.float32)
    rows[:, :2] = (corners + 0.5) * strides
    rows[:, 2:4] = strides
    for cell, box, number, score in OBJECTS:
        rows[cell, :4] = box
        rows[cell, [4, 5 + number]] = np.sqrt(score)
    if not decoded:
        rows[:, :2] = rows[:, :2] / strides - corners
        rows[:, 2:4] = np.log(rows[:, 2:4] / strides)
    return rows


def stored(rows: Array, dtype, *, channels_first: bool, quant: Quantisation | None = None) -> list[Array]:
    """The rows as a model gives them."""
    if quant:
        info = np.iinfo(dtype)
        rows = np.clip(np.rint(rows / quant.scale) + quant.zero_point, info.min, info.max)
    rows = rows.T if channels_first else rows
    return [np.ascontiguousarray(rows[None], dtype)]


STRETCHED = Letterbox.fit((320, 180), WH, "stretch")
QUERIES = 300


def several(outputs: dict[str, tuple[int, ...]], *, labels=LABELS, metadata=None, more=(), wh=WH) -> ModelSpec:
    """A model with outputs by these names; `labels` of rank 2 are int64. `more` are inputs besides the picture."""
    picture = TensorSpec("images", (1, 3, wh[1], wh[0]), np.dtype(np.float32))
    whole = np.dtype(np.int64)
    specs = (
        TensorSpec(name, shape, whole if (name, len(shape)) == ("labels", 2) else np.dtype(np.float32))
        for name, shape in outputs.items()
    )
    return ModelSpec("caps", "00", "onnx", (picture, *more), tuple(specs), tuple(labels), metadata or {})


def _queries() -> tuple[Array, Array]:
    """Of the objects that are no twins: `(QUERIES, 4)` centre and size in fractions, `(QUERIES, 3)` scores."""
    boxes, scores = np.full((QUERIES, 4), 0.5, np.float32), np.full((QUERIES, len(LABELS)), 0.01, np.float32)
    for query, (_, box, number, score) in enumerate(OBJECTS[i] for i in (3, 0, 4, 2)):
        boxes[query] = np.array(box, np.float32) / (*WH, *WH)
        scores[query, number] = score
    return boxes, scores


def detr_rows() -> list[Array]:
    boxes, scores = _queries()
    rest = np.stack([scores.max(axis=1), scores.argmax(axis=1)], axis=1)
    return [np.concatenate([boxes, rest], axis=1, dtype=np.float32)[None]]


def detr_classes() -> list[Array]:
    return [np.concatenate(_queries(), axis=1)[None]]


def detr_chosen() -> list[Array]:
    """In pixels of the model input."""
    boxes, scores = _queries()
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1) * (*WH, *WH)
    return [scores.argmax(axis=1)[None], corners.astype(np.float32)[None], scores.max(axis=1)[None]]


def detr_logits(count: int, *, softmax: bool = False) -> list[Array]:
    """Boxes and `count` logits; those beyond the classes say nothing, or in a softmax that there is nothing."""
    boxes, scores = _queries()
    if softmax:
        logits = np.log(np.concatenate([scores, 1 - scores.sum(axis=1, keepdims=True)], axis=1)) + 3
    else:
        logits = np.full((QUERIES, count), -9.0)
        logits[:, : len(LABELS)] = np.log(scores / (1 - scores))
    return [boxes[None], logits.astype(np.float32)[None]]
