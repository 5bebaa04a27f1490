"""What a decoder takes of memory for one frame, with heads of real sizes."""

import tracemalloc

import numpy as np
import pytest

from edge_agent.core.datatypes import ModelSpec, TensorSpec, Thresholds
from edge_agent.core.letterbox import Letterbox
from edge_agent.decoders import yolo, yolov5, yolox

MOST_BYTES = 64 * 1024
SIDE, CELLS, FOUND = 320, 2100, 60
LETTERBOX = Letterbox.fit((1280, 720), (SIDE, SIDE))
LABELS = tuple(f"class {number}" for number in range(80))


def head_of(rows, columns, dtype):
    """`(rows, columns)` with `FOUND` candidates, most of which lie upon each other; boxes in pixels."""
    head = np.zeros((rows, columns), dtype)
    some = np.linspace(0, rows - 1, FOUND).astype(int)
    head[some, :4] = np.random.default_rng(0).uniform(120, 160, (FOUND, 4))
    head[some, 4:6] = 0.9
    return head


def decoded_twice(module, config, head):
    """The second time is the one that is measured: how many were found, and the peak of memory meanwhile."""
    image, output = (TensorSpec("x", shape, head.dtype) for shape in ((1, 3, SIDE, SIDE), (1, *head.shape)))
    decoder = module.create(config, ModelSpec("m", "a" * 64, "onnx", (image,), (output,), LABELS), Thresholds())
    decoder([head[None]], LETTERBOX)
    tracemalloc.start()
    try:
        return len(decoder([head[None]], LETTERBOX)), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("module", "config", "rows", "columns"),
    [
        (yolo, yolo.Config(task="detect", head="dense", boxes="pixels", layout="channels_first"), CELLS, 84),
        (yolo, yolo.Config(task="detect", head="dense", boxes="pixels", layout="anchors_first"), CELLS, 84),
        (yolo, yolo.Config(task="detect", head="end2end", boxes="normalised"), 300, 6),
        (yolox, yolox.Config(decoded=True), CELLS, 85),
        (yolov5, yolov5.Config(boxes="pixels"), 3 * CELLS, 85),
    ],
    ids=["channels_first", "anchors_first", "end2end", "yolox", "yolov5"],
)
def test_a_frame_takes_less_than_64_kib_of_memory(module, config, rows, columns, dtype):
    head = head_of(rows, columns, dtype)
    if columns == 6:  # xyxy in fractions, sorted
        head[:, :4] = np.sort(head[:, :4] / SIDE, axis=1)
    transposed = getattr(config, "layout", None) == "channels_first"
    found, peak_bytes = decoded_twice(module, config, np.ascontiguousarray(head.T) if transposed else head)
    assert found
    assert peak_bytes < MOST_BYTES
