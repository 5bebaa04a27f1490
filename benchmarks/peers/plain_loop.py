"""Detection as tutorials write it: OpenCV, LiteRT or ONNX Runtime, numpy, and paho; one thread, one loop.

    python -m benchmarks.peers.plain_loop --model yolo.tflite --head yolo --frames FOLDER --port 1883 --topic plain

It letterboxes into new memory, converts with numpy, copies in and out of the engine, and decodes every row before it
looks at scores. It has no tracking, no rules, no deadline and keeps nothing. Written for this comparison.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from benchmarks.peers.line import CONF, HEADS, IOU, Found, Image, Line, arguments

GREY = 114
STRIDES = (8, 16, 32)
YOLOX_BOX = 5  # x, y, width, height, objectness


class Engine(Protocol):
    """Takes a letterboxed picture; its outputs, and how long the bare run took, in ms."""

    size: tuple[int, int]  # width, height

    def feed(self, blob: Image) -> None:
        """Hands the input over."""

    def run(self) -> float:
        """One run."""

    def output(self) -> Image:
        """What came out of it, as float."""


class LiteRt:
    """A `.tflite` model."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._in, self._out = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        height, width = map(int, self._in["shape"][1:3])
        self.size = width, height

    def feed(self, blob: Image) -> None:
        """See `Engine`."""
        if self._in["dtype"] is not np.float32:
            scale, zero = self._in["quantization"]
            limits = np.iinfo(self._in["dtype"])
            blob = np.clip(np.round(blob / scale + zero), limits.min, limits.max).astype(self._in["dtype"])
        self._interpreter.set_tensor(self._in["index"], blob)

    def run(self) -> float:
        """See `Engine`."""
        began_s = time.perf_counter()
        self._interpreter.invoke()
        return (time.perf_counter() - began_s) * 1e3

    def output(self) -> Image:
        """See `Engine`."""
        output: Image = self._interpreter.get_tensor(self._out["index"])
        if self._out["dtype"] is not np.float32:
            scale, zero = self._out["quantization"]
            output = (output.astype(np.float32) - zero) * scale
        return output


class Onnx:
    """An `.onnx` model."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        height, width = self._session.get_inputs()[0].shape[2:4]
        self.size = width, height
        self._blob: Image = np.zeros(0)
        self._output: Image = np.zeros(0)

    def feed(self, blob: Image) -> None:
        """See `Engine`."""
        self._blob = np.ascontiguousarray(blob.transpose(0, 3, 1, 2))

    def run(self) -> float:
        """See `Engine`."""
        began_s = time.perf_counter()
        self._output = self._session.run(None, {self._name: self._blob})[0]
        return (time.perf_counter() - began_s) * 1e3

    def output(self) -> Image:
        """See `Engine`."""
        return self._output


def open_engine(path: Path, threads: int) -> Engine:
    """By the file's name."""
    return Onnx(path, threads) if path.suffix == ".onnx" else LiteRt(path, threads)


def prepare(image: Image, size: tuple[int, int], head: str) -> tuple[Image, float, tuple[int, int]]:
    """The input, by how much the picture was scaled, and where its corner lies (x, y)."""
    (width, height), (frame_height, frame_width) = size, image.shape[:2]
    scale = min(width / frame_width, height / frame_height)
    inner = round(frame_width * scale), round(frame_height * scale)
    left, top = (0, 0) if head == "yolox" else ((width - inner[0]) // 2, (height - inner[1]) // 2)
    canvas = np.full((height, width, 3), GREY, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
    if head == "yolox":
        blob = canvas.astype(np.float32)
    else:
        blob = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0
    return blob[np.newaxis], scale, (left, top)


def rows_of(output: Image, size: tuple[int, int], head: str) -> tuple[Image, Image, Image]:
    """Boxes (centre and size, in pixels of the input), scores and classes of all rows."""
    wh = np.array(size * 2, np.float32)
    if head == "nms":
        corners, scores, classes = output[0, :, :4] * wh, output[0, :, 4], output[0, :, 5].astype(int)
        sizes = corners[:, 2:] - corners[:, :2]
        return np.hstack([corners[:, :2] + sizes / 2, sizes]), scores, classes
    if head == "yolo":
        rows = output[0].T
        return rows[:, :4] * wh, rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)
    rows = output[0]
    corners, strides = grid(size)
    boxes = np.hstack([(rows[:, :2] + corners) * strides, np.exp(rows[:, 2:4]) * strides])
    each = rows[:, 4:5] * rows[:, YOLOX_BOX:]
    return boxes, each.max(axis=1), each.argmax(axis=1)


def grid(size: tuple[int, int]) -> tuple[Image, Image]:
    """Of each YOLOX cell its column and row, and its stride."""
    corners, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(size[0] // stride), np.arange(size[1] // stride))
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
        corners.append(cells)
        strides.append(np.full((len(cells), 1), stride))
    return np.concatenate(corners), np.concatenate(strides)


def detect(output: Image, size: tuple[int, int], head: str, scale: float, corner: tuple[int, int]) -> list[Found]:
    """From the engine's output to boxes in the frame."""
    boxes, scores, classes = rows_of(output, size, head)
    sure = scores > CONF
    boxes, scores, classes = boxes[sure], scores[sure], classes[sure]
    boxes = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
    kept: Sequence[int] = range(len(boxes))
    if head != "nms" and len(boxes):
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), CONF, IOU)
    found = []
    for number in kept:
        x, y, width, height = boxes[number]
        left, top = (x - corner[0]) / scale, (y - corner[1]) / scale
        box = float(left), float(top), float(left + width / scale), float(top + height / scale)
        found.append(Found(int(classes[number]), float(scores[number]), box))
    return found


def main() -> None:
    """Runs until it is ended."""
    parser = arguments(__doc__)
    parser.add_argument("--head", choices=HEADS, default="yolo", help="what comes out of the model")
    serve(parser.parse_args())


def serve(wish: argparse.Namespace) -> None:
    """The loop."""
    engine = open_engine(wish.model, wish.threads)
    line = Line(wish)
    for image, frame_ms in line.frames():
        blob, scale, corner = prepare(image, engine.size, wish.head)
        engine.feed(blob)
        infer_ms = engine.run()
        line.tell(frame_ms, infer_ms, detect(engine.output(), engine.size, wish.head, scale, corner))


if __name__ == "__main__":
    main()
