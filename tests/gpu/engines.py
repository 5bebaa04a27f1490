"""Opening engines, and comparing what they give."""

from contextlib import closing, contextmanager

import numpy as np

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.backends import onnx, tensorrt
from edge_agent.core.boxes import iou
from edge_agent.core.datatypes import Thresholds
from edge_agent.models.bundled import ONNX
from tests.fixtures import REPO, SHARED

MODELS = {"yolox": REPO / "examples" / "models" / "yolox_nano_416_coco.onnx", "bottles": ONNX}
LABELS = {"yolox": REPO / "examples" / "models" / "yolox_nano_416_coco.txt"}
CONF, SURE = 0.25, 0.35  # what is less sure than the second may be missed by the other
ALIKE_IOU = 0.9


@contextmanager
def backend_of(path):
    """The backend alone."""
    kind = onnx if path.suffix == ".onnx" else tensorrt
    with closing(kind.create(kind.Config(path=path))) as backend:
        yield backend


@contextmanager
def engine_of(name, path, kind):
    """With preprocessing and decoder."""
    request = EngineRequest(path, (kind,), LABELS.get(name), kind, thresholds=Thresholds(conf=CONF))
    engine = open_engine(request)
    with closing(engine.backend):
        yield engine


def noise(backend, seed=0):
    """A picture of noise in the only input, in the range the model expects. Returned as well."""
    (bound,) = backend.inputs
    generator = np.random.default_rng(seed)
    highest = 255 if bound.array.shape[-1] == bound.array.shape[-2] else 1  # YOLOX is square and takes 0 to 255
    bound.array[...] = generator.random(bound.array.shape, np.float32) * highest
    return bound.array.copy()


def outputs_on(backend, picture):
    """Copies of the outputs for one content of the input."""
    backend.inputs[0].array[...] = picture
    return [output.copy() for output in backend.infer()]


def error_of(outputs, wanted):
    """The greatest difference, relative to the greatest value of its column: scores and sides in pixels stand side by side."""
    worst = 0.0
    for got, right in zip(outputs, wanted, strict=True):
        columns = int(np.argmin(right.shape[1:])) + 1  # attributes: fewer than places
        others = tuple(axis for axis in range(right.ndim) if axis != columns)
        scale = np.maximum(np.abs(right).max(axis=others, keepdims=True), 1e-3)
        worst = max(worst, float((np.abs(got.astype(np.float64) - right) / scale).max()))
    return worst


def photos(name):
    """Pictures with something in them that the model knows."""
    if name == "bottles":
        return sorted((REPO / "edge_agent" / "demo_model" / "golden").glob("*.jpg"))
    folders = (REPO / "examples" / "photos", SHARED / "fixtures" / "images")
    found = {path.name: path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.jpg"))}
    return list(found.values())


def unmatched(these, those, box_px=0.0):
    """How many sure ones of `these` have no like in `those`: the same class, and IoU 0.9 or all sides within `box_px`."""
    apart_px = np.abs(these.boxes[:, None] - those.boxes[None]).max(axis=-1, initial=0.0)
    alike = (iou(these.boxes, those.boxes) >= ALIKE_IOU) | (apart_px <= box_px)
    alike &= these.classes[:, None] == those.classes[None]
    return int(((these.scores > SURE) & ~alike.any(axis=1)).sum())
