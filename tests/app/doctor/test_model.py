"""Models that are missing, damaged or for something else, and engines that are not installed."""

import json
import os
import subprocess
import sys

import pytest

from edge_agent.core import plan_header
from tests import fake_tensorrt, pretended_cuda
from tests.app.doctor.patients import NOBODY, as_root, finding, installation, simple
from tests.fixtures import REPO

YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
PHOTOS = REPO / "examples" / "photos"


@pytest.fixture
def config(tmp_path):
    """The example with pictures, in a folder of its own: `config(("old", "new"))`."""

    def make(*changes, more=""):
        text = (REPO / "examples" / "photos.toml").read_text().replace('"models/', f'"{YOLOX.parent}/')
        text = text.replace('"photos"', f'"{PHOTOS}"')
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return installation(tmp_path, text + more)

    return make


def test_a_model_that_is_well_passes(config):
    context = config()
    for check in ("model-file", "backend", "model-opens"):
        assert finding(context, check).level == "ok", check


def test_a_missing_library_of_an_input_line_is_nothing_of_the_models(config, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gpiod'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trigger = ('kind = "frame"', 'kind = "gpio"\n  chip = "/dev/gpiochip0"\n  line = 4')
    found = finding(config(trigger, ("fps = 2 ", "fps = 30 ")), "model-opens")
    assert (found.level, found.fix) == ("ok", None)


def test_a_model_that_is_not_there_is_found(tmp_path):
    found = finding(installation(tmp_path, simple(tmp_path)), "model-file")
    assert (found.level, found.evidence) == ("fail", f"there is no file {tmp_path}/model.tflite")
    assert found.fix.startswith(f"copy the model there, or mend `path` at {tmp_path}/agent.toml:")


def test_an_empty_model_is_found(tmp_path):
    (tmp_path / "model.tflite").touch()
    found = finding(installation(tmp_path, simple(tmp_path)), "model-file")
    assert (found.level, found.fix) == ("fail", "copy the model again")


def test_a_model_of_another_kind_is_found(tmp_path):
    (tmp_path / "caps.pt").write_bytes(b"PK")
    found = finding(installation(tmp_path, simple(tmp_path, model="caps.pt")), "model-file")
    assert (found.level, "to a file that ends in .tflite" in found.fix) == ("fail", True)


@as_root
def test_a_model_that_the_agent_may_not_read_is_found(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    (tmp_path / "model.tflite").chmod(0o600)
    context = installation(tmp_path, simple(tmp_path))
    context.agent = NOBODY
    found = finding(context, "model-file")
    assert (found.level, found.fix.startswith(f"sudo chmod a+r {tmp_path}/model.tflite")) == ("fail", True)


def test_a_damaged_model_is_found(tmp_path):
    (tmp_path / "model.onnx").write_bytes(YOLOX.read_bytes()[:5000])
    found = finding(installation(tmp_path, simple(tmp_path, model="model.onnx")), "model-opens")
    assert (found.level, "model.onnx" in found.evidence) == ("fail", True)
    assert found.fix.startswith("copy the model again, or mend `model.path` at ")


def test_a_label_that_the_model_does_not_have_is_told_at_its_line(config):
    found = finding(config(('["person"]', '["persn"]')), "model-opens")
    assert (found.level, "did you mean 'person'?" in found.evidence) == ("fail", True)
    assert found.fix.startswith("mend `cameras[0].rules[0].reject` at ")


BLOCK = "import sys; sys.modules['onnxruntime'] = sys.modules['tensorrt'] = None"


def test_an_engine_that_is_not_installed_is_told_with_the_command(tmp_path, config):
    context = config()
    (tmp_path / "sitecustomize.py").write_text(f"{BLOCK}\n")  # Python reads it when it starts
    command = [sys.executable, "-m", "tests.app.doctor.examined", context.path, "backend"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, cwd=REPO).stdout)
    assert (found["level"], found["evidence"]) == ("fail", "no engine for .onnx files is installed")
    assert "pip install" in found["fix"]


def test_a_backend_that_does_not_read_the_file_is_found(config):
    found = finding(config(more='\n[hardware]\nbackend = "tflite"\n'), "backend")
    assert (found.level, found.evidence) == ("fail", "tflite reads no .onnx files")
    assert found.fix.startswith('set `backend = "auto"` at ')


@pytest.fixture
def plan(tmp_path):
    """What is found of an engine that was built by that TensorRT, where 10.3.0 is installed."""

    def look(version):
        header = plan_header.make({plan_header.OURS: {"tensorrt": version}})
        (tmp_path / "model.engine").write_bytes(header + b"ftrt\0\0\0\0" + bytes(64))
        context = installation(tmp_path, simple(tmp_path, model="model.engine"))
        command = [sys.executable, "-m", "tests.app.doctor.examined", context.path, "tensorrt"]
        settings = pretended_cuda.environment() | fake_tensorrt.environment("10.3.0")
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, check=True, cwd=REPO)
        return json.loads(done.stdout)

    return look


def test_an_engine_of_another_tensorrt_is_found(plan, tmp_path):
    found = plan("8.6.1")
    assert found["evidence"] == "the engine was built by TensorRT 8.6.1, and 10.3.0 is installed"
    assert (found["level"], found["fix"]) == (
        "fail",
        f"edge-agent model build MODEL.onnx --force --out {tmp_path}/model.engine",
    )


def test_an_engine_of_this_tensorrt_passes(plan):
    assert plan("10.3.0")["level"] == "ok"


def test_tensorrt_that_is_asked_for_and_not_there_is_told_with_the_command(config):
    found = finding(config(more='\n[hardware]\nbackend = "tensorrt"\n'), "tensorrt")
    assert (found.level, "TensorRT" in found.fix) == ("fail", True)


def test_on_a_board_without_tensorrt_nobody_asks_for_it(config):
    assert finding(config(), "tensorrt").level == "skip"
