"""`ultralytics` predict on a model file, frame after frame, in an environment of its own.

    python -m benchmarks.peers.ultralytics_predict --model yolo.tflite --frames FOLDER --port 1883 --topic ultralytics

ultralytics is AGPL-3.0: it is run here to be measured, and no part of edge-agent. Nothing of it is changed but what is
needed to measure: the number of threads of LiteRT, which it takes from the number of cores, and a stopwatch around the
engine's own run. Where torchvision cannot be loaded, its import is left out (all that ultralytics' warm-up does with a
LiteRT model), and ultralytics uses its own NMS.
"""

import os
import time
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "1")  # it asks the net about versions and settings at its start

import torch
import ultralytics.nn.backends.litert
from ultralytics import YOLO

from benchmarks.peers.line import CONF, IOU, Found, Line, arguments


class Stopwatch:
    """Stands before an engine, and times one of its methods."""

    def __init__(self, engine: Any, method: str) -> None:
        self._engine, self._run = engine, getattr(engine, method)
        self.ms = 0.0
        setattr(self, method, self._timed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _timed(self, *words: Any, **named: Any) -> Any:
        began_s = time.perf_counter()
        result = self._run(*words, **named)
        self.ms = (time.perf_counter() - began_s) * 1e3
        return result


class Prepare:
    """Called by ultralytics before the first picture goes in."""

    def __init__(self) -> None:
        self._watch: Stopwatch | None = None

    def __call__(self, predictor: Any) -> None:
        """Once is enough."""
        if self._watch is not None:
            return
        backend = predictor.model.backend
        self._watch = backend.interpreter = Stopwatch(backend.interpreter, "invoke")
        predictor.done_warmup = not has_torchvision()

    @property
    def infer_ms(self) -> float:
        """Of the last run of the engine."""
        return self._watch.ms if self._watch else 0.0


def has_torchvision() -> bool:
    """Whether it can be loaded; where it cannot, the failed import must not come again with each picture."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # it was built for a torch with CUDA
        return False
    return True


def main() -> None:
    """Runs until it is ended."""
    wish = arguments(__doc__).parse_args()
    torch.set_num_threads(wish.threads)
    ultralytics.nn.backends.litert.NUM_THREADS = wish.threads
    model, prepare = YOLO(wish.model, task="detect", verbose=False), Prepare()
    model.add_callback("on_predict_batch_start", prepare)
    line = Line(wish)
    for image, frame_ms in line.frames():
        boxes = model.predict(image, conf=CONF, iou=IOU, device="cpu", verbose=False)[0].boxes
        rows = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
        line.tell(frame_ms, prepare.infer_ms, [Found(int(kind), score, tuple(box)) for kind, score, box in rows])


if __name__ == "__main__":
    main()
