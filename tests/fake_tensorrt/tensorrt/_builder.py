"""The builder: an "engine" is the model itself, with what was asked for written beside it."""

import hashlib
import json
import os
import signal
import time

from tensorrt import _gpu, _plans, _says
from tensorrt._api import MAJOR, VERSION, has
from tensorrt._network import INetworkDefinition
from tensorrt._shared import ENUMS, failing, no_memory
from tensorrt._values import Bound, Dims, IHostMemory, ILogger

STEPS = 20
_ALL_MEMORY = 1 << 33


class IOptimizationProfile:
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002 - the real names
        if not all(low <= best <= high for low, best, high in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min is inconsistent with other shapes.")
        self._shapes[input] = [list(min), list(opt), list(max)]

    def get_shape(self, input):  # noqa: A002 - the real name
        return [Dims(shape) for shape in self._shapes.get(input, [])]

    def __bool__(self):
        return True


class ITimingCache:
    def __init__(self, head, kernels):
        self._head, self._kernels = head, kernels

    def serialize(self):
        return IHostMemory(json.dumps({"head": self._head, "kernels": self._kernels}).encode())

    def combine(self, input_cache, ignore_mismatch):
        self._kernels = sorted({*self._kernels, *input_cache._kernels})
        return True

    def reset(self):
        self._kernels = []
        return True


class IProgressMonitor(Bound):
    def phase_start(self, phase_name, parent_phase, num_steps):
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::phaseStart"')

    def step_complete(self, phase_name, step):
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::stepComplete"')

    def phase_finish(self, phase_name):
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::phaseFinish"')


class IBuilderConfig:
    def __init__(self, logger):
        self._sink, self._profiles, self._cache, self._pools = logger, [], None, {}
        self._sources = sum(1 << int(source) for source in ENUMS["TacticSource"])
        has(self, flags=1 << int(ENUMS["BuilderFlag"].TF32), avg_timing_iterations=1, builder_optimization_level=3)
        has(self, progress_monitor=None, int8_calibrator=None, profile_stream=0, max_aux_streams=-1, DLA_core=-1)
        has(self, profiling_verbosity=ENUMS["ProfilingVerbosity"].LAYER_NAMES_ONLY, hardware_compatibility_level=None)
        has(self, default_device_type=ENUMS["DeviceType"].GPU)

    def set_flag(self, flag):
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag):
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag):
        return bool(self.flags >> int(flag) & 1)

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool):
        return self._pools.get(pool, _ALL_MEMORY)

    def set_tactic_sources(self, tactic_sources):
        self._sources = tactic_sources
        return True

    def get_tactic_sources(self):
        return self._sources

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    def set_preview_feature(self, feature, enable):
        """None is of use here."""

    def create_timing_cache(self, serialized_timing_cache):
        content = bytes(serialized_timing_cache)
        if not content:
            return ITimingCache(_here(), [])
        try:
            read = json.loads(content)
            return ITimingCache(read["head"], read["kernels"])
        except (ValueError, KeyError, TypeError):
            self._sink.log(ILogger.ERROR, "Serialized timing cache is not valid: its header cannot be read.")
            return None

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache._head != _here() and not ignore_mismatch:
            self._sink.log(
                ILogger.WARNING, "Timing cache disabled: it was made on another device or by another TensorRT."
            )
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


def _here():
    return [".".join(map(str, VERSION)), list(_gpu.compute())]


class Builder:
    def __init__(self, logger):
        error = _gpu.start()
        if error:
            logger.log(ILogger.WARNING if MAJOR < 10 else ILogger.ERROR, _says.no_cuda(error))
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._sink = logger
        has(self, logger=logger, platform_has_fast_fp16=True, platform_has_fast_int8=True, platform_has_tf32=True)
        has(self, num_DLA_cores=0, max_DLA_batch_size=0, max_threads=1, error_recorder=None, max_batch_size=1)

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig(self._sink)

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        if not network.num_outputs:
            return self._refuse("Network must have at least one output")
        dynamic = [tensor.name for tensor in network._inputs if -1 in tuple(tensor.shape)]
        profiles = [profile._shapes for profile in config._profiles]
        if dynamic and not profiles:
            return self._refuse("Network has dynamic or shape inputs, but no optimization profile has been defined.")
        if failing("build_crash"):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
        if failing("build_memory"):
            no_memory(
                self._sink,
                config.get_memory_pool_limit(ENUMS["MemoryPoolType"].WORKSPACE),
                "IBuilder::buildSerializedNetwork",
            )
        if failing("build") or failing("build_memory"):
            self._sink.log(ILogger.ERROR, _says.no_implementation("{ForeignNode[images + /stem/Conv]}"))
            return None
        if not self._take_time(network, config):
            return None
        return IHostMemory(_plans.packed(self._facts(network, config, profiles), network._onnx))

    def _take_time(self, network, config):
        """FAKE_TENSORRT_BUILD_S seconds, a tenth of that with a timing cache that knows the model; False if cancelled."""
        digest = hashlib.sha256(network._onnx).hexdigest()
        cache = config._cache = config._cache or ITimingCache(_here(), [])
        seconds = float(os.environ.get("FAKE_TENSORRT_BUILD_S", "0")) / (10 if digest in cache._kernels else 1)
        monitor = getattr(config, "progress_monitor", None)
        if monitor:
            monitor.phase_start("Building Engine", None, 2)
            monitor.phase_start("Computing profile costs", "Building Engine", STEPS)
        for step in range(STEPS):
            time.sleep(seconds / STEPS)
            if monitor and not monitor.step_complete("Computing profile costs", step):
                return False
        if monitor:
            monitor.phase_finish("Computing profile costs")
            monitor.phase_finish("Building Engine")
        cache.combine(ITimingCache(_here(), [digest]), False)
        return True

    def _facts(self, network, config, profiles):
        flags = {flag.name for flag in ENUMS["BuilderFlag"] if config.get_flag(flag)}
        quantised = any(layer.type.name == "QUANTIZE" for layer in network._layers)
        if "INT8" in flags and not quantised and not config.int8_calibrator:
            for tensor in network._inputs:
                self._sink.log(ILogger.WARNING, _says.no_scales(tensor.name))
        return facts(
            flags=sorted(flags),
            sources=config.get_tactic_sources(),
            workspace=config.get_memory_pool_limit(ENUMS["MemoryPoolType"].WORKSPACE),
            version_compatible="VERSION_COMPATIBLE" in flags,
            profiles=profiles,
            layers=network.num_layers,
        )

    def _refuse(self, words):
        self._sink.log(ILogger.ERROR, _says.network_invalid(words))


def facts(**given):
    """What a plan says of itself, for this machine where nothing else is given."""
    usual = {
        "version": list(VERSION),
        "compute": list(_gpu.compute()),
        "gpu": _gpu.name(),
        "name": "Unnamed Network 0",
        "flags": [],
        "version_compatible": False,
        "profiles": [],
        "dtypes": {},
        "on_host": [],
        "shape_tensors": [],
        "data_dependent": {},
        "layers": 1,
    }
    return {**usual, **given}
