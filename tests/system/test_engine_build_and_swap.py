"""TensorRT's engine is built while ONNX Runtime serves, and takes its place. Without a GPU: a stand-in for TensorRT, and a
pretended driver."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import fields

import pytest

from edge_agent.core import plan_header
from edge_agent.models import sealed
from edge_agent.models.bundled import ONNX
from edge_agent.models.engine_cache import EngineCache, Recipe
from tests import fake_tensorrt, pretended_cuda
from tests.backends.tensorrt import kernels
from tests.fixtures import REPO
from tests.processes import STOP_S, ended, processes_that_name
from tests.system.agents import ROOT, config_text, running_agent

pytestmark = pytest.mark.system
WORKER, PROFILE = "engine_worker", "jetson-orin-nano"


def belt(fps=25):
    return f"""
    [[cameras]]
    id = "top"
    kind = "simulator"
    fps = {fps}
    width = 320
    height = 240

      [cameras.trigger]
      kind = "frame"
    """


def environment(**settings):
    return pretended_cuda.environment(kernels=kernels.build()) | fake_tensorrt.environment() | settings


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """A folder with the engine, for copies of it."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    folder = tmp_path_factory.mktemp("machine") / "engines"
    words = ["model", "build", str(ONNX), "--folder", str(folder), "--profile", PROFILE]
    subprocess.run([sys.executable, "-m", "edge_agent", *words], env=environment(), cwd=REPO, check=True)
    return folder


@pytest.fixture
def line(tmp_path, broker, listener):
    """Starts agents on one machine, one after the other."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    return Line(tmp_path, broker, listener)


@pytest.fixture
def built_line(line, engines):
    """The engine has been built there."""
    shutil.copytree(engines, line.engines)
    (line.engine,) = line.engines.glob("*.engine")
    return line


class Line:
    def __init__(self, folder, broker, listener):
        self.folder, self.broker, self.listener = folder, broker, listener
        self.engines = folder / "engines"

    def config(self, build):
        hardware = f"""
        [hardware]
        profile = "{PROFILE}"
        threads = 1
        [hardware.tensorrt]
        folder = "{self.engines}"
        build = "{build}"
        """
        return config_text(
            model=ONNX,
            cameras=belt(),
            port=self.broker.port,
            verdict="deadline_ms = 3000\nvalid_ms = 6000\nunknown_in_row = 0\nreject_in_row = 0",
            more=hardware,
        )

    @contextmanager
    def agent(self, build="beside", *, build_s=0, **env):
        self.listener.heard.clear()
        with running_agent(
            self.folder, self.config(build), env=environment(FAKE_TENSORRT_BUILD_S=str(build_s), **env)
        ) as agent:
            yield agent

    def serves(self, backend, timeout=30):
        """The first birth that names this engine."""
        return self.listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/birth" and (heard.json["engine"] or {}).get("backend") == backend,
            timeout,
        ).json

    def event(self, code, timeout=30):
        return self.listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == code, timeout
        ).json

    def events(self):
        return [heard.json["code"] for heard in self.listener.on("/event")]

    def judges_on(self):
        before = len(self.listener.on("verdict/top"))
        self.listener.wait_for_count(lambda heard: heard.topic.endswith("verdict/top"), before + 5)

    def workers(self):
        return [number for number, words in processes_that_name(self.folder) if WORKER in words]

    def assert_one_verdict_each(self):
        self.listener.hear_out()
        parts = [heard.json["part_id"] for heard in self.listener.on("result/top")]
        verdicts = [heard.json for heard in self.listener.on("verdict/top")]
        first = verdicts[0]["seq"]
        assert [v["seq"] for v in verdicts] == list(range(first, first + len(verdicts)))
        assert [v["part_id"] for v in verdicts] == [f"top-{v['seq']}" for v in verdicts]
        assert parts == [f"top-{number}" for number in range(1, len(parts) + 1)]
        assert {v["verdict"] for v in verdicts} <= {"pass", "reject"}


def test_onnx_runtime_serves_until_the_engine_is_built_and_the_next_start_begins_with_it(line):
    with line.agent(build_s=2) as agent:
        first = line.serves("onnx")
        assert "stands in: there was no TensorRT engine for it at the start" in first["engine"]["reason"]
        line.judges_on()
        assert "tensorrt" not in {
            birth.json["engine"]["backend"] for birth in line.listener.on("/birth") if birth.json["engine"]
        }
        replaced = line.event("engine_replaced")
        then = line.serves("tensorrt")
        line.judges_on()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    line.assert_one_verdict_each()
    assert line.events() == ["engine_building", "engine_replaced"]
    assert replaced["data"]["backend"] == "tensorrt"
    assert then["engine"]["runtime"].startswith("TensorRT 10.3.0 FP16, sm_87")
    assert then["model"] == first["model"]
    (engine,) = line.engines.glob("*.engine")
    assert engine.stem.split("-")[1] in then["engine"]["reason"]
    with line.agent() as agent:
        line.serves("tensorrt")
        line.judges_on()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    assert line.events() == []
    assert {birth.json["engine"]["backend"] for birth in line.listener.on("/birth") if birth.json["engine"]} == {
        "tensorrt"
    }


def test_an_engine_that_was_damaged_is_not_loaded_but_built_anew(built_line):
    line, engine = built_line, built_line.engine
    content = bytearray(engine.read_bytes())
    content[-100] ^= 1
    engine.write_bytes(content)
    with line.agent() as agent:
        line.serves("onnx")
        line.event("engine_replaced")
        line.serves("tensorrt")
        assert "set aside" in line.event("engine_unused")["message"]
        assert '"engine_set_aside"' in agent.log()
    assert engine.with_name(engine.name + ".bad").read_bytes() == content


def test_an_engine_that_does_not_fit_is_said_set_aside_and_built_anew(built_line, monkeypatch):
    line = built_line
    fake_tensorrt.put_in_place(monkeypatch)
    plan = fake_tensorrt.write_engine(line.folder / "other.engine", ONNX, version=[8, 6, 1]).read_bytes()
    with line.engine.open("rb") as file:
        own = sealed.read_metadata(file)[plan_header.OURS]
    EngineCache(line.engines).add(Recipe(**{field.name: own[field.name] for field in fields(Recipe)}), {}, plan)
    with line.agent():
        assert "rebuild it" in line.event("engine_unused")["data"]["reason"]
        line.serves("onnx")
        line.serves("tensorrt")
        line.event("engine_replaced")
    assert line.events() == ["engine_unused", "engine_building", "engine_replaced"]


def test_an_engine_that_cannot_be_run_is_said_and_the_next_one_serves(built_line):
    with built_line.agent(FAKE_TENSORRT_FAIL="enqueue"):
        birth = built_line.serves("onnx")
        assert "its TensorRT engine cannot be used" in birth["engine"]["reason"]
        assert "cannot be run" in built_line.event("engine_unused")["data"]["reason"]
        built_line.judges_on()
        assert built_line.events() == ["engine_unused"]


def test_without_memory_on_the_gpu_the_next_engine_serves_and_nothing_is_built(built_line):
    with built_line.agent(FAKE_TENSORRT_FAIL="engine_memory"):
        birth = built_line.serves("onnx")
        assert "its TensorRT engine cannot be used" in birth["engine"]["reason"]
        assert "memory" in built_line.event("engine_unused")["data"]["reason"]
        built_line.judges_on()
        assert built_line.events() == ["engine_unused"]


def test_where_the_build_fails_the_engine_that_serves_goes_on(line):
    with line.agent(FAKE_TENSORRT_FAIL="build") as agent:
        failed = line.event("engine_build_failed")
        line.judges_on()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
    line.assert_one_verdict_each()
    assert failed["severity"] == "warning"
    assert failed["data"]["reason"]
    assert list(line.engines.glob("*.engine")) == []


@pytest.mark.parametrize("build", ["beside", "before"])
def test_a_stop_during_a_build_leaves_no_process_and_no_part_of_a_file(line, build):
    with line.agent(build, build_s=60) as agent:
        line.event("engine_building")
        assert ended(line.workers)
        asked_s = time.monotonic()
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        assert time.monotonic() - asked_s < STOP_S
        assert line.workers() == []
    assert line.events() == ["engine_building"]
    assert [path for path in line.engines.glob("*") if path.name not in ("key", "build.lock")] == []


def test_an_agent_that_is_killed_during_a_build_leaves_no_process(line):
    with line.agent(build_s=60) as agent:
        line.event("engine_building")
        assert ended(line.workers)
        agent.send(signal.SIGKILL)
        agent.ended()
        assert ended(lambda: line.workers() == [])


def test_a_build_before_the_start_is_shown_to_systemd_and_takes_its_time(line):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address := str(line.folder / "notify"))
        systemd.settimeout(30)
        with line.agent("before", build_s=2, NOTIFY_SOCKET=address):
            said = []
            while "READY=1" not in said:
                said.append(systemd.recv(4096).decode())
            line.serves("tensorrt")
    assert any(words.startswith("STATUS=starting; TensorRT engine: building ") and "%" in words for words in said)
    assert "EXTEND_TIMEOUT_USEC=30000000" in said
    assert {birth.json["engine"]["backend"] for birth in line.listener.on("/birth") if birth.json["engine"]} == {
        "tensorrt"
    }


def test_thresholds_of_a_reload_during_the_build_hold_for_the_new_engine(line):
    with line.agent(build_s=3) as agent:
        line.event("engine_building")
        line.serves("onnx")
        text = agent.config.read_text()
        agent.config.write_text(text.replace(f'path = "{ONNX}"', f'path = "{ONNX}"\nconf = 1.0'))
        agent.send(signal.SIGHUP)
        line.event("reloaded")
        line.event("engine_replaced")
        line.listener.heard.clear()
        results = line.listener.wait_for_count(lambda heard: heard.topic.endswith("result/top"), 20)
        assert all(result.json["detections"] == [] for result in results[10:])


def edge_agent(*words):
    command = [sys.executable, "-m", "edge_agent", *map(str, words)]
    return subprocess.run(command, env=environment(), cwd=REPO, capture_output=True, text=True, check=True).stdout


def test_detect_builds_the_engine_that_is_asked_for_by_name_and_else_none(tmp_path):
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    picture = next((ONNX.parent / "golden").glob("*.jpg"))
    ways = {}
    for backend in ("auto", "tensorrt", "onnx"):
        ways[backend] = json.loads(edge_agent("detect", "-m", ONNX, "--backend", backend, "--json", picture))
    assert [ways[backend]["backend"] for backend in ways] == ["onnx", "tensorrt", "onnx"]
    assert ways["tensorrt"]["detections"] == ways["onnx"]["detections"]
    assert len(list((tmp_path / "state").rglob("*.engine"))) == 1


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_check_proves_the_model_without_building_an_engine(line, backend):
    config = line.config("beside").replace("[hardware]", f'[hardware]\nbackend = "{backend}"')
    (line.folder / "agent.toml").write_text(config)
    edge_agent("check", "--config", line.folder / "agent.toml")
    assert not list(line.folder.rglob("*.engine"))
