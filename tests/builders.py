"""Small values for tests, each with one call."""

import numpy as np

from edge_agent.core.datatypes import Detections, FloatArray, Frame
from edge_agent.core.ports import Observation
from edge_agent.core.track import Track

MS = 1_000_000
"""One millisecond in nanoseconds."""


def make_frame(seq: int = 0, captured_ns: int = 0, width: int = 200, height: int = 100) -> Frame:
    """A black picture."""
    return Frame(np.zeros((height, width, 3), np.uint8), seq, captured_ns)


def make_box(x: float, y: float, width: float = 20, height: float = 20) -> FloatArray:
    """`(4,)` xyxy around a centre, in pixels."""
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32)


def make_detections(*found: tuple[int, float, FloatArray]) -> Detections:
    """Each `(class_id, score, box)`, in the order given."""
    if not found:
        return Detections.empty()
    classes, scores, boxes = zip(*found, strict=True)
    return Detections(np.stack(boxes), np.array(scores, np.float32), np.array(classes, np.int32))


def make_track(track_id: int = 1, box: FloatArray | None = None, class_id: int = 0, score: float = 0.9) -> Track:
    """A track in its first frame."""
    box = make_box(50, 50) if box is None else box
    centre = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
    return Track(track_id, box, class_id, score, centre, seen_ns=0)


def make_observation(*found: tuple[str, float]) -> Observation:
    """What was found on a part in one frame: labels with scores."""
    return Observation(found)
