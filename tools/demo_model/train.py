"""Training: seeded, on the CPU, with a checkpoint from which a cut run goes on."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from edge_agent.cameras.simulator import LABELS
from edge_agent.core.datatypes import Array
from tools.demo_model.cache import Truth as Objects
from tools.demo_model.loss import Truth, loss
from tools.demo_model.net import WIDTH, Net, boxes_of, cells

BATCH = 16
_RATE, _DECAY, _WARM_UP, _LAST = 2e-3, 0.02, 150, 0.02  # AdamW; the last rate is a share of the first
_AVERAGE = 0.998  # of the weights that are kept, over the steps
_CLIP = 10.0
_SAVE_EVERY = 100


@dataclass(frozen=True)
class Plan:
    """`steps` of BATCH pictures; where `minutes` are up before, the rate has fallen by then and training ends."""

    steps: int
    minutes: float
    threads: int
    seed: int = 0


class Training:
    """The state of a training run."""

    def __init__(self, plan: Plan, checkpoint: Path) -> None:
        torch.manual_seed(plan.seed)
        torch.set_num_threads(plan.threads)
        self._plan, self._checkpoint = plan, checkpoint
        self._net: Any = Net(len(LABELS)).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self._net).eval().requires_grad_(False)
        matrices = [weight for weight in self._net.parameters() if weight.ndim > 1]
        others = [weight for weight in self._net.parameters() if weight.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": _DECAY}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=_RATE)
        self._points, self._strides = cells()
        self.step, self.spent_s = 0, 0.0
        if checkpoint.exists():
            self._load()

    def run(self, pictures: Array, objects: list[Objects], report: Callable[[int, float, float], None]) -> None:
        """Trains to the end. `report` gets step, loss of scores and loss of boxes at every checkpoint."""
        plan, started, before = self._plan, time.monotonic(), self.spent_s
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task("training", total=plan.steps, completed=self.step)
            while self.step < plan.steps and self.spent_s < plan.minutes * 60:
                chosen = _chosen(self.step, len(pictures), plan.seed)
                losses = self._learn(*_batch(pictures, objects, chosen, np.random.default_rng([plan.seed, self.step])))
                self.step += 1
                self.spent_s = before + time.monotonic() - started
                bar.update(task, completed=self.step, description=f"scores {losses[0]:.3f} boxes {losses[1]:.3f}")
                if self.step % _SAVE_EVERY == 0:
                    self._save()
                    report(self.step, *losses)
        self._save()

    def _learn(self, images: Tensor, truth: Truth) -> tuple[float, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = _RATE * self._share()
        self._net.train()
        logits, sides = self._net(images)
        score_loss, box_loss = loss(logits, boxes_of(sides, self._points, self._strides), self._points, truth)
        self._optimizer.zero_grad(set_to_none=True)
        (score_loss + box_loss).backward()
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), _CLIP)
        self._optimizer.step()
        keep = min(_AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, new in zip(self.average.state_dict().values(), self._net.state_dict().values(), strict=True):
                mean.lerp_(new, 1 - keep) if mean.is_floating_point() else mean.copy_(new)
        return score_loss.item(), box_loss.item()

    def _share(self) -> float:
        """Of the rate, in this step: up in a line, then down in half a cosine."""
        if self.step < _WARM_UP:
            return (self.step + 1) / _WARM_UP
        done = max(self.step / self._plan.steps, self.spent_s / (self._plan.minutes * 60))
        return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * min(done, 1))) / 2

    def _save(self) -> None:
        state = {
            "net": self._net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        new = self._checkpoint.with_suffix(".new")
        torch.save(state, new)
        new.replace(self._checkpoint)

    def _load(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        self._net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent_s = state["step"], state["spent_s"]


def trained(checkpoint: Path) -> Net:
    """The net of a checkpoint, ready to be exported."""
    net = Net(len(LABELS))
    net.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return net.eval()


def _chosen(step: int, count: int, seed: int) -> list[int]:
    """Which pictures: all of them in an order by chance, then in another."""
    numbers = range(step * BATCH, (step + 1) * BATCH)
    orders = {number // count: np.random.default_rng([seed, number // count]).permutation(count) for number in numbers}
    return [int(orders[number // count][number % count]) for number in numbers]


def _batch(
    pictures: Array, objects: list[Objects], chosen: list[int], rng: np.random.Generator
) -> tuple[Tensor, Truth]:
    """Pictures, some of them mirrored, all in a light of their own, and what is in them."""
    most = max(1, *(len(objects[number][1]) for number in chosen))
    boxes, classes = torch.zeros(len(chosen), most, 4), torch.zeros(len(chosen), most, dtype=torch.long)
    real = torch.zeros(len(chosen), most, dtype=torch.bool)
    images = np.empty((len(chosen), *pictures.shape[1:]), np.uint8)
    for row, number in enumerate(chosen):
        own, kinds = objects[number]
        mirrored = rng.random() < 0.5  # noqa: PLR2004
        images[row] = pictures[number][:, ::-1] if mirrored else pictures[number]
        own = np.stack([WIDTH - own[:, 2], own[:, 1], WIDTH - own[:, 0], own[:, 3]], 1) if mirrored else own
        boxes[row, : len(own)], classes[row, : len(own)] = torch.from_numpy(own), torch.from_numpy(kinds).long()
        real[row, : len(own)] = True
    light = rng.uniform(0.7, 1.3, (len(chosen), 1, 1, 1)) * rng.uniform(0.92, 1.08, (len(chosen), 3, 1, 1))
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (values * torch.from_numpy(light).float()).clamp_(0, 1), Truth(boxes, classes, real)
