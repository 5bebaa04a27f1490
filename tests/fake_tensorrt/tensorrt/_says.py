"""What the real TensorRT says when something is wrong, word for word where a report of it was found.

The reports are issues of github.com/NVIDIA/TensorRT (numbers below) and of projects that use it; `strings` of libnvinfer
8.5.3 and libnvinfer_lean 11.4.0 confirm the wording. The line numbers in brackets differ between patch releases.
"""

from tensorrt._api import MAJOR, VERSION

# Of the archive format: 8.2, 8.4 (2041, 2072), 8.5, 8.6 and 10.x as issues show them (2544, 3898).
_ARCHIVES = {(8, 2): 205, (8, 4): 213, (8, 5): 232, (8, 6): 228, (10, 3): 239, (11, 4): 242}


def _failed(code, name, what, where, function):
    """One error line: 8.x names the source file, 10 the interface's function, 11 the place as well, at the end."""
    if MAJOR >= 11:
        file, inside, line = where.split("::")
        return f"{function}: Error Code {code}: {name} ({what} In {inside} at /_src/runtime/{file}:{line})"
    if MAJOR >= 10:
        return f"{function}: Error Code {code}: {name} ({what})"
    return f"{code}: [{where}] Error Code {code}: {name} ({what})"


def _not_deserialised(error):
    """8.x says at last that nothing came of it."""
    where = "runtime.cpp::deserializeCudaEngine::66"
    last = _failed(4, "Internal Error", "Engine deserialization failed.", where, "IRuntime::deserializeCudaEngine")
    return [error, last] if MAJOR < 10 else [error]


def _serialisation(assertion, where):
    what = f"Serialization assertion {assertion}"
    return _not_deserialised(_failed(1, "Serialization", what, where, "IRuntime::deserializeCudaEngine"))


def empty():
    what = "Cannot deserialize with an empty memory buffer."
    return [
        _failed(3, "API Usage Error", what, "runtime.cpp::deserializeCudaEngine::40", "IRuntime::deserializeCudaEngine")
    ]


def no_plan():
    """Issue 2915, lix19937/tensorrt-insight 65."""
    if VERSION < (8, 6):
        assertion = "magicTagRead == kMAGIC_TAG failed.Magic tag does not match"
        return _serialisation(assertion, "stdArchiveReader.cpp::StdArchiveReader::32")
    tag = "header.magicTag == kEXPECTED_MAGIC_TAG" if MAJOR >= 11 else "plan->header.magicTag == rt::kPLAN_MAGIC_TAG"
    return _serialisation(f"{tag} failed.", "runtime.cpp::parsePlan::314")[:1]


def cut_short():
    """Issues 1736 and 3848."""
    assertion = (
        "sizeRead == static_cast<uint64_t>(mEnd - mCurrent) failed.Size specified in header does not match archive size"
    )
    return _serialisation(assertion, "stdArchiveReader.cpp::StdArchiveReader::54")


def other_version(plan):
    """The archive's number between minor releases (2544), the versions between patches (RootKit-Org/AI-Aimbot 109)."""
    if plan["version"][:2] != VERSION[:2]:
        now, then = _ARCHIVES[VERSION[:2]], _ARCHIVES.get(plan["version"][:2], 200)
        constant = "kSERIALIZATION_VERSION" if MAJOR >= 10 else "serializationVersion"
        words = f"Version tag does not match. Note: Current Version: {now}, Serialized Engine Version: {then}"
        assertion = f"stdVersionRead == {constant} failed.{words}"
        return _serialisation(assertion, "stdArchiveReader.cpp::StdArchiveReaderInitCommon::46")
    now, then = ".".join(map(str, VERSION)), ".".join(map(str, plan["version"]))
    words = "The engine plan file is not compatible with this version of TensorRT, expecting library version"
    return _misuse(f"{words} {now} got {then}, please rebuild.")


def other_gpu(plan, here):
    """Issues 2176 and 2177, deepinsight/insightface 2882: what is expected is this GPU, what is got is the plan's."""
    words = "The engine plan file is generated on an incompatible device, expecting compute"
    return _misuse(
        f"{words} {here[0]}.{here[1]} got compute {plan['compute'][0]}.{plan['compute'][1]}, please rebuild."
    )


def other_model_of_gpu():
    """A warning: the plan is used."""
    return (
        "Using an engine plan file across different models of devices is not recommended and is likely to affect "
        "performance or even cause errors."
    )


def host_code():
    words = "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false."
    where = "runtime.cpp::deserializeEngine::350"
    return [_failed(3, "API Usage Error", words, where, "IRuntime::deserializeCudaEngine")]


def _misuse(words):
    if MAJOR >= 10:
        return [_failed(6, "API Usage Error", words, "engine.cpp::deserialize::130", "IRuntime::deserializeCudaEngine")]
    return _not_deserialised(f"6: {words}")


def no_memory(nbytes, function):
    """Issue 3017 and 4258; the middle line is a warning."""
    size = f"Requested amount of GPU memory ({nbytes} bytes) could not be allocated."
    return (
        "1: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"
        if MAJOR < 10
        else "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        f"{size} There may not be enough free memory for allocation to succeed.",
        _failed(2, "OutOfMemory", "no further information", "executionContext.cpp::ExecutionContext::470", function),
    )


def no_cuda(error):
    """As 8.5.3 and lean 11.4.0 say it on a machine without a driver."""
    return f"CUDA initialization failure with error: {error}"


def context_misuse(method, condition, words):
    """Issue 3992, hamdiboukamcha/Yolo-V11-cpp-TensorRT 6."""
    where = f"executionContext.cpp::{method}::2666"
    place = "failed" if MAJOR >= 10 else f"failed at: runtime/api/{where}"
    what = f"Parameter check {place}, condition: {condition}. {words}".rstrip()
    return _failed(3, "API Usage Error", what, where, f"IExecutionContext::{method}")


def network_invalid(words):
    """Issue 2056."""
    where = "network.cpp::validate::3062"
    return _failed(
        4, "Internal Error" if MAJOR < 10 else "API Usage Error", words, where, "IBuilder::buildSerializedNetwork"
    )


def no_implementation(node):
    """Issue 4258."""
    words = f"Could not find any implementation for node {node}."
    where = "optimizer.cpp::computeCosts::3728"
    return _failed(10, "Internal Error", words, where, "IBuilder::buildSerializedNetwork")


def no_scales(tensor):
    """A warning of INT8 without calibrator: the layer stays what it was."""
    return (
        f"Missing scale and zero-point for tensor {tensor}, expect fall back to non-int8 implementation for any layer"
    )
