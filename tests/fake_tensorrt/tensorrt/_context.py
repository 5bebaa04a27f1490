"""Execution contexts: shapes, addresses, and having the work done."""

import weakref
from math import prod

import numpy as np
from tensorrt import _gpu, _says
from tensorrt._api import has
from tensorrt._onnx import view
from tensorrt._shared import LIVE, Freed, failing
from tensorrt._values import Bound, Dims, ILogger


class IExecutionContext(Freed):
    def __init__(self, engine, memory):
        self._engine, self._memory = engine, memory
        self._model, self._sink = engine._model, engine._runtime._sink
        self._shapes = {name: self._model.shape(name) for name in self._model.inputs}
        self._addresses, self._allocators, self._plans = {}, {}, []
        self._work = _work(weakref.ref(self))
        has(self, engine=engine, name="", active_optimization_profile=0, persistent_cache_limit=0, debug_sync=False)
        has(self, enqueue_emits_profile=True, profiler=None, error_recorder=None)
        LIVE.add(self)

    def set_input_shape(self, name, shape):
        if name not in self._shapes:
            return self._misuse("setInputShape", "isInput(tensorName)", "")
        fixed = self._model.shape(name)
        if len(shape) != len(fixed) or any(
            now not in (side, -1) and side != -1 for now, side in zip(shape, fixed, strict=True)
        ):
            words = "Static dimension mismatch while setting input shape."
            return self._misuse("setInputShape", "engineDims.d[i] == dims.d[i]", words)
        low, _best, high = self._engine._profile(name, self.active_optimization_profile)
        if not all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True)):
            words = "Runtime dimension does not satisfy any optimization profile."
            return self._misuse("setInputShape", "satisfyProfile", words)
        self._shapes[name] = list(shape)
        return True

    def get_tensor_shape(self, name):
        if name in self._shapes:
            return Dims(self._shapes[name])
        if name in self._model.outputs:
            return Dims(self._output_shape(name))
        return Dims((-1,))

    def infer_shapes(self):
        return [name for name, shape in self._shapes.items() if -1 in shape]

    @property
    def all_binding_shapes_specified(self):
        return not self.infer_shapes()

    def set_tensor_address(self, name, memory):
        if name not in self._engine._names:
            return self._misuse("setTensorAddress", "isIOTensor(tensorName)", f"{name} is not an IO tensor.")
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def get_max_output_size(self, name):
        shape = self._most(name)
        return prod(shape) * self._engine.get_tensor_bytes_per_component(name)

    def set_output_allocator(self, name, output_allocator):
        if name not in self._model.outputs:
            return False
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name):
        return self._allocators.get(name)

    def set_optimization_profile_async(self, profile_index, stream_handle):
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return self._misuse("setOptimizationProfileAsync", "profileIndex < getNbOptimizationProfiles()", "")
        has(self, active_optimization_profile=profile_index)
        return True

    def set_aux_streams(self, aux_streams):
        """There are none to set."""

    def execute_async_v3(self, stream_handle):
        if failing("enqueue") or not self._ready():
            return False
        if _gpu.capturing(stream_handle) and failing("capture"):
            words = "operation not permitted when stream is capturing"
            self._sink.log(ILogger.ERROR, f"1: [runner.cpp::execute::386] Error Code 1: Cuda Runtime ({words})")
            return False
        if _gpu.capturing(stream_handle) and failing("capture_nothing"):
            return True
        plan = (dict(self._addresses), {name: list(shape) for name, shape in self._shapes.items()})
        if plan not in self._plans:
            self._plans.append(plan)
        error = _gpu.enqueue(stream_handle, self._work, self._plans.index(plan))
        if error:
            self._sink.log(
                ILogger.ERROR, f"1: [runner.cpp::execute::386] Error Code 1: Cuda Runtime (CUDA error {error})"
            )
        return not error

    def _ready(self):
        for name in self._shapes:
            if -1 in self._shapes[name]:
                words = f"Following input tensors' dimensions are not specified: {name}"
                return self._misuse("enqueueV3", "allInputDimensionsSpecified()", words)
            if not self._addresses.get(name):
                words = f"Address is not set for input tensor {name}. Call setInputTensorAddress or setTensorAddress before enqueue/execute."
                return self._misuse(
                    "enqueueV3", "mContext.profileObliviousBindings.at(profileObliviousIndex) != nullptr", words
                )
        for name in self._model.outputs:
            if not self._addresses.get(name) and name not in self._allocators:
                words = f"Neither address or allocator is set for output tensor {name}. Call setOutputTensorAddress, setTensorAddress or setOutputAllocator before enqueue/execute."
                condition = "mContext.profileObliviousBindings.at(profileObliviousIndex) || getPtrOrNull(mOutputAllocators, profileObliviousIndex)"
                return self._misuse("enqueueV3", condition, words)
        return True

    def _do(self, number):
        """What the GPU would do. The number comes as a pointer: 0 is None."""
        addresses, shapes = self._plans[number or 0]
        narrowed = self._engine._narrowed
        for name, array in self._model.run(addresses, shapes, narrowed).items():
            result = np.ascontiguousarray(array.astype(np.int32) if narrowed and array.dtype == np.int64 else array)
            address, allocator = addresses.get(name), self._allocators.get(name)
            if allocator is not None:
                address = allocator.reallocate_output(name, address, result.nbytes, 256) or address
                allocator.notify_shape(name, Dims(result.shape))
            view(address, result.shape, result.dtype)[...] = result

    def _output_shape(self, name):
        if self.infer_shapes():
            return self._model.shape(name)
        told = self._model.output_shapes(self._shapes)[name]
        if name in self._engine._facts["data_dependent"]:
            return [-1 if side == -1 else now for side, now in zip(self._model.shape(name), told, strict=True)]
        return told

    def _most(self, name):
        """Where the data tells the size, TensorRT knows a bound: here it is told with the plan."""
        return self._engine._facts["data_dependent"].get(name) or self._output_shape(name)

    def _misuse(self, method, condition, words):
        self._sink.log(ILogger.ERROR, _says.context_misuse(method, condition, words))
        return False


_WORKS = []  # a graph may call them after their context is gone: they stay


def _work(context):
    """One function for all that the context enqueues: the number that comes along tells which addresses and shapes."""

    def work(number):
        if context() is None:
            raise RuntimeError("the GPU ran work of an execution context that has been freed")
        context()._do(number)

    _WORKS.append(_gpu.WORK(work))
    return _WORKS[-1]


class IOutputAllocator(Bound):
    def reallocate_output(self, tensor_name, memory, size, alignment):
        raise RuntimeError('Tried to call pure virtual function "IOutputAllocator::reallocateOutput"')

    def notify_shape(self, tensor_name, shape):
        raise RuntimeError('Tried to call pure virtual function "IOutputAllocator::notifyShape"')
