"""The engine that a line starts with, and the one that is built for it. TensorRT is the stand-in."""

import threading
from dataclasses import replace

import pytest

from edge_agent.app.engine_build import BuildStoppedError
from edge_agent.app.engine_choice import EngineRequest, build_request
from edge_agent.app.engine_supply import EngineSupply, Policy
from edge_agent.app.engine_worker import make
from edge_agent.errors import FatalError, ModelError
from edge_agent.models.bundled import ONNX, TFLITE
from edge_agent.models.engine_cache import EngineCache
from tests import fake_tensorrt, pretended_cuda
from tests.recipes import recipe_of
from tests.runtime.stations import wait_for

BESIDE = Policy(beside_mb=0)


class Told:
    """Remembers events."""

    def __init__(self):
        self.events = []

    def event(self, code, severity, message, data=None):
        self.events.append((code, severity, message, data))

    @property
    def codes(self):
        return [code for code, *_ in self.events]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def supply(monkeypatch, tmp_path, told):
    """Makes one on a Jetson Orin; keywords are the request's."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    for name, value in {**pretended_cuda.environment(), **fake_tensorrt.environment()}.items():
        monkeypatch.setenv(name, value)
    pretended_cuda.load().pretended_reset()
    fake_tensorrt.put_in_place(monkeypatch)

    def made(policy=BESIDE, **others):
        how = build_request(ONNX, None, folder=tmp_path / "engines", precision=others.pop("precision", "auto"))
        request = EngineRequest(ONNX, ("tensorrt", "onnx"), threads=1, build=how)
        return EngineSupply(replace(request, **others), policy, told)

    return made


def opened(supply):
    engine = supply.open()
    engine.backend.close()
    return engine


def built(supply):
    """Builds the engine, as another process would."""
    make(supply._request.build, lambda *_: None)
    return supply


def test_another_engine_serves_while_the_missing_one_is_built(supply, told):
    line = supply()
    assert opened(line).reason.startswith("onnx stands in: there was no TensorRT engine for it at the start")
    assert told.codes == []
    new = line.build()()
    assert new.backend_kind == "tensorrt"
    new.backend.close()
    assert told.codes == ["engine_building"]
    assert opened(supply()).backend_kind == "tensorrt"


def test_where_the_engine_is_there_nothing_is_built(supply, told):
    line = built(supply())
    assert opened(line).backend_kind == "tensorrt"
    assert line.build() is None
    assert told.codes == []


def test_what_tensorrt_does_not_run_is_opened_as_ever(supply):
    line = supply(path=TFLITE, order=("tensorrt", "tflite"))
    pytest.importorskip("ai_edge_litert", reason="runs TFLite models")
    assert opened(line).backend_kind == "tflite"
    assert line.build() is None


@pytest.mark.parametrize("policy", [Policy("before"), Policy("beside", beside_mb=1e9)], ids=["before", "no memory"])
def test_it_is_built_before_the_start_where_that_is_wanted_or_memory_is_short(supply, told, policy):
    line = supply(policy)
    assert opened(line).backend_kind == "tensorrt"
    assert told.codes == ["engine_building"]
    assert line.build() is None


def test_never_means_that_the_next_engine_serves_and_says_why(supply, told):
    line = supply(Policy("never"))
    assert "hardware.tensorrt.build is never" in opened(line).reason
    assert line.build() is None
    assert told.codes == []
    with pytest.raises(
        ModelError, match=r"hardware.tensorrt.build is never; edge-agent model build --folder \S+ builds it"
    ):
        supply(Policy("never"), backend="tensorrt").open()


def test_an_engine_with_other_options_serves_meanwhile(supply):
    built(supply(precision="fp32"))
    line = supply()
    engine = opened(line)
    assert engine.backend_kind == "tensorrt"
    assert "by an engine with other options" in engine.reason
    new = line.build()()
    assert "built here" in new.reason
    new.backend.close()


def test_where_the_gpu_cannot_be_used_another_engine_serves_and_an_event_says_why(supply, told):
    line = supply()
    pretended_cuda.load().pretended_fail_next(b"cuInit", 999)
    assert opened(line).reason.startswith("onnx stands in: TensorRT cannot run it here:")
    ((code, severity, message, _),) = told.events
    assert (code, severity) == ("engine_unused", "warning")
    assert "CUDA_ERROR_UNKNOWN" in message


def test_a_precision_that_cannot_be_had_stops_the_start(supply):
    with pytest.raises(ModelError, match="int8"):
        supply(precision="int8").open()


def test_a_folder_that_others_may_write_to_does_not_stop_the_line(supply, told, tmp_path):
    built(supply(precision="fp32"))
    (tmp_path / "engines").chmod(0o775)
    for precision in ("fp32", "fp16"):
        reason = opened(supply(precision=precision)).reason
        assert reason.startswith("onnx stands in: its TensorRT engine cannot be used:")
        assert "not only its owner can write to it" in reason
    assert told.codes == ["engine_unused", "engine_unused"]


def test_where_the_one_with_other_options_does_not_fit_either_the_line_starts_with_the_new_one(supply, told, tmp_path):
    line = built(supply(precision="fp32"))
    (path,) = (tmp_path / "engines").glob("*.engine")
    plan = fake_tensorrt.write_engine(tmp_path / "other.engine", ONNX, version=[8, 6, 1]).read_bytes()
    EngineCache(tmp_path / "engines").add(recipe_of(line._request.build), {}, plan)
    by_name = supply(backend="tensorrt")
    assert "built here" in opened(by_name).reason
    assert told.codes == ["engine_unused", "engine_building"]
    assert path.with_name(path.name + ".bad").is_file()
    assert by_name.build() is None


def test_asked_for_by_name_nothing_else_serves_meanwhile(supply, told):
    line = supply(backend="tensorrt")
    assert opened(line).backend_kind == "tensorrt"
    assert told.codes == ["engine_building"]


def test_a_build_that_fails_before_the_start_is_said_and_another_engine_serves(supply, told, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "build")
    assert opened(supply(Policy("before"))).reason.startswith("onnx stands in: its TensorRT engine could not be built")
    assert told.codes == ["engine_building", "engine_build_failed"]
    with pytest.raises(FatalError):
        supply(Policy("before"), backend="tensorrt").open()


def test_a_stop_ends_the_build_and_lets_none_begin(supply, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "60")
    line, ended = supply(), []
    opened(line)

    def build():
        with pytest.raises(BuildStoppedError):
            line.build()
        ended.append(True)

    builder = threading.Thread(target=build)
    builder.start()
    wait_for(lambda: "building" in line.words)
    line.stop()
    builder.join(10)
    assert ended
    assert line.words == ""
    with pytest.raises(BuildStoppedError):
        line.build()


def test_while_it_is_held_no_build_gets_on_and_its_words_say_so(supply):
    line, opens = supply(), []
    opened(line)
    line.hold(is_held=True)
    builder = threading.Thread(target=lambda: opens.append(line.build()))
    builder.start()
    wait_for(lambda: "stands still until the board has cooled" in line.words)
    assert builder.is_alive()
    line.hold(is_held=False)
    builder.join(30)
    assert opens


def test_a_build_without_which_there_is_no_line_is_never_held(supply):
    line = supply(Policy(build="before"))
    line.hold(is_held=True)
    assert opened(line).backend_kind == "tensorrt"


def test_a_new_engine_that_does_not_fit_is_set_aside(supply, tmp_path):
    line = supply()
    opened(line)
    open_new = line.build()
    (path,) = (tmp_path / "engines").glob("*.engine")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not in"):
        open_new()
    assert path.with_name(path.name + ".bad").is_file()
