"""The geometry of one resize, and its exact inverse."""

from dataclasses import dataclass

import numpy as np

from edge_agent.core.datatypes import Fit, FloatArray


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame of `frame_w` x `frame_h` pixels lies inside a model input of `model_w` x `model_h` pixels.

    The frame is resized to `inner_w` x `inner_h` and stands `pad_left` and `pad_top` pixels from the input's corner.
    """

    frame_w: int
    frame_h: int
    model_w: int
    model_h: int
    inner_w: int
    inner_h: int
    pad_left: int
    pad_top: int

    @staticmethod
    def fit(
        frame_wh: tuple[int, int],
        model_wh: tuple[int, int],
        fit: Fit = "letterbox",
    ) -> "Letterbox":
        """The letterbox that the model was trained with.

        The frame's sides are rounded to whole pixels; odd padding goes to the right and bottom, as Ultralytics does.
        """
        (frame_w, frame_h), (model_w, model_h) = frame_wh, model_wh
        if fit == "stretch":
            return Letterbox(frame_w, frame_h, model_w, model_h, model_w, model_h, 0, 0)
        ratio = min(model_w / frame_w, model_h / frame_h)
        inner_w, inner_h = max(1, round(frame_w * ratio)), max(1, round(frame_h * ratio))
        left = top = 0
        if fit == "letterbox":
            left, top = round((model_w - inner_w) / 2 - 0.1), round((model_h - inner_h) / 2 - 0.1)
        return Letterbox(frame_w, frame_h, model_w, model_h, inner_w, inner_h, left, top)

    def to_model(self, boxes: FloatArray) -> FloatArray:
        """`(N, 4)` xyxy in frame pixels, in pixels of the model input."""
        scale, offset = self._scale_and_offset()
        return boxes * scale + offset

    def to_frame(self, boxes: FloatArray) -> FloatArray:
        """`(N, 4)` xyxy in pixels of the model input, in frame pixels and clipped to the frame."""
        scale, offset = self._scale_and_offset()
        limit = np.array([self.frame_w, self.frame_h] * 2, np.float32)
        inside: FloatArray = np.clip((boxes - offset) / scale, 0, limit)
        return inside

    def _scale_and_offset(self) -> tuple[FloatArray, FloatArray]:
        scale = np.array([self.inner_w / self.frame_w, self.inner_h / self.frame_h] * 2, np.float32)
        return scale, np.array([self.pad_left, self.pad_top] * 2, np.float32)
