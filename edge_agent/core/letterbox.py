"""The geometry of one resize, and its exact inverse."""

from dataclasses import dataclass

from edge_agent.core.datatypes import FloatArray, InputFormat


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame of `frame_w x frame_h` pixels lies inside a model input of `model_w x model_h`."""

    frame_w: int
    frame_h: int
    model_w: int
    model_h: int
    inner_w: int
    inner_h: int
    pad_left: int
    pad_top: int
