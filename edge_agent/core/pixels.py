"""What a model's input counts: the numbers that stand for the pixel values 0..255."""

from typing import Literal

import numpy as np

from edge_agent.core.datatypes import InputFormat, TensorSpec

Range = Literal["zero_to_one", "minus_one_to_one", "imagenet", "pixels"]

FORMATS: dict[Range, InputFormat] = {
    "zero_to_one": InputFormat(),
    "minus_one_to_one": InputFormat(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "imagenet": InputFormat(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),  # torchvision's, of RGB in 0..1
    "pixels": InputFormat(scale=1.0),
}
"""How each is calculated; `imagenet` is 0..1 less the mean of ImageNet and over its standard deviation."""

_ENDS: dict[Range, tuple[float, float]] = {
    "zero_to_one": (0.0, 1.0),
    "minus_one_to_one": (-1.0, 1.0),
    "imagenet": (-2.1, 2.6),
    "pixels": (0.0, 255.0),
}
_SLACK = 0.02  # a quantised range is rarely exact


def range_of(image: TensorSpec) -> Range | None:
    """What a quantised input counts, by the real values of its ends; None where it is not quantised, or counts else."""
    if image.quant is None or image.dtype.kind not in "iu":
        return None
    info = np.iinfo(image.dtype)
    ends = [(end - image.quant.zero_point) * image.quant.scale for end in (info.min, info.max)]
    for name, (low, high) in _ENDS.items():
        if np.allclose(ends, (low, high), rtol=0, atol=_SLACK * (high - low)):
            return name
    return None
