"""Models and outputs made up for tests: one small input, three classes, a few objects on an otherwise empty picture."""

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
