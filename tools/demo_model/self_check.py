"""Quick checks of the recipe itself: run them after a change, before an hour of training."""

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.cameras.simulator import LABELS
from edge_agent.core.datatypes import Detections
from tools.demo_model import export
from tools.demo_model.cache import cached
from tools.demo_model.loss import Truth, assign, iou
from tools.demo_model.net import HEIGHT, WIDTH, Exported, Net, boxes_of, cells
from tools.demo_model.pictures import Picture
from tools.demo_model.precision import Tally
from tools.demo_model.train import Plan, Training, trained

_STEPS, _LEARNED = 100, 4.5  # a loss that begins at about 13 is to be below


def main() -> None:
    """Raises AssertionError where something is wrong."""
    for check in (
        _cells_that_answer,
        _export_says_the_same,
        _a_perfect_detector_is_perfect,
        _learns_and_is_read_by_the_agent,
    ):
        check()
        print("ok:", check.__name__.strip("_").replace("_", " "))


def _cells_that_answer() -> None:
    """Lie in their object, are ten at most, and the best of them should score what its box overlaps."""
    points, _ = cells()
    truth = Truth(
        torch.tensor([[[100.0, 50, 180, 200], [0, 0, 0, 0]]]), torch.tensor([[3, 0]]), torch.tensor([[True, False]])
    )
    boxes = torch.cat([points - 40, points + 40], 1)[None]
    scores, wanted, answers = assign(torch.full((1, len(points), len(LABELS)), 0.1), boxes, points, truth)
    inside = (points > truth.boxes[0, 0, :2]).all(1) & (points < truth.boxes[0, 0, 2:]).all(1)
    assert answers.sum() == 10  # noqa: PLR2004
    assert inside[answers[0]].all()
    assert (wanted[answers] == truth.boxes[0, 0]).all()
    best = iou(boxes[answers], truth.boxes[0, 0]).max()
    assert torch.isclose(scores.max(), best, atol=1e-4)
    assert scores[..., 3].sum() == scores.sum()


def _export_says_the_same() -> None:
    """Fusing, folding and units change nothing but the last digits."""
    net = Net(len(LABELS))
    for weight in net.buffers():  # batch norms that do something
        if weight.is_floating_point():
            weight.uniform_(0.5, 1.5)
    picture = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        logits, sides = net.eval()(picture)
        corners = boxes_of(sides, *cells())
        sizes = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        middle = (corners[..., :2] + corners[..., 2:]) / 2
        wanted = torch.cat([middle, corners[..., 2:] - corners[..., :2]], -1) / sizes
        for pixels in (False, True):
            rows = Exported(net, pixels=pixels)(picture).transpose(1, 2)
            boxes = rows[..., :4] / sizes if pixels else rows[..., :4]
            assert torch.allclose(boxes, wanted, atol=1e-4)
            assert torch.allclose(rows[..., 4:], logits.sigmoid(), atol=1e-4)


def _a_perfect_detector_is_perfect() -> None:
    """Mean average precision is 1 for the truth itself, and 0 for boxes elsewhere."""
    boxes = np.array([[10, 10, 60, 90], [100, 10, 160, 90]], np.float32)
    picture = Picture(np.zeros((100, 200, 3), np.uint8), boxes, np.zeros(2, np.int32), np.ones(2, np.float32))
    for moved, wanted in ((0, 1.0), (300, 0.0)):
        tally = Tally()
        tally.add(Detections(boxes + np.float32(moved), np.ones(2, np.float32), np.zeros(2, np.int32)), picture, 0)
        assert np.allclose(tally.precisions(), wanted)


def _learns_and_is_read_by_the_agent() -> None:
    """A few steps on few pictures bring the loss down, and the agent knows how to read both files."""
    with tempfile.TemporaryDirectory() as name:
        folder, losses = Path(name), []
        pictures, objects = cached(folder, 2)
        training = Training(Plan(_STEPS, minutes=5, threads=2), folder / "checkpoint.pt")
        training.run(pictures, objects, lambda _, scores, boxes: losses.append(scores + boxes))
        assert losses[-1] < _LEARNED, losses
        net = trained(folder / "checkpoint.pt")
        export.write_onnx(net, folder / "bottles.onnx")
        export.write_tflite(net, folder / "bottles.tflite")
        for path in (folder / "bottles.onnx", folder / "bottles.tflite"):
            engine = open_engine(EngineRequest(path, ()))
            with closing(engine.backend):
                assert engine.model.labels == LABELS
                assert engine.decoder_kind == "yolo"
