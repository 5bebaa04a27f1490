import itertools
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.app.engine_build import BuildRequest, BuildStoppedError, EngineBuilder, precision_for
from edge_agent.core import plan_header
from edge_agent.errors import ConfigError, ModelError, TransientError, UnavailableError
from edge_agent.models.engine_cache import EngineCache
from edge_agent.models.onnx_file import OnnxFile
from tests import fake_tensorrt, pretended_cuda
from tests.fixtures import REPO
from tests.processes import STOP_S, ended, processes_that_name
from tests.recipes import recipe_of

BOTTLES = REPO / "edge_agent" / "demo_model" / "bottles.onnx"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A Jetson Orin for the child processes; `BuildRequest` for it."""
    for name, value in {**pretended_cuda.environment(), **fake_tensorrt.environment("10.3.0")}.items():
        monkeypatch.setenv(name, value)
    return BuildRequest(BOTTLES, tmp_path / "engines")


def file(*, quantised=False, halves=False):
    return OnnxFile(BOTTLES, {}, (), is_quantised=quantised, has_halves=halves)


def asked(precision, preferred="fp16"):
    return BuildRequest(BOTTLES, BOTTLES.parent, precision, preferred)


def run(request, on_progress=lambda _: None):
    return EngineBuilder(request).run(on_progress)


@pytest.mark.parametrize(
    ("preferred", "quantised", "halves", "expected"),
    [
        ("fp32", False, False, "fp32"),
        ("fp16", False, False, "fp16"),
        ("int8", False, False, "fp16"),
        ("fp32", True, False, "int8"),
        ("fp32", False, True, "fp16"),
        ("fp16", True, True, "int8"),
    ],
)
def test_auto_is_the_precision_of_the_file_or_what_is_preferred(preferred, quantised, halves, expected):
    assert precision_for(asked("auto", preferred), file(quantised=quantised, halves=halves)) == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plain_model_can_be_built_with_either_precision(precision):
    assert precision_for(asked(precision), file()) == precision


def test_int8_needs_a_quantised_model():
    assert precision_for(asked("int8"), file(quantised=True)) == "int8"
    with pytest.raises(
        ModelError, match=r"int8 needs a model that was quantised before \(Q/DQ\), and this one was not"
    ):
        precision_for(asked("int8"), file())


@pytest.mark.parametrize(("precision", "facts"), [("fp16", {"quantised": True}), ("fp32", {"halves": True})])
def test_a_model_with_a_precision_of_its_own_is_not_built_with_another(precision, facts):
    with pytest.raises(ModelError, match=f"can be built as .* only, not as {precision}"):
        precision_for(asked(precision), file(**facts))


def test_the_recipe_names_the_model_and_the_machine(monkeypatch):
    pretended_cuda.load()
    fake_tensorrt.put_in_place(monkeypatch, "8.6.1")
    recipe = recipe_of(BuildRequest(BOTTLES, BOTTLES.parent, workspace_mb=256))
    assert recipe.shapes == (("images", (1, 3, 256, 416)),)
    assert (recipe.tensorrt, recipe.compute, recipe.driver) == ("8.6.1", "8.7", 12060)
    assert recipe.gpu == "Orin, 8 multiprocessors"
    assert (recipe.precision, recipe.workspace_mb, recipe.flags) == ("fp16", 256, ())


def test_an_engine_without_libraries_is_another_one(machine, monkeypatch):
    pretended_cuda.load()
    fake_tensorrt.put_in_place(monkeypatch, "10.3.0")
    plain, without = recipe_of(machine), recipe_of(replace(machine, without_libraries=True))
    assert without.flags == ("without_libraries",)
    assert without.fingerprint != plain.fingerprint


def test_without_tensorrt_there_is_no_recipe(tmp_path):
    with pytest.raises(UnavailableError, match="TensorRT"):
        recipe_of(BuildRequest(BOTTLES, tmp_path))


def test_an_engine_is_built_kept_and_found_by_its_recipe(machine, monkeypatch):
    told = []
    finished = run(machine, told.append)
    assert (finished.precision, finished.reused, finished.notes) == ("fp16", False, ())
    assert list(dict.fromkeys(progress.stage for progress in told)) == ["reading", "building", "writing"]
    assert told[-1].elapsed_s >= finished.seconds
    pretended_cuda.load()
    fake_tensorrt.put_in_place(monkeypatch, "10.3.0")
    recipe = recipe_of(machine)
    assert recipe.fingerprint == finished.fingerprint
    assert EngineCache(machine.folder).find(recipe) == finished.path
    metadata, _ = plan_header.split(finished.path.read_bytes())
    assert metadata["task"] == "detect"
    assert {key: metadata["edge_agent"][key] for key in ("tensorrt", "compute", "built_as", "model")} == {
        "tensorrt": "10.3.0",
        "compute": "8.7",
        "built_as": "fp16",
        "model": "bottles.onnx",
    }


def test_an_engine_that_is_there_is_not_built_again(machine, monkeypatch):
    first = run(machine)
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", "build")
    again = run(machine)
    assert (again.path, again.fingerprint, again.precision, again.reused) == (
        first.path,
        first.fingerprint,
        "fp16",
        True,
    )


def test_progress_is_told_in_fractions_and_while_nothing_happens(machine, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "1")
    told = []
    run(machine, told.append)
    fractions = [progress.fraction for progress in told if progress.fraction is not None]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 5
    gaps = [later.elapsed_s - one.elapsed_s for one, later in itertools.pairwise(told)]
    assert max(gaps) < 2


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("build", ModelError, "TensorRT cannot build an engine from this model"),
        ("build_memory", TransientError, "the GPU has too little memory to build"),
        ("build_crash", ModelError, "was killed, most likely because memory was short"),
    ],
)
def test_what_goes_wrong_in_the_child_is_told_here(machine, monkeypatch, fault, kind, words):
    monkeypatch.setenv("FAKE_TENSORRT_FAIL", fault)
    with pytest.raises(kind, match=words):
        run(machine)
    assert not list(machine.folder.glob("*.engine"))
    assert not list(machine.folder.glob("*.part"))


def test_without_a_gpu_that_is_told(machine, monkeypatch):
    monkeypatch.setenv("PRETENDED_FAIL", "cuInit=100")
    with pytest.raises(UnavailableError, match="engines cannot be built here, the GPU cannot be used"):
        run(machine)


def test_a_folder_that_cannot_be_used_is_told(machine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory"):
        run(BuildRequest(BOTTLES, tmp_path / "file" / "engines"))


def test_a_child_that_dies_in_its_own_way_is_told_with_its_last_words(machine, monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise SystemError('the library is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"ended with exit code 1, inside TensorRT .*SystemError: the library is broken"
    ):
        run(machine)


def test_stop_ends_the_build_and_leaves_nothing(machine, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "30")
    builder = EngineBuilder(machine)
    stopped_s = []

    def stop_soon(progress):
        if progress.stage == "building" and not stopped_s:
            stopped_s.append(time.monotonic())
            threading.Thread(target=builder.stop).start()

    with pytest.raises(BuildStoppedError, match="the build of its engine was stopped"):
        builder.run(stop_soon)
    assert time.monotonic() - stopped_s[0] < STOP_S
    assert ended(lambda: not processes_that_name(machine.folder))
    assert {path.name for path in machine.folder.iterdir()} <= {"build.lock", "key"}


def states_of(folder):
    """Of the processes that build into it: T where they stand still."""
    stats = [Path(f"/proc/{number}/stat").read_text() for number, _ in processes_that_name(folder)]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def test_a_build_that_is_held_stands_still_and_goes_on_with_all_that_it_has_done(machine):
    builder, finished = EngineBuilder(machine), []
    builder.is_held = True
    thread = threading.Thread(target=lambda: finished.append(builder.run(lambda _: None)))
    thread.start()
    assert ended(lambda: states_of(machine.folder) == {"T"})
    time.sleep(0.5)
    assert states_of(machine.folder) == {"T"}
    builder.is_held = False
    thread.join(30)
    assert finished[0].path.exists()


def test_a_build_that_is_held_can_be_stopped(machine):
    builder, ends = EngineBuilder(machine), []

    def build():
        with pytest.raises(BuildStoppedError):
            builder.run(lambda _: None)
        ends.append(time.monotonic())

    builder.is_held = True
    thread = threading.Thread(target=build)
    thread.start()
    assert ended(lambda: states_of(machine.folder) == {"T"})
    stopped_s = time.monotonic()
    builder.stop()
    thread.join(STOP_S)
    assert ends[0] - stopped_s < STOP_S
    assert not processes_that_name(machine.folder)


def test_an_error_of_whoever_listens_ends_the_build(machine, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "30")

    def fail(progress):
        if progress.stage == "building":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(machine, fail)
    assert not processes_that_name(machine.folder)


def test_a_child_that_is_asked_to_end_by_someone_else_was_stopped(machine, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "30")

    def terminate(progress):
        if progress.stage == "building":
            for process, _ in processes_that_name(machine.folder):
                os.kill(process, signal.SIGTERM)

    with pytest.raises(BuildStoppedError):
        run(machine, terminate)


def test_the_child_gives_way_to_everything_else(machine, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "1")
    seen = {}

    def look(progress):
        if progress.stage == "building" and not seen:
            ((process, _),) = processes_that_name(machine.folder)
            seen["score"] = int(Path(f"/proc/{process}/oom_score_adj").read_text())
            seen["nice"] = os.getpriority(os.PRIO_PROCESS, process) - os.getpriority(os.PRIO_PROCESS, 0)

    run(machine, look)
    assert seen["score"] > 500
    assert seen["nice"] == min(10, 19 - os.getpriority(os.PRIO_PROCESS, 0))


def test_what_the_child_logs_is_logged_here(machine):
    path = run(machine).path
    path.write_bytes(path.read_bytes()[:-1])
    with capture_logs() as logs:
        assert not run(machine).reused
    (entry,) = (entry for entry in logs if entry["event"] == "engine_set_aside")
    assert (entry["log_level"], entry["path"]) == ("warning", str(path))


def test_modules_in_the_working_directory_are_not_run(machine, monkeypatch, tmp_path):
    (tmp_path / "structlog.py").write_text("raise SystemError('of somebody else')")
    monkeypatch.chdir(tmp_path)
    assert not run(machine).reused


def test_what_libraries_print_does_not_disturb(machine, monkeypatch, tmp_path):
    """TensorRT's own libraries write to the standard output of the process."""
    (tmp_path / "sitecustomize.py").write_text("import atexit, os; atexit.register(os.write, 1, b'{not json}\\n')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    assert not run(machine).reused


def test_a_file_of_the_users_own_is_written_instead(machine, tmp_path):
    out = tmp_path / "own.engine"
    finished = run(BuildRequest(BOTTLES, machine.folder, out=out))
    assert finished.path == out
    assert out.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert plan_header.split(out.read_bytes())[0]["edge_agent"]["tensorrt"] == "10.3.0"
    assert not list(machine.folder.glob("*.engine"))
    assert ended(lambda: not out.with_name("own.engine.part").exists())


def test_a_model_that_is_replaced_meanwhile_is_not_taken_for_the_old_one(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_TENSORRT_BUILD_S", "1")
    model = tmp_path / "m.onnx"
    model.write_bytes(BOTTLES.read_bytes())

    def replace(progress):
        if progress.fraction:
            model.write_bytes(BOTTLES.read_bytes() + b"\x12\x00")

    with pytest.raises(TransientError, match=r"m\.onnx: was replaced while its engine was built; build it again"):
        run(BuildRequest(model, machine.folder), replace)
    assert not list(machine.folder.glob("*.engine"))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
