"""The tests of the GPU are ready to run: here the driver is pretended, and TensorRT stood in for.

All is checked but time: a mistake in these tests shows before somebody has a GPU to run them on. `scripts/test-gpu
--rehearse VERSION` runs every one of them; here those of the smaller model, which take seconds.
"""

import json
import os
import subprocess
import sys

import pytest

from tests import fake_tensorrt
from tests.fixtures import REPO
from tests.gpu import rehearsal

SMALL = "(bottles and not fp16) or refused or memory_is_said"


def run(environment, *words):
    command = ["scripts/test-gpu", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, cwd=REPO, env=environment, text=True)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_tests_of_the_gpu_pass_in_a_rehearsal(tmp_path):
    ended = run(rehearsal.environment("10.3.0"), "--report", tmp_path, "-q", "-k", SMALL)

    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert {result["outcome"] for result in report["results"]} == {"passed"}
    assert "a rehearsal" in report["facts"]["NOT A GPU"]
    assert "greatest relative error" in (tmp_path / "report.md").read_text()


@pytest.mark.system
def test_without_a_gpu_the_command_says_why_in_a_sentence(tmp_path):
    ours = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}

    ended = run({**ours, **fake_tensorrt.environment(), "PYTHON": sys.executable}, "--report", tmp_path)

    if ended.returncode == 0:
        pytest.skip("there is a GPU")
    assert ended.returncode == 2
    assert "needs the driver of an NVIDIA GPU" in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []
