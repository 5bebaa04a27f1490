"""Pictures of the simulated line with the truth about them, of lines of every kind."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_agent.cameras.simulator import LABELS, Config
from edge_agent.cameras.simulator.line import Line
from edge_agent.core.datatypes import BoundTensor, FloatArray, Image, InputFormat, IntArray, TensorSpec
from edge_agent.runtime.preprocess import Preprocessor
from tools.demo_model.net import HEIGHT, WIDTH

TRAINING, VALIDATION, CALIBRATION, GOLDEN = 1_000_000, 500_000, 700_000, 800_000
"""The first seeds of the lines for each purpose; 1 to 10,000 are left to the demo."""

PER_LINE = 8
"""So many pictures are taken of one line: making it costs more than drawing it."""

LEAST_VISIBLE = 0.35
"""What is cut off by the picture's edge so that less of it is seen, is not asked for."""

_SALT = 7  # the line draws its own numbers from the same seed


@dataclass(frozen=True)
class Picture:
    """A frame and what is in it: `boxes` `(K, 4)` xyxy in pixels of the frame, `classes` and `visible` `(K,)`."""

    frame: Image
    boxes: FloatArray
    classes: IntArray
    visible: FloatArray


def hard(seed: int) -> Config:
    """A line as for training: anything goes."""
    rng = np.random.default_rng([seed, _SALT])
    return Config(
        seed=seed,
        speed=float(rng.uniform(0.3, 2.5)),
        direction="left" if rng.random() < 0.3 else "right",  # noqa: PLR2004
        defects=float(rng.uniform(0.5, 0.9)),
        touching=float(rng.uniform(0, 0.3)),
        contrast=float(rng.uniform(0.4, 1)),
        noise=float(rng.uniform(0, 9)),
        exposure_ms=float(rng.uniform(0.2, 5)),
        light_drift=float(rng.uniform(0, 0.4)),
        clutter=float(rng.uniform(0, 1)),
    )


def usual(seed: int) -> Config:
    """A line as the demo has it, but with a defect in every second bottle, so that there is something to count."""
    return Config(seed=seed, defects=0.5)


def of_line(config: Config) -> Iterator[Picture]:
    """Pictures of one line. Every second line begins with an empty belt."""
    rng = np.random.default_rng([config.seed, _SALT, 1])
    line = Line(config)
    run_px = rng.uniform(0, 60) if rng.random() < 0.5 else rng.uniform(700, 2000)  # noqa: PLR2004
    for _ in range(PER_LINE):
        frame, seen = line.look(run_px / config.px_per_s)
        boxes = np.array([one.box for one in seen], np.float32).reshape(-1, 4)
        classes = np.array([LABELS.index(one.label) for one in seen], np.int32)
        yield Picture(frame, boxes, classes, np.array([one.visible for one in seen], np.float32))
        run_px += rng.uniform(900, 1500)


class Shrink:
    """Frames at the net's size, by the agent's own preprocessing."""

    def __init__(self) -> None:
        self._input = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
        bound = BoundTensor(TensorSpec("images", self._input.shape, self._input.dtype), self._input)
        self._prepare = Preprocessor(bound, InputFormat(scale=1.0)).prepare

    def __call__(self, picture: Picture) -> tuple[Image, FloatArray]:
        """`(HEIGHT, WIDTH, 3) uint8` RGB, valid until the next call, and the boxes in pixels of it."""
        letterbox = self._prepare(picture.frame)
        return self._input[0], letterbox.to_model(picture.boxes)
