"""The geometry of one resize, and its exact inverse."""

from dataclasses import dataclass, field

import numpy as np

from edge_agent.core.datatypes import Fit, FloatArray


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a frame of `frame_w` x `frame_h` pixels lies inside a model input of `model_w` x `model_h` pixels.

    Of the frame, `crop_w` x `crop_h` pixels from `crop_left` and `crop_top` on are looked at: all of it, unless the fit
    cuts something off. They are resized to `inner_w` x `inner_h` and stand `pad_left` and `pad_top` pixels from the
    input's corner.
    """

    frame_w: int
    frame_h: int
    model_w: int
    model_h: int
    inner_w: int
    inner_h: int
    pad_left: int
    pad_top: int
    crop_left: int
    crop_top: int
    crop_w: int
    crop_h: int
    model_whwh: FloatArray = field(init=False, repr=False, compare=False)
    """`(4,)`: what a box in fractions of the model input is multiplied by to have it in pixels."""
    _frame_whwh: FloatArray = field(init=False, repr=False, compare=False)
    _scale: FloatArray = field(init=False, repr=False, compare=False)
    _offset: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Makes the arrays once: the geometry stays the same for many pictures."""
        scale_x, scale_y = self.inner_w / self.crop_w, self.inner_h / self.crop_h
        offset = self.pad_left - self.crop_left * scale_x, self.pad_top - self.crop_top * scale_y
        pairs = {
            "model_whwh": (self.model_w, self.model_h),
            "_frame_whwh": (self.frame_w, self.frame_h),
            "_scale": (scale_x, scale_y),
            "_offset": offset,
        }
        for name, pair in pairs.items():
            object.__setattr__(self, name, np.array(pair * 2, np.float32))

    @staticmethod
    def fit(
        frame_wh: tuple[int, int],
        model_wh: tuple[int, int],
        fit: Fit = "letterbox",
    ) -> "Letterbox":
        """The letterbox that the model was trained with.

        The frame's sides are rounded to whole pixels; odd padding goes to the right and bottom, as Ultralytics does.
        What `centre_crop` cuts out is rounded to whole pixels of the frame.
        """
        (frame_w, frame_h), (model_w, model_h) = frame_wh, model_wh
        if fit == "centre_crop":
            ratio = max(model_w / frame_w, model_h / frame_h)
            crop_w, crop_h = (max(1, min(a, round(b / ratio))) for a, b in zip(frame_wh, model_wh, strict=True))
            crop = (frame_w - crop_w) // 2, (frame_h - crop_h) // 2, crop_w, crop_h
            return Letterbox(*frame_wh, *model_wh, *model_wh, 0, 0, *crop)
        everything = 0, 0, frame_w, frame_h
        if fit == "stretch":
            return Letterbox(*frame_wh, *model_wh, *model_wh, 0, 0, *everything)
        ratio = min(model_w / frame_w, model_h / frame_h)
        inner_w, inner_h = max(1, round(frame_w * ratio)), max(1, round(frame_h * ratio))
        left = top = 0
        if fit == "letterbox":
            left, top = round((model_w - inner_w) / 2 - 0.1), round((model_h - inner_h) / 2 - 0.1)
        return Letterbox(*frame_wh, *model_wh, inner_w, inner_h, left, top, *everything)

    def to_model(self, boxes: FloatArray) -> FloatArray:
        """`(N, 4)` xyxy in frame pixels, in pixels of the model input."""
        return boxes * self._scale + self._offset

    def to_frame(self, boxes: FloatArray) -> FloatArray:
        """`(N, 4)` xyxy in pixels of the model input, in frame pixels and clipped to the frame."""
        inside: FloatArray = (boxes - self._offset) / self._scale
        np.maximum(inside, 0, out=inside)  # np.clip takes twice as long: it begins in Python
        return np.minimum(inside, self._frame_whwh, out=inside)
