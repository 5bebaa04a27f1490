"""`edge-agent bench`, as a person at a shell meets it: with an engine that takes no time, so that it is soon over."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from edge_agent.app.bench.table import shown
from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec
from edge_agent.models.bundled import ONNX, TFLITE
from tests.brokers import needs
from tests.fixtures import REPO
from tests.processes import STOP_S, processes_that_name

START_S = 30
ROAD = ("queue", "preprocess", "infer", "decode", "decide", "send")


def bench(*words):
    command = [sys.executable, "-m", "edge_agent", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Finds one part in the middle of every picture."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, 0] = (0.4, 0.4, 0.6, 0.6, 0.9, 0)
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    metadata = {"task": "detect", "stride": 32, "names": {"0": "part", "1": "scratch"}, "end2end": True}
    path = tmp_path_factory.mktemp("model") / "part.npz"
    recorded.save(path, [image], [[found]], metadata)
    return path


@pytest.fixture(scope="module")
def measured(model):
    needs("mosquitto", "mosquitto")
    done = bench("--model", model, "--size", "320x240", "--seconds", 1, "--cameras", 2, "--check", "--json")
    assert done.returncode in (0, 1), done.stderr
    return done


@pytest.fixture(scope="module")
def told(measured):
    return json.loads(measured.stdout)


@pytest.mark.system
def test_the_whole_road_is_measured_next_to_the_bare_engine(told):
    assert told["schema"] == "edge-agent/bench/1"
    assert told["bare_ms"]["n"] >= 20
    assert told["added_ms"]["frame"]["p50"] > 0
    assert told["throughput"]["share"]["n"] == told["rounds"] >= 2
    assert told["failures"] == 0


@pytest.mark.system
def test_the_stages_make_up_the_whole(told):
    stages = told["stages_ms"]
    parts = sum(stages[name]["p50"] for name in ROAD)
    assert all(stages[name]["p50"] >= 0 for name in ROAD)
    assert parts == pytest.approx(stages["whole"]["p50"], rel=0.5)


@pytest.mark.system
def test_each_of_several_cameras_gets_its_share(told):
    cameras = told["cameras"]
    assert cameras["count"] == 2
    assert sum(one["share"] for one in cameras["each"].values()) == pytest.approx(1.0, abs=0.001)
    assert min(one["share"] for one in cameras["each"].values()) > 0.25


@pytest.mark.system
def test_processor_time_is_told_beside_that_of_the_bare_engine(told):
    cpu = told["cpu_ms"]
    assert cpu["frame"]["low"] > 0
    assert cpu["added"]["median"] == pytest.approx(cpu["frame"]["median"] - cpu["bare"]["median"], abs=1.0)


@pytest.mark.system
def test_a_real_agent_is_started_and_its_start_taken_apart(told):
    start = told["start_s"]
    assert start["first_verdict"]["median"] > 0
    parts = [start["parts"][name]["low"] for name in ("interpreter", "imports", "configuration", "engine", "camera")]
    assert min(parts) >= 0
    assert 20 < told["memory_mb"]["rss_mb"] <= told["memory_mb"]["peak_mb"]


@pytest.mark.system
def test_memory_is_told_for_each_stretch_of_the_road(told):
    memory = told["allocations"]
    assert set(memory["fresh_pages_kib"]) == {"way_in", "decode", "send"}
    assert memory["frames"] > 0


@pytest.mark.system
def test_a_check_ends_with_1_where_the_budget_is_missed(measured):
    told = json.loads(measured.stdout)
    assert told["budget"]["figures"]
    assert told["budget"]["kept"] == all(one["kept"] for one in told["budget"]["figures"])
    assert measured.returncode == (0 if told["budget"]["kept"] else 1)


@pytest.mark.system
def test_every_key_of_the_document_is_explained_in_the_documentation(told):
    page = (REPO / "docs" / "operations.md").read_text()
    table = page[page.index("| key of `--json` |") : page.index("## How it goes")]
    for key in told.keys() - {"schema", "agent_version"}:
        assert f"`{key}" in table, key
    for key in told["stages_ms"].keys() | told["throughput"].keys() | told["cpu_ms"].keys():
        assert re.search(rf"`(\w*\.)?{key}`", table), key


@pytest.mark.system
def test_people_get_a_table_of_the_same_document(told):
    console = Console(width=100, file=io.StringIO())
    for one in shown(told):
        console.print(one)
    text = console.file.getvalue()
    for words in ("engine, bare", "frame to socket", "2 cameras", "Sustained", "Start to first verdict", "Budget of"):
        assert words in text


@pytest.mark.system
def test_without_mosquitto_verdicts_go_nowhere_and_the_rest_is_measured(model):
    code = (
        "import json; from pathlib import Path; from edge_agent.app.bench import run_bench; "
        "from edge_agent.app.bench.setting import Wish; "
        f"wish = Wish(Path({str(model)!r}), size=(320, 180), seconds=1); "
        "print(json.dumps(run_bench(wish, lambda _words, _share: None, None)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "/dev/null" in told["outlet"]
    assert told["added_ms"]["frame"]["n"] > 0
    assert told["start_s"]["first_verdict"]["median"] > 0


AS_IN_A_TERMINAL = ("env", "--default-signal=HUP")  # under nohup the tests' own processes would not hear it


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing_behind(model, tmp_path, number):
    needs("mosquitto", "mosquitto")
    command = [*AS_IN_A_TERMINAL, sys.executable, "-m", "edge_agent", "bench", "--model", model, "--size", "320x240"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE) as process:
        until_s = time.monotonic() + START_S
        while len(processes_that_name(tmp_path)) < 2:  # the broker and the arm
            assert time.monotonic() < until_s
            time.sleep(0.02)
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)  # while it ends
        _, said = process.communicate(timeout=STOP_S)
    assert process.returncode == 130, said.decode()
    assert list(tmp_path.iterdir()) == []
    assert not processes_that_name(tmp_path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model", "nowhere.tflite"], "nowhere.tflite"),
        (["--model", TFLITE, "--size", "wide"], "--size: 'wide' is no size"),
        (["--model", TFLITE, "--size", "9000x9000"], "--size: '9000x9000' is no size"),
        (["--model", TFLITE, "--source", "nowhere"], "--source: there is no file or folder nowhere"),
        (["--model", TFLITE, "--backend", "abacus"], "--backend: there is no engine 'abacus'"),
        (["--model", TFLITE, "--compare", "abacus"], "--compare: there is no engine 'abacus'"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(words, complaint):
    done = bench(*words)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_compare_with_is_told_in_a_sentence(tmp_path):
    alone = shutil.copy(ONNX, tmp_path / "alone.onnx")
    done = bench("--model", alone, "--compare", "tflite")
    assert done.returncode == 1
    assert "tflite reads .tflite files" in done.stderr
    assert not processes_that_name(tmp_path)
