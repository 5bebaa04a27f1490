"""Small engines of the stand-in for TensorRT: what goes in comes out, but for what is negative."""

from edge_agent.backends import tensorrt as kind
from tests.backends.models import FLOAT, write_onnx
from tests.fake_tensorrt import write_engine

PICTURE = [1, 3, 4, 4]
OUT_OF_MEMORY, ILLEGAL_ADDRESS, NO_DEVICE, UNSUPPORTED_IN_CAPTURE = 2, 700, 100, 900  # CUresult in cuda.h


def relu(folder, shape=PICTURE, output=None, name="m", **facts):
    model = write_onnx(
        folder / f"{name}.onnx", [("Relu", ["x"], "y")], {"x": (FLOAT, shape)}, {"y": (FLOAT, output or shape)}
    )
    return write_engine(folder / f"{name}.engine", model, **facts)


def opened(path, **options):
    return kind.create(kind.Config(path=path, **options))


def gives(backend, value):
    """Whether a relu on the GPU works."""
    backend.inputs[0].array.fill(value)
    return (backend.infer()[0] == max(value, 0)).all()
