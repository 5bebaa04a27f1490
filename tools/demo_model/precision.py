"""Mean average precision as COCO counts it: precision at 101 steps of recall, at overlaps of 0.50, 0.55, ... 0.95."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Array, Detections
from tools.demo_model.pictures import LEAST_VISIBLE, Picture

OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


@dataclass
class Tally:
    """Of one class: how many there were, and of each detection its score and at which overlaps it was right.

    `counts` says at which it counts at all: what hits an object of which too little is seen is neither right nor wrong.
    """

    there: int = 0
    scores: list[float] = field(default_factory=list)
    right: list[NDArray[np.bool_]] = field(default_factory=list)
    counts: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, found: Detections, picture: Picture, number: int) -> None:
        """Adds what was found in a picture, best score first, of the class `number`."""
        detected = found[found.classes == number]
        mine = picture.classes == number
        asked = picture.visible[mine] >= LEAST_VISIBLE
        overlaps = iou(detected.boxes, picture.boxes[mine])
        self.there += int(asked.sum())
        free = np.ones((len(OVERLAPS), len(asked)), bool)
        for row, score in zip(overlaps, detected.scores, strict=True):
            right, counts = np.zeros(len(OVERLAPS), bool), np.ones(len(OVERLAPS), bool)
            for step, least in enumerate(OVERLAPS):
                hit = _best(row, free[step] & asked, least)
                right[step] = hit is not None
                if hit is not None:
                    free[step, hit] = False
                else:
                    counts[step] = _best(row, ~asked, least) is None
            self.scores.append(float(score))
            self.right.append(right)
            self.counts.append(counts)

    def precisions(self) -> Array:
        """`(10,)` average precision at each overlap; NaN where there was none of the class."""
        if not self.there or not self.scores:
            return np.full(len(OVERLAPS), 0.0 if self.there else np.nan)
        order = np.argsort(-np.array(self.scores), kind="stable")
        right, counts = np.array(self.right)[order], np.array(self.counts)[order]
        return np.array([_average(right[counts[:, step], step], self.there) for step in range(len(OVERLAPS))])


def _best(row: Array, allowed: Array, least: float) -> int | None:
    shares = np.where(allowed, row, -1.0)
    if not shares.size or shares.max() < least:
        return None
    return int(shares.argmax())


def _average(right: Array, there: int) -> float:
    """Of detections in the order of their scores, with precision made to fall only."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / there, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[at].mean())
