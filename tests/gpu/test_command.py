"""The commands of an operator, on a real GPU: build an engine from a model, and look at a picture with it."""

import json
import os
import subprocess
import sys

import pytest

from tests.fixtures import REPO
from tests.gpu.engines import LABELS, MODELS, backend_of, photos

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


def command(*words):
    """What it prints; its standard error is shown where it fails."""
    whole = [sys.executable, "-m", "edge_agent", *map(str, words)]
    ended = subprocess.run(whole, capture_output=True, check=False, cwd=REPO, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.skipif("EDGE_AGENT_GPU_KIT" in os.environ, reason="the command builds with all libraries")
def test_model_build_writes_an_engine_that_runs(tmp_path, record_property):
    out = tmp_path / "bottles.engine"

    last = json.loads(command("model", "build", MODELS["bottles"], "--out", out, "--json").splitlines()[-1])

    record_property("built", f"{last['precision']} in {last['seconds']} s")
    assert last["done"]
    with backend_of(out) as backend:
        backend.infer()


def test_detect_finds_something_with_an_engine(build, tmp_path):
    engine = build("yolox", "fp16").path

    said = command("detect", photos("yolox")[0], "--model", engine, "--labels", LABELS["yolox"], "--json")

    assert json.loads(said.splitlines()[0])["detections"]
