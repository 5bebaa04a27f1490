"""The detector: small, anchor-free, made of nothing but convolutions, ReLU, sums and one upsampling.

Three levels look at the picture in cells of 8, 16 and 32 pixels. For each cell, one branch gives a score for each class
and another the distances from the cell's centre to the left, top, right and bottom of the box, in cells.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

WIDTH, HEIGHT = 416, 256
STRIDES = (8, 16, 32)
_FIRST_SCORE = -4.6  # logit of 0.01: nearly all cells are background, and training starts from that
_FIRST_SIDE = 1.5  # cells: boxes that overlap with the objects give the assignment something to choose by


def conv(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU; `fused` makes one of the first two."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):
    """A bottleneck with a way around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`."""
        return x + self.body(x)


class Net(nn.Module):
    """`(B, 3, H, W)` RGB 0..1 to `(B, N, classes)` logits and `(B, N, 4)` distances in cells; N is all levels' cells."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2), Block(32))
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, after, stride=2), Block(after))
            for before, after in ((32, 64), (64, 96), (96, 96))
        )
        self.across = nn.ModuleList(conv(channels, 48, 1) for channels in (64, 96, 96))
        self.scores = nn.ModuleList(nn.Sequential(conv(48, 48), nn.Conv2d(48, classes, 1)) for _ in STRIDES)
        self.sides = nn.ModuleList(nn.Sequential(conv(48, 48), nn.Conv2d(48, 4, 1)) for _ in STRIDES)
        for branch, first in ((self.scores, _FIRST_SCORE), (self.sides, _FIRST_SIDE)):
            for level in branch:
                nn.init.normal_(level[-1].weight, std=0.01)
                nn.init.constant_(level[-1].bias, first)

    def features(self, x: Tensor) -> list[Tensor]:
        """The three levels, finest first, each with what the coarser ones know."""
        x, found = self.stem(x), []
        for stage, across in zip(self.stages, self.across, strict=True):
            x = stage(x)
            found.append(across(x))
        for fine in (1, 0):
            found[fine] = found[fine] + interpolate(found[fine + 1], scale_factor=2.0, mode="nearest")
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        found = self.features(x)
        logits = [rows(head(level)) for head, level in zip(self.scores, found, strict=True)]
        sides = [rows(head(level)) for head, level in zip(self.sides, found, strict=True)]
        return torch.cat(logits, 1), torch.cat(sides, 1)


class Exported(nn.Module):
    """A trained net as the agent reads it: `(1, 4 + classes, N)`, boxes as centre, width and height, then scores.

    The way from the four distances to a box is linear, so it is folded into the last convolution; what is left is to
    add the centre of the cell. Boxes are fractions of the input until the very end: in int8 all columns share one
    scale, and pixels would leave nothing of the scores.
    """

    def __init__(self, net: Net, *, pixels: bool) -> None:
        super().__init__()
        self.net, self.pixels = fused(net), pixels
        for level, stride in zip(self.net.sides, STRIDES, strict=True):
            _fold(level[-1], stride)
        for number, stride in enumerate(STRIDES):
            x, y = centres(stride).unbind(1)
            grid = torch.stack([x / WIDTH, y / HEIGHT, torch.zeros_like(x), torch.zeros_like(y)], 1)
            self.register_buffer(f"grid{number}", grid[None])
        self.register_buffer("size", torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]).view(1, 1, 4).float())

    def forward(self, x: Tensor) -> Tensor:
        """`(1, 3, H, W)` RGB 0..1 to `(1, 4 + classes, N)`."""
        found = self.net.features(x)
        logits = [rows(head(level)) for head, level in zip(self.net.scores, found, strict=True)]
        boxes = [
            rows(head(level)) + getattr(self, f"grid{number}")
            for number, (head, level) in enumerate(zip(self.net.sides, found, strict=True))
        ]
        joined = torch.cat(boxes, 1)
        joined = joined * self.size if self.pixels else joined
        return torch.cat([joined, torch.sigmoid(torch.cat(logits, 1))], 2).transpose(1, 2)


def rows(level: Tensor) -> Tensor:
    """`(B, C, h, w)` as `(B, h * w, C)`."""
    return level.permute(0, 2, 3, 1).flatten(1, 2)


def centres(stride: int) -> Tensor:
    """`(h * w, 2)` x and y of the centres of a level's cells, in pixels of the input, row by row."""
    x, y = ((torch.arange(side // stride) + 0.5) * stride for side in (WIDTH, HEIGHT))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).reshape(-1, 2)


def cells() -> tuple[Tensor, Tensor]:
    """`(N, 2)` centres of all cells in pixels of the input, and `(N, 1)` their strides."""
    levels = [centres(stride) for stride in STRIDES]
    strides = [torch.full((len(level), 1), float(stride)) for level, stride in zip(levels, STRIDES, strict=True)]
    return torch.cat(levels), torch.cat(strides)


def boxes_of(sides: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """`(B, N, 4)` distances in cells as boxes, xyxy in pixels of the input."""
    before, after = (sides * strides).chunk(2, -1)
    return torch.cat([points - before, points + after], -1)


def fused(net: Net) -> Net:
    """A copy for inference, with each batch norm inside the convolution before it."""
    copied = copy.deepcopy(net).eval()
    for module in copied.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    return copied


def _fold(last: Any, stride: int) -> None:
    """Makes a convolution to four distances in cells one to centre (less the cell's) and size in fractions."""
    x, y = stride / WIDTH, stride / HEIGHT
    to_box = torch.tensor([[-x / 2, 0, x / 2, 0], [0, -y / 2, 0, y / 2], [x, 0, x, 0], [0, y, 0, y]])
    with torch.no_grad():
        last.weight.copy_(torch.einsum("ij,jcxy->icxy", to_box, last.weight))
        last.bias.copy_(to_box @ last.bias)
