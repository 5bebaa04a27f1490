"""Runtime and engine."""

import numpy as np
from tensorrt import _gpu, _plans, _says
from tensorrt._api import MAJOR, VERSION, has
from tensorrt._context import IExecutionContext
from tensorrt._onnx import NUMPY, Model
from tensorrt._shared import ENUMS, LIVE, Freed, failing, no_memory
from tensorrt._values import Dims, IHostMemory, ILogger

WEIGHTS = 1 << 20  # bytes on the GPU that an engine takes beside its model's size
SCRATCH = 4 << 20  # and a context


class Runtime:
    def __init__(self, logger):
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments.")
        error = _gpu.start()
        if error:
            logger.log(ILogger.WARNING if MAJOR < 10 else ILogger.ERROR, _says.no_cuda(error))
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._sink = logger
        has(self, logger=logger, engine_host_code_allowed=False, max_threads=1, error_recorder=None)
        has(self, DLA_core=-1, num_DLA_cores=0, temporary_directory="")
        LIVE.add(self)

    def deserialize_cuda_engine(self, serialized_engine):
        facts, rest = _plans.unpacked(serialized_engine)
        if facts is None:
            return self._refuse(rest)
        if facts["version"] != VERSION and (not facts["version_compatible"] or VERSION < (8, 6)):
            return self._refuse(_says.other_version(facts))
        if facts["version_compatible"] and VERSION >= (8, 6) and not self.engine_host_code_allowed:
            return self._refuse(_says.host_code())
        if facts["compute"] != _gpu.compute():
            return self._refuse(_says.other_gpu(facts, _gpu.compute()))
        if facts["gpu"] != _gpu.name():
            self._sink.log(ILogger.WARNING, _says.other_model_of_gpu())
        try:
            memory = _gpu.Memory(len(rest) + WEIGHTS, refused=failing("engine_memory"))
        except MemoryError:
            no_memory(self._sink, len(rest) + WEIGHTS, "IRuntime::deserializeCudaEngine")
            return None
        return ICudaEngine(self, facts, rest, memory)

    def _refuse(self, messages):
        for message in messages:
            self._sink.log(ILogger.ERROR, message)


class ICudaEngine(Freed):
    def __init__(self, runtime, facts, onnx, memory):
        self._runtime, self._facts, self._onnx, self._memory = runtime, facts, onnx, memory
        self._model = Model(onnx)
        self._names = [*self._model.inputs, *self._model.outputs]
        profiles = max(1, len(facts["profiles"]))
        has(self, name=facts["name"], num_io_tensors=len(self._names), num_optimization_profiles=profiles)
        has(self, num_layers=facts["layers"], num_aux_streams=0, refittable=False, error_recorder=None)
        has(self, device_memory_size=SCRATCH, device_memory_size_v2=SCRATCH, has_implicit_batch_dimension=False)
        LIVE.add(self)

    def get_tensor_name(self, index):
        return self._names[index]

    def get_tensor_mode(self, name):
        mode = "NONE" if name not in self._names else "INPUT" if name in self._model.inputs else "OUTPUT"
        return ENUMS["TensorIOMode"][mode]

    def get_tensor_dtype(self, name):
        dtype = self._facts["dtypes"].get(name) or self._model.dtype(name)
        return ENUMS["DataType"]["INT32" if self._narrowed and dtype == "INT64" else dtype]

    def get_tensor_shape(self, name):
        if name not in self._names:
            return Dims((-1,))
        return Dims(self._model.shape(name))

    def get_tensor_location(self, name):
        return ENUMS["TensorLocation"]["HOST" if name in self._facts["on_host"] else "DEVICE"]

    def is_shape_inference_io(self, name):
        return name in self._facts["shape_tensors"]

    def get_tensor_profile_shape(self, name, profile_index):
        shapes = self._profile(name, profile_index)
        return [Dims(shape) for shape in shapes]

    def get_tensor_bytes_per_component(self, name):
        return np.dtype(NUMPY[self.get_tensor_dtype(name).name]).itemsize

    def get_tensor_format(self, name):
        return ENUMS["TensorFormat"].LINEAR

    def get_tensor_vectorized_dim(self, name):
        return -1

    def create_execution_context(self):
        try:
            memory = _gpu.Memory(SCRATCH, refused=failing("context_memory"))
        except MemoryError:
            no_memory(self._runtime._sink, SCRATCH, "ICudaEngine::createExecutionContext")
            return None
        return IExecutionContext(self, memory)

    def serialize(self):
        return IHostMemory(_plans.packed(self._facts, self._onnx))

    @property
    def _narrowed(self):
        return MAJOR < 10  # 10 is the first with 64-bit integers at the border

    def _profile(self, name, number):
        shape = self._model.shape(name)
        if -1 not in shape:
            return [shape] * 3
        given = self._facts["profiles"]
        return given[number][name] if given else [[max(side, 1) for side in shape]] * 3


def init_libnvinfer_plugins(logger, namespace):
    return True
