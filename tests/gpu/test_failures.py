"""What goes wrong with engines is said clearly, and a new one is built."""

from contextlib import ExitStack, closing

import pytest

from edge_agent.app.engine_build import BuildRequest
from edge_agent.core import plan_header
from edge_agent.cuda import CudaError, look, open_cuda
from edge_agent.errors import DeviceMemoryError, EngineUnfitError
from edge_agent.models.engine_cache import EngineCache
from tests.gpu.engines import MODELS, backend_of
from tests.recipes import recipe_of

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
GB, MB = 1 << 30, 1 << 20


def refused(path, record_property):
    with pytest.raises(EngineUnfitError) as refusal, backend_of(path):
        pass
    record_property("said", str(refusal.value).replace(str(path), path.name))
    return str(refusal.value)


@pytest.fixture
def parts(build):
    """Metadata and plan of a good engine."""
    content = build("bottles", "fp16").path.read_bytes()
    metadata, start = plan_header.split(content)
    return metadata, content[start:]


@pytest.mark.parametrize("damage", ["cut", "other bytes", "no plan"])
def test_a_damaged_engine_is_refused(parts, tmp_path, damage, record_property):
    metadata, plan = parts
    plans = {"cut": plan[: len(plan) // 2], "other bytes": b"\xff" * 64 + plan[64:], "no plan": b"not a plan" * 100}
    path = tmp_path / "damaged.engine"
    path.write_bytes(plan_header.make(metadata) + plans[damage])

    assert "damaged.engine" in refused(path, record_property)


def test_an_engine_of_another_version_is_refused(parts, tmp_path, record_property):
    """The version in the plan is overwritten: since 8.6 four bytes at 24, before it the format's number at 4."""
    metadata, plan = parts
    new = plan[4:8] == bytes(4)
    plan = plan[:24] + bytes([8, 4, 1, 0]) + plan[28:] if new else plan[:4] + b"\x01\x02\x03\x04" + plan[8:]
    ours = {**metadata["edge_agent"], "tensorrt": "8.4.1"}
    path = tmp_path / "old.engine"
    path.write_bytes(plan_header.make({**metadata, "edge_agent": ours}) + plan)

    said = refused(path, record_property)

    assert "8.4.1" in said
    assert "rebuild" in said


def test_a_damaged_engine_in_the_cache_is_set_aside_and_built_again(build, tmp_path):
    first = build("bottles", "fp16", tmp_path)
    first.path.write_bytes(first.path.read_bytes()[:-1000])

    cache = EngineCache(tmp_path)
    assert cache.find(recipe_of(BuildRequest(MODELS["bottles"], tmp_path, "fp16"))) is None
    build.forget()
    again = build("bottles", "fp16", tmp_path)

    assert not again.reused
    with backend_of(again.path) as backend:
        backend.infer()


def test_a_second_build_is_quicker_by_what_was_measured_before(build, tmp_path, is_rehearsal, record_property):
    first = build("bottles", "fp16", tmp_path)
    first.path.unlink()
    build.forget()
    second = build("bottles", "fp16", tmp_path)

    record_property("built in, at first and again", f"{first.seconds} s, {second.seconds} s")
    assert not second.reused
    assert is_rehearsal or second.seconds < first.seconds


def test_too_little_memory_is_said_and_the_engine_runs_later(build, record_property):
    if look().integrated:
        pytest.skip("the GPU shares its memory with Linux, which would end other programs where it is full")
    path = build("yolox", "fp32").path
    with ExitStack() as stack:
        cuda = stack.enter_context(closing(open_cuda()))
        with backend_of(path):  # so that what the driver keeps for good is there
            pass
        fill(cuda)
        with pytest.raises(DeviceMemoryError) as refusal, backend_of(path):
            pass
    record_property("said", str(refusal.value).replace(str(path), path.name))
    with backend_of(path) as backend:
        backend.infer()


def fill(cuda):
    """Takes all memory that the GPU has."""
    nbytes = GB
    while nbytes >= MB:
        try:
            cuda.device(nbytes)
        except CudaError as error:
            if not error.is_out_of_memory:
                raise
            nbytes //= 2
