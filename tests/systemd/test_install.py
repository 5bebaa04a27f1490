"""`scripts/install` as far as it goes without being root and without systemd; `scripts/test-service` does the rest."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.fixtures import REPO

SCRIPT = REPO / "scripts/install"
SHELL_SCRIPTS = [SCRIPT, REPO / "scripts/first-config", *sorted((REPO / "scripts/install.d").glob("*.sh"))]


def install(*words: str | Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHON": str(python)}
    return subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True, check=False, env=environ)


def sourced(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code that uses the script's own functions."""
    text = f". {SCRIPT}; set +e; {code}"
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not here")
def test_shellcheck_finds_nothing():
    checked = subprocess.run(
        ["shellcheck", "-x", *SHELL_SCRIPTS], capture_output=True, text=True, check=False, cwd=REPO
    )
    assert checked.stdout == ""


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_the_script(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nmae", "x"], "--nmae is not known"),
        (["--name"], "--name needs a value"),
        (["--name", "../x"], "letters, digits, - and _ only"),
        (["--name", "x" * 41], "at most 40"),
        (["--config", "/nowhere/x.toml"], "there is no such file"),
        (["--wheels", "/nowhere"], "there is no such folder"),
        (["--only-to", "broker.example.com"], "an address or a network"),
        (["--ready-within", "soon"], "whole seconds"),
        (["--purge"], "goes with --uninstall"),
        (["--uninstall", "--purge", "--name", "x"], "leave --name out"),
        (["--root", "/"], "leave it out"),
        (["--back", "--uninstall"], "--back and --uninstall do not go together"),
        (["--back", "--root", "/nowhere-at-all", "--dry-run"], "there is no version before"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_and_changes_nothing(words, said):
    done = install(*words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_help_has_every_option():
    text = install("--help").stdout
    options = "--name --config --wheels --only-to --ready-within --root --download --back --uninstall --purge --reinstall --dry-run"
    assert [option for option in options.split() if option not in text] == []


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path):
    done = install("--dry-run", "--root", tmp_path / "root")
    assert done.returncode == 0
    assert "etc/systemd/system/edge-agent@.service" in done.stdout
    assert all(line.startswith("would ") for line in done.stdout.splitlines())
    assert not (tmp_path / "root").exists()


def be(root: Path, compatible: str, release: str = "") -> Path:
    """Makes the folder that board: its device tree, and NVIDIA's release."""
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/compatible").write_bytes(compatible.encode().replace(b" ", b"\0") + b"\0")
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").write_text(release)
    return root


def packages_for(root: Path, *modules: str) -> str:
    """What would be installed where the system's Python has these modules beside its own."""
    python = root / "python3"
    cases = "".join(f"*'import {module}'*) exit 0 ;; " for module in modules)
    python.write_text(f'#!/bin/sh\ncase "$*" in {cases}*import\\ [pct]*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = install("--dry-run", "--root", root, python=python)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "pip install" in line]
    return line.partition("--prefer-binary ")[2].replace(str(REPO), "edge-agent")


def test_a_pc_gets_all_engines_by_pip(tmp_path):
    assert packages_for(tmp_path) == "edge-agent[desk,gpio]"


def test_a_raspberry_pi_takes_picamera2_and_opencv_from_its_system(tmp_path):
    be(tmp_path, "raspberrypi,5-model-b brcm,bcm2712")
    assert packages_for(tmp_path, "picamera2,cv2", "numpy, sys") == "edge-agent[gpio] ai-edge-litert numpy<2"


def test_a_raspberry_pi_without_picamera2_gets_opencv_by_pip(tmp_path):
    assert packages_for(be(tmp_path, "raspberrypi,4-model-b brcm,bcm2711")) == "edge-agent[pi,gpio]"


@pytest.mark.parametrize(
    ("release", "bindings"),
    [
        ("# R36 (release), REVISION: 4.3", "cuda-bindings<13"),
        ("# R38 (release), REVISION: 2.0", "cuda-bindings>=13,<14"),
    ],
)
def test_a_jetson_takes_cv2_and_tensorrt_from_jetpack_and_the_bindings_of_its_cuda(tmp_path, release, bindings):
    be(tmp_path, "nvidia,p3768-0000+p3767-0005 nvidia,tegra234", release)
    assert packages_for(tmp_path, "cv2", "tensorrt") == f"edge-agent[cuda,gpio] {bindings} onnxruntime numpy<2"


def test_a_jetson_without_opencv_is_refused_with_the_package_that_has_it(tmp_path):
    be(tmp_path, "nvidia,p3768-0000+p3767-0005 nvidia,tegra234")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$*" in *import\\ [ct]*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = install("--dry-run", "--root", tmp_path, python=python)
    assert done.returncode == 1
    assert "install nvidia-opencv" in done.stderr


def test_an_old_python_is_refused_with_what_to_do(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.10\n')
    old.chmod(0o755)
    done = install("--root", tmp_path / "root", "--dry-run", python=old)
    assert done.returncode == 1
    assert "Python 3.8.10; Python 3.10 or newer is needed" in done.stderr


JOURNAL = """
is_dry=yes root='' journal_conf=/etc/systemd/journald.conf.d/80-edge-agent.conf
systemd-analyze() {{ printf '%s\\n' '#Storage=auto' {settings}; }}
keep_journal
"""


@pytest.mark.parametrize(
    ("settings", "is_kept_anyway"),
    [("Storage=volatile", False), ("Storage=volatile Storage=persistent", True), ("Storage=none", False)],
)
def test_the_journal_is_put_on_disk_where_the_last_word_of_the_system_is_another(settings, is_kept_anyway):
    done = sourced(JOURNAL.format(settings=settings))
    assert done.returncode == 0, done.stderr
    assert ("would write: /etc/systemd/journald.conf.d/80-edge-agent.conf" not in done.stdout) is is_kept_anyway


WAITS = """
ready_within=2 SETTLE_S=0
sleep() {{ command sleep 0.05; }}
asked=0
could_judge=({could_judge})
show() {{ case $2 in ActiveState) {states} ;; NRestarts) {restarts} ;; StatusText) echo 'error (camera_lost:top)' ;; esac; }}
wait_ready x
"""


@pytest.mark.parametrize(
    ("states", "restarts", "could_judge", "is_ready"),
    [
        ("echo active", "echo 0", "", True),
        ("echo active", "echo 0", "x", False),
        ("echo failed", "echo 0", "", False),
        ("echo activating", "echo $((SECONDS * 5))", "", False),
        ("echo activating", "echo 5", "", False),
    ],
    ids=["active, without a camera as before", "the camera is gone", "failed", "ends again and again", "never ready"],
)
def test_a_service_is_ready_when_systemd_says_so_and_it_judges_as_before(states, restarts, could_judge, is_ready):
    done = sourced(WAITS.format(states=states, restarts=restarts, could_judge=could_judge))
    assert (done.returncode == 0) is is_ready, done.stderr


def a_wheel(folder: Path, version: str, *, works: bool = True) -> Path:
    """A package with what the installer asks of edge-agent, and nothing else of it: the real one needs a network."""
    folder.mkdir(exist_ok=True)
    info = f"edge_agent-{version}.dist-info"
    body = "import sys\ndef main():\n    print('stand-in', *sys.argv[1:])\n" + ("" if works else "    sys.exit(1)\n")
    meta = f"Metadata-Version: 2.1\nName: edge-agent\nVersion: {version}\n"
    files = {
        "edge_agent/__init__.py": "",
        "edge_agent/__main__.py": body,
        "edge_agent/models/__init__.py": "",
        "edge_agent/models/bundled.py": "from pathlib import Path\nFOLDER = Path(__file__).parent\n",
        "edge_agent/models/bottles.tflite": "a model",
        f"{info}/METADATA": meta + "Provides-Extra: desk\nProvides-Extra: gpio\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedge-agent = edge_agent.__main__:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / f"edge_agent-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder in which version 1.0 was installed."""
    root = tmp_path_factory.mktemp("installed")
    done = install("--root", root, "--wheels", a_wheel(root / "wheels-1", "1.0"))
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.system
class TestInstalled:
    """In this order: what is installed, the same again, a better version, one that does not start, back, and away."""

    def test_files_are_where_systemd_and_people_look(self, root):
        assert (root / "etc/edge-agent/line1.toml").is_file()
        assert (root / "etc/edge-agent/models/bottles.tflite").read_text() == "a model"
        for there, here in {
            "etc/systemd/system/edge-agent@.service": "edge-agent@.service",
            "etc/sysusers.d/edge-agent.conf": "edge-agent.sysusers",
            "etc/tmpfiles.d/edge-agent.conf": "edge-agent.tmpfiles",
        }.items():
            assert (root / there).read_text() == (REPO / "systemd" / here).read_text()

    def test_the_program_runs_from_the_link_of_the_current_version(self, root):
        done = subprocess.run(
            [root / "opt/edge-agent/current/bin/edge-agent", "x"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "stand-in x\n"

    def test_the_same_again_makes_no_new_version_and_keeps_the_configuration(self, root):
        config = root / "etc/edge-agent/line1.toml"
        config.write_text("mine = 1\n[[cameras]]\n")
        done = install("--root", root, "--wheels", root / "wheels-1")
        assert "is there already" in done.stderr
        assert config.read_text() == "mine = 1\n[[cameras]]\n"
        assert len(list((root / "opt/edge-agent/versions").iterdir())) == 1

    def test_another_configuration_does_not_replace_the_one_that_is_there(self, root):
        other = root / "line1.toml"
        other.write_text("other = 1\n")
        done = install("--root", root, "--wheels", root / "wheels-1", "--config", other)
        assert done.returncode == 1
        assert "edit it, or move it away first" in done.stderr

    def test_a_new_version_lies_beside_the_one_before(self, root):
        time.sleep(1.1)  # a version's name has the second in which it was made
        done = install("--root", root, "--wheels", a_wheel(root / "wheels-2", "2.0"))
        assert done.returncode == 0, done.stderr
        opt = root / "opt/edge-agent"
        names = [str((opt / link).readlink()) for link in ("current", "previous")]
        assert [name.rpartition("-")[0] for name in names] == ["versions/2.0", "versions/1.0"]

    def test_a_version_that_does_not_start_changes_nothing(self, root):
        current = (root / "opt/edge-agent/current").readlink()
        done = install("--root", root, "--wheels", a_wheel(root / "wheels-3", "3.0", works=False))
        assert done.returncode == 1
        assert "nothing was changed" in done.stderr
        assert (root / "opt/edge-agent/current").readlink() == current
        assert not list((root / "opt/edge-agent/versions").glob("3.0*"))

    def test_back_takes_the_version_before(self, root):
        done = install("--root", root, "--back")
        assert done.returncode == 0, done.stderr
        assert str((root / "opt/edge-agent/current").readlink()).startswith("versions/1.0-")

    def test_one_instance_may_speak_to_its_broker_only(self, root):
        install("--root", root, "--wheels", root / "wheels-1", "--name", "line1", "--only-to", "192.0.2.10")
        text = (root / "etc/systemd/system/edge-agent@line1.service.d/20-offline.conf").read_text()
        assert {"IPAddressDeny=any", "IPAddressAllow=localhost", "IPAddressAllow=192.0.2.10"} <= set(text.splitlines())

    def test_an_uninstall_keeps_configuration_and_data(self, root):
        assert install("--root", root, "--uninstall").returncode == 0
        left = [path for top in ("opt", "usr", "etc/systemd", "etc/sysusers.d") for path in (root / top).rglob("*")]
        assert [path for path in left if not path.is_dir()] == []
        assert (root / "etc/edge-agent/line1.toml").is_file()
        assert (root / "var/lib/edge-agent").is_dir()

    def test_a_purge_leaves_nothing(self, root):
        assert install("--root", root, "--uninstall", "--purge").returncode == 0
        assert not (root / "etc/edge-agent").exists()
        assert not (root / "var/lib/edge-agent").exists()
