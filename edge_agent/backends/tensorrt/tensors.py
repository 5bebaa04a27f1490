"""The inputs and outputs of an engine, and their memory: where the CPU sees them, and where TensorRT finds them.

Each has host memory that is page-locked and that the GPU can reach; arrays are views of it. TensorRT works on it in place
("mapped"), or on device memory that is copied from and to it on the stream ("copied").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.backends.tensorrt.plans import Session
from edge_agent.core.datatypes import Array, TensorSpec
from edge_agent.cuda import Cuda, DeviceMemory, HostMemory
from edge_agent.errors import ModelError

_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,  # from TensorRT 10 on
    "BOOL": np.bool_,
}
"""By TensorRT's names. Its own `nptype` fails in 8.5 with numpy 1.24 and newer, and numpy has no bfloat16 or float8."""

_FIXED = "export the model with a fixed size, for example imgsz=640 and dynamic=False"


@dataclass(slots=True, eq=False)
class Tensor:
    """One input or output. `array` is a view of `host`.

    `device` is memory on the device that is copied to or from; `by_gpu` is another that the GPU itself writes. Each is
    None where there is none.
    """

    spec: TensorSpec
    is_input: bool
    host: HostMemory
    array: Array
    device: DeviceMemory | None = None
    by_gpu: DeviceMemory | None = None


class Tensors:
    """All tensors of a session. `arrange` must have been called before `run`; closing the `Cuda` frees their memory."""

    def __init__(self, cuda: Cuda, session: Session) -> None:
        self._cuda, self._session = cuda, session
        inputs, outputs = self._names()
        specs = [*map(self._input, inputs)]
        self._refuse_unsettled()
        specs += map(self._output, outputs)
        tensors = [self._bound(spec, is_input=number < len(inputs)) for number, spec in enumerate(specs)]
        self.inputs: Sequence[Tensor] = tuple(tensor for tensor in tensors if tensor.is_input)
        self.outputs: Sequence[Tensor] = tuple(tensor for tensor in tensors if not tensor.is_input)
        self._uploads: Sequence[tuple[DeviceMemory, HostMemory]] = ()
        self._downloads: Sequence[tuple[HostMemory, DeviceMemory]] = ()

    def arrange(self, *, copied: bool, from_gpu: bool = False) -> None:
        """Says where TensorRT finds each tensor.

        Args:
            copied: in device memory that is copied from and to host memory, or in host memory itself.
            from_gpu: what the GPU writes is found where it writes it.

        Raises:
            CudaError: there is not enough device memory.
        """
        uploads, downloads = [], []
        for tensor in (*self.inputs, *self.outputs):
            if from_gpu and tensor.by_gpu is not None:
                self._session.set_address(tensor.spec.name, tensor.by_gpu.ptr)
            elif not copied:
                self._session.set_address(tensor.spec.name, tensor.host.device_ptr)
            else:
                device = self._on_device(tensor)
                self._session.set_address(tensor.spec.name, device.ptr)
                if tensor.is_input:
                    uploads.append((device, tensor.host))
                else:
                    downloads.append((tensor.host, device))
        self._uploads, self._downloads = uploads, downloads

    def memory_by_gpu(self, tensor: Tensor) -> DeviceMemory:
        """Memory of an input that the GPU may write; `arrange` has TensorRT find it there. It begins as the array is."""
        if tensor.by_gpu is None:
            tensor.by_gpu = self._cuda.device(tensor.host.nbytes)
            self._cuda.upload(tensor.by_gpu, tensor.host)
        return tensor.by_gpu

    def free_memory_by_gpu(self, tensor: Tensor) -> None:
        """Where `arrange` has not been told of it."""
        if tensor.by_gpu is not None:
            self._cuda.release(tensor.by_gpu)
            tensor.by_gpu = None

    def free_device_memory(self) -> None:
        """That which is copied; `arrange` must have all tensors found elsewhere."""
        for tensor in (*self.inputs, *self.outputs):
            if tensor.device is not None:
                self._cuda.release(tensor.device)
                tensor.device = None

    def run(self) -> None:
        """Copies in, runs and copies out, as far as they are copied; returns before the GPU is done."""
        self._cuda.check()
        for device, host in self._uploads:
            self._cuda.upload(device, host)
        self._session.enqueue()
        for host, device in self._downloads:
            self._cuda.download(host, device)

    def _on_device(self, tensor: Tensor) -> DeviceMemory:
        if tensor.device is None:
            tensor.device = self._cuda.device(tensor.host.nbytes)
        return tensor.device

    def _names(self) -> tuple[list[str], list[str]]:
        names = [self._session.engine.get_tensor_name(n) for n in range(self._session.engine.num_io_tensors)]
        is_input = [self._session.engine.get_tensor_mode(name).name == "INPUT" for name in names]
        inputs = [name for name, is_in in zip(names, is_input, strict=True) if is_in]
        return inputs, [name for name in names if name not in inputs]

    def _input(self, name: str) -> TensorSpec:
        """With its shape, which is fixed here where the engine leaves it open: batch 1, else as it was optimised for."""
        self._refuse_form(name)
        shape = tuple(self._session.engine.get_tensor_shape(name))
        if -1 in shape:
            shape = self._settled(name, shape)
            self._session.set_shape(name, shape)
        return TensorSpec(name, shape, self._dtype(name))

    def _settled(self, name: str, declared: tuple[int, ...]) -> tuple[int, ...]:
        least, best, _ = (tuple(shape) for shape in self._session.engine.get_tensor_profile_shape(name, 0))
        batch_is_free = declared[0] == -1 and least[0] <= 1
        return (1, *best[1:]) if batch_is_free else best

    def _output(self, name: str) -> TensorSpec:
        self._refuse_form(name)
        shape = tuple(self._session.context.get_tensor_shape(name))
        if any(side < 0 for side in shape):
            raise ModelError(
                f"{self._session.path}: the size of the output {name} {list(shape)} depends on the picture; export the "
                "model with a fixed number of rows, for example without NMS, or as an end-to-end model with max_det=300"
            )
        return TensorSpec(name, shape, self._dtype(name))

    def _refuse_unsettled(self) -> None:
        try:
            unsettled = list(self._session.context.infer_shapes())
        except RuntimeError as error:
            raise ModelError(f"{self._session.path}: its sizes cannot be told {self._session.last_words()}") from error
        if unsettled:
            raise ModelError(f"{self._session.path}: the size of {', '.join(unsettled)} is not fixed; {_FIXED}")

    def _refuse_form(self, name: str) -> None:
        """Tensors that the CPU must hold, or whose elements do not simply follow each other."""
        path, session = self._session.path, self._session
        if session.engine.get_tensor_location(name).name != "DEVICE" or session.engine.is_shape_inference_io(name):
            raise ModelError(f"{path}: the tensor {name} holds the size of another; {_FIXED}")
        form = session.engine.get_tensor_format(name).name
        if form != "LINEAR":
            raise ModelError(
                f"{path}: the tensor {name} is laid out as {form}; build the engine with linear inputs and outputs"
            )

    def _dtype(self, name: str) -> np.dtype[Any]:
        kind = self._session.engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise ModelError(
                f"{self._session.path}: the tensor {name} is of the type {kind}, which cannot be read or written here; "
                "export the model with inputs and outputs in FP32 or FP16"
            )
        return np.dtype(_DTYPES[kind])

    def _bound(self, spec: TensorSpec, *, is_input: bool) -> Tensor:
        nbytes = math.prod(spec.shape) * spec.dtype.itemsize
        host = self._cuda.host(max(nbytes, 1))  # a tensor without elements needs an address all the same
        host.array.fill(0)
        array = host.array[:nbytes].view(spec.dtype).reshape(spec.shape)
        if not is_input:
            array.flags.writeable = False
        return Tensor(spec, is_input, host, array)
