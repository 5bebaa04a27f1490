"""What the net is to learn from a picture: which cells answer for which object, and how wrong they are.

Task-aligned assignment (Feng et al., "TOOD", arXiv 2108.07755): of the cells whose centre lies in an object, those
answer for it that already do so best, by score and overlap together.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

_CELLS = 10  # that answer for one object, at most
_SCORE_POWER, _IOU_POWER = 0.5, 6.0  # of the alignment
_BOX_WEIGHT = 5.0  # of the loss of the boxes against that of the scores
_TINY = 1e-9


@dataclass(frozen=True)
class Truth:
    """The objects of a batch, filled up to as many as the fullest picture has.

    `boxes` `(B, M, 4)` xyxy in pixels of the input, `classes` `(B, M)`, `real` `(B, M)` whether there is one.
    """

    boxes: Tensor
    classes: Tensor
    real: Tensor


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes `(..., 4)` xyxy, broadcast against each other."""
    common = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b))
    return common / (area_a + area_b - common + _TINY)


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less what centres and proportions differ in: Zheng et al., "Distance-IoU Loss", arXiv 1911.08287."""
    overlap = iou(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    size_a, size_b = ((box[..., 2:] - box[..., :2]).clamp(min=0.1) for box in (a, b))
    angles = [torch.atan(size[..., 0] / size[..., 1]) for size in (size_a, size_b)]
    shape = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    with torch.no_grad():
        weight = shape / (1 - overlap + shape + _TINY)
    return overlap - (apart**2).sum(-1) / ((hull**2).sum(-1) + _TINY) - weight * shape


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """Which object each cell answers for.

    `scores` `(B, N, C)` 0..1, `boxes` `(B, N, 4)` and `points` `(N, 2)` in pixels. Gives `(B, N, C)` the scores the
    cells should have, `(B, N, 4)` the boxes, and `(B, N)` whether a cell answers for any object at all.
    """
    corners = truth.boxes[:, :, None]
    inside = ((points > corners[..., :2]) & (points < corners[..., 2:])).all(-1) & truth.real[..., None]  # (B, M, N)
    overlap = iou(corners, boxes[:, None]) * inside
    own = scores.transpose(1, 2).gather(1, truth.classes[..., None].expand_as(overlap))
    aligned = own**_SCORE_POWER * overlap**_IOU_POWER * inside
    best = aligned.topk(_CELLS, -1).indices
    chosen = torch.zeros_like(inside).scatter_(-1, best, value=True) & inside
    first = (overlap * chosen).argmax(1, keepdim=True)  # a cell between two objects takes the one it fits better
    chosen &= torch.zeros_like(inside).scatter_(1, first, value=True)
    aligned, overlap = aligned * chosen, overlap * chosen
    share = aligned / (aligned.amax(-1, keepdim=True) + _TINY) * overlap.amax(-1, keepdim=True)
    which, answers = chosen.float().argmax(1), chosen.any(1)
    wanted_boxes = truth.boxes.gather(1, which[..., None].expand(-1, -1, 4))
    wanted_classes = one_hot(truth.classes.gather(1, which), scores.shape[-1])
    return wanted_classes * share.amax(1)[..., None], wanted_boxes, answers


def loss(logits: Tensor, boxes: Tensor, points: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """Of a batch: what its scores and what its boxes are off by, both already weighted."""
    scores, wanted, answers = assign(logits.detach().sigmoid(), boxes.detach(), points, truth)
    total = scores.sum().clamp(min=1)
    score_loss = binary_cross_entropy_with_logits(logits, scores, reduction="sum") / total
    weights = scores.sum(-1)[answers]
    box_loss = ((1 - complete_iou(boxes[answers], wanted[answers])) * weights).sum() / total
    return score_loss, _BOX_WEIGHT * box_loss
