"""`edge-agent model build` as a person, a script and a power cut meet it, on a pretended Jetson."""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time

import pytest

from edge_agent.core import plan_header
from edge_agent.models.engine_cache import EngineCache
from edge_agent.models.sealed import Seal
from tests import fake_tensorrt, pretended_cuda
from tests.fixtures import REPO
from tests.processes import STOP_S, ended, processes_that_name
from tests.system.disks import small_disk

pytestmark = pytest.mark.system
BOTTLES = REPO / "edge_agent" / "demo_model" / "bottles.onnx"
YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "engines"


def environment(version="10.3.0", seconds=0.0, fail=""):
    own = {"FAKE_TENSORRT_BUILD_S": str(seconds), "FAKE_TENSORRT_FAIL": fail}
    return {**pretended_cuda.environment(), **fake_tensorrt.environment(version), **own}


def command(model, folder, *words):
    folder_words = ["--folder", folder] if folder else []
    return [sys.executable, "-m", "edge_agent", "model", "build", *map(str, (model, *folder_words, *words))]


def build(model, folder, *words, before=(), **settings):
    words = [*map(str, before), *command(model, folder, *words)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPO, env=environment(**settings))


def start(model, folder, *words, **settings):
    pipe = subprocess.PIPE
    # Whoever runs the tests in the background may have had Ctrl-C ignored, which children inherit.
    words = ["env", "--default-signal=INT", *command(model, folder, "--json", *words)]
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, cwd=REPO, env=environment(**settings))


def result(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def until(process, stage):
    """Reads until the build is there."""
    for line in process.stdout:
        if json.loads(line).get("stage") == stage:
            return
    pytest.fail(process.stderr.read())


def left(folder):
    return {path.name.rpartition(".")[2] for path in folder.iterdir() if path.name not in {"key", "build.lock"}}


@pytest.mark.parametrize("version", ["8.5.3", "11.4.0"])
def test_an_engine_is_built_once_and_then_found(folder, version):
    first = result(build(BOTTLES, folder, "--json", "--precision", "fp16", version=version))
    again = result(build(BOTTLES, folder, "--json", "--precision", "fp16", version=version, fail="build"))
    assert set(first) == {"done", "path", "fingerprint", "seconds", "precision", "reused", "notes"}
    assert (first["done"], first["reused"], again["reused"]) == (True, False, True)
    assert (first["path"], first["fingerprint"]) == (again["path"], again["fingerprint"])
    assert first["precision"] == again["precision"] == ("fp32" if version.startswith("11") else "fp16")
    assert first["notes"] == again["notes"]
    assert bool(first["notes"]) == version.startswith("11")


def test_progress_is_a_json_line_per_step(folder):
    done = build(BOTTLES, folder, "--json", seconds=0.5)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) == {"stage", "fraction", "elapsed_s"} for line in lines[:-1])
    assert list(dict.fromkeys(line["stage"] for line in lines[:-1])) == ["reading", "building", "writing"]
    assert lines[-1]["done"]


def test_a_person_gets_a_sentence_and_no_bar_where_nobody_watches(folder):
    done = build(BOTTLES, folder, "--precision", "fp16")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "built in" in done.stdout
    assert "fp16, fingerprint " in done.stdout


@pytest.mark.parametrize(("version", "shown"), [("10.3.0", "%"), ("8.6.1", "building")])
def test_a_bar_is_shown_on_a_terminal(folder, version, shown):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(BOTTLES, folder), stdout=subprocess.PIPE, stderr=theirs, cwd=REPO, env=environment(version, 1)
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # that is how Linux tells that the other end is closed
            while data := os.read(ours, 4096):
                seen += data
        assert b"built in" in process.stdout.read()
    os.close(ours)
    assert shown in seen.decode()


def test_without_a_folder_it_goes_to_the_state_folder_of_the_user(tmp_path):
    path = result(build(BOTTLES, None, "--json"))["path"]
    assert path.startswith(str(tmp_path / "state" / "edge-agent" / "engines"))


def test_the_workspace_and_the_precision_are_the_profiles_where_nothing_is_said(folder):
    path = result(build(BOTTLES, folder, "--json", "--profile", "jetson-orin-nano"))["path"]
    with open(path, "rb") as file:  # noqa: PTH123 - a path of another process
        own = plan_header.split(file.read())[0]["edge_agent"]
    assert own["precision"] == "fp16"
    assert own["workspace_mb"] == 512


def test_force_builds_anew_and_what_was_measured_is_kept_and_used(folder):
    first = result(build(BOTTLES, folder, "--json", seconds=2))
    second = result(build(BOTTLES, folder, "--json", "--force", seconds=2))
    assert first["path"] == second["path"]
    assert not second["reused"]
    assert second["seconds"] < first["seconds"] - 1


def test_ctrl_c_ends_with_130_and_leaves_nothing(folder):
    with start(BOTTLES, folder, seconds=30) as process:
        until(process, "building")
        process.send_signal(signal.SIGINT)
        started_s = time.monotonic()
        assert process.wait() == 130
    assert time.monotonic() - started_s < STOP_S
    assert ended(lambda: not processes_that_name(folder))
    assert left(folder) == set()


def test_whoever_dies_takes_the_build_along(folder):
    with start(BOTTLES, folder, seconds=30) as process:
        until(process, "building")
        process.kill()
    assert ended(lambda: not processes_that_name(folder))
    assert left(folder) <= {"cache"}


def test_a_kill_at_any_time_leaves_an_engine_or_none_and_the_next_build_is_well(folder):
    """The build itself is killed, and once it writes: by a hair sooner or later every time."""
    dice = random.Random(6)
    for number in range(4):
        with start(YOLOX, folder, "--force", seconds=0.2) as process:
            until(process, "writing" if number % 2 else "building")
            time.sleep(dice.uniform(0, 0.05))
            for other, _ in processes_that_name(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)
        for path in folder.glob("*.engine"):
            assert Seal(folder).fault(path) is None
    path = result(build(YOLOX, folder, "--json", "--force"))["path"]
    assert left(folder) == {"engine", "cache"}
    assert [str(found) for found in folder.glob("*.engine")] == [path]


def test_of_two_builds_at_once_the_second_waits_and_takes_what_the_first_made(folder):
    with EngineCache(folder).lock(pytest.fail):  # a third one, before both
        first, second = start(BOTTLES, folder), start(BOTTLES, folder)
        until(first, "waiting")
        until(second, "waiting")
    lasts = [json.loads(process.communicate()[0].splitlines()[-1]) for process in (first, second)]
    assert sorted(last["reused"] for last in lasts) == [False, True]
    assert lasts[0]["path"] == lasts[1]["path"]


def test_a_disk_that_is_too_full_is_told_before_the_work(folder):
    folder.mkdir()
    done = build(BOTTLES, folder, "--json", before=small_disk(folder), seconds=30)
    assert done.returncode == 3
    assert "MB left, and" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "done": False,
        "error": done.stderr.removeprefix("edge-agent: ").rstrip("\n"),
    }


@pytest.mark.parametrize(
    ("fail", "code", "words"),
    [
        ("build", 2, "TensorRT cannot build an engine from this model"),
        ("build_memory", 3, "the GPU has too little memory"),
        ("build_crash", 2, "was killed, most likely because memory was short"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(folder, fail, code, words):
    done = build(BOTTLES, folder, fail=fail)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert left(folder) == set()


@pytest.mark.parametrize("damage", ["cut", "changed", "key gone"])
def test_an_engine_that_is_not_genuine_is_set_aside_and_built_anew(folder, damage):
    path = folder / result(build(BOTTLES, folder, "--json"))["path"]
    data = path.read_bytes()
    if damage == "key gone":
        (folder / "key").unlink()
    else:
        path.write_bytes(data[:-100] if damage == "cut" else data[:-1] + b"x")
    again = build(BOTTLES, folder, "--json")
    assert not result(again)["reused"]
    assert "engine_set_aside" in again.stderr
    assert path.with_name(path.name + ".bad").exists()
    assert Seal(folder).fault(path) is None


def test_a_file_of_the_users_own_is_not_written_over_without_force(folder, tmp_path):
    out = tmp_path / "caps.engine"
    assert result(build(BOTTLES, folder, "--json", "--out", out))["path"] == str(out)
    before = out.read_bytes()
    again = build(BOTTLES, folder, "--out", out)
    assert (again.returncode, "is there already; --force writes over it" in again.stderr) == (1, True)
    assert out.read_bytes() == before
    assert not result(build(BOTTLES, folder, "--json", "--out", out, "--force"))["reused"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((BOTTLES, "--precision", "fp8"), "--precision fp8: it may be auto, fp32, fp16, int8"),
        ((REPO / "README.md",), "is no .onnx file"),
        (("missing.onnx",), "missing.onnx: there is no such file"),
        ((BOTTLES, "--out", "caps.plan"), "that ends in .engine"),
        ((BOTTLES, "--profile", "jetson-orin"), "there is no hardware profile 'jetson-orin'"),
        ((BOTTLES, "--workspace-mb", "1"), "workspace-mb"),
    ],
)
def test_a_wrong_call_ends_with_1(folder, words, complaint):
    done = build(words[0], folder, *words[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in " ".join(done.stderr.split())
    assert not folder.exists()


def test_int8_for_a_plain_model_is_refused(folder):
    done = build(BOTTLES, folder, "--precision", "int8")
    assert (done.returncode, "needs a model that was quantised before" in done.stderr) == (2, True)


def test_without_tensorrt_what_to_install_is_said(folder):
    words = command(BOTTLES, folder)
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=REPO, env=pretended_cuda.environment()
    )
    assert done.returncode == 2
    assert "TensorRT" in done.stderr
    assert "Traceback" not in done.stderr
