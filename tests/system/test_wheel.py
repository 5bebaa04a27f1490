"""The wheel, as somebody gets it who has nothing of this repository."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.fixtures import REPO

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
pytest.importorskip(
    "hatchling", reason="building a wheel without a network needs hatchling here: pip install hatchling"
)


def run(*command: str | Path, cwd: Path) -> str:
    """What it wrote to standard output; fails with all it said. Nothing of this environment leaks in."""
    environ = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    run(sys.executable, "-m", "pip", "wheel", *options, REPO, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory) -> Path:
    """`edge-agent` in an environment of its own, which borrows the dependencies, but not the project, from this one."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    site_packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return home / "bin" / "edge-agent"


def test_the_wheel_has_every_hardware_profile(names):
    profiles = {f"edge_agent/hardware_profiles/{path.name}" for path in (REPO / "hardware_profiles").glob("*.toml")}
    assert profiles
    assert profiles <= names


def test_the_wheel_has_every_module(names):
    assert {str(path.relative_to(REPO)) for path in (REPO / "edge_agent").rglob("*.py")} <= names


def test_the_wheel_has_the_bundled_model_with_its_card_and_golden_set(names):
    files = {str(path.relative_to(REPO)) for path in (REPO / "edge_agent/demo_model").rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} == {".tflite", ".onnx", ".txt", ".md", ".jpg", ".json"}
    assert {name for name in names if name.startswith("edge_agent/demo_model/")} == files


def test_the_wheel_has_the_kernel_with_its_source(names):
    folder = "edge_agent/backends/tensorrt"
    assert {f"{folder}/letterbox.ptx", f"{folder}/letterbox.cu"} <= names


def test_the_wheel_has_the_licence_and_the_notice(names):
    assert {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_the_wheel_has_nothing_else(names):
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"edge_agent"}
    code = {name for name in names if ".dist-info/" not in name}
    data = {name for name in code if name.startswith("edge_agent/demo_model/")}
    assert {Path(name).suffix for name in code - data} == {".py", ".toml", ".ptx", ".cu"}


def test_the_installed_command_explains_itself(command, tmp_path):
    assert "run" in run(command, "--help", cwd=tmp_path)


def test_the_installed_command_is_not_this_checkout(command, tmp_path):
    where = run(command.with_name("python"), "-c", "import edge_agent; print(edge_agent.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(command.parents[1])


def test_the_installed_command_knows_the_profiles_that_came_with_it(command, tmp_path):
    listed = json.loads(run(command, "profile", "list", "--json", cwd=tmp_path))
    shipped = {path.stem for path in (REPO / "hardware_profiles").glob("*.toml")}
    assert shipped <= {profile["name"] for profile in listed}
