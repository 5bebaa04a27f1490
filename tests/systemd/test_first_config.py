"""The configuration that `scripts/install` writes where there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.app.check import check
from edge_agent.config import AgentConfig
from edge_agent.models import bundled
from tests.fixtures import REPO

USB = "dev/v4l/by-id/usb-Maker_Model_1234-video-index0"


@pytest.fixture
def root(tmp_path) -> Path:
    """A copied tree of a machine without anything particular."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("Line-PC.example.com\n")
    return tmp_path


def be(root: Path, compatible: str) -> None:
    folder = root / "proc/device-tree"
    folder.mkdir(parents=True)
    (folder / "compatible").write_bytes(compatible.encode().replace(b" ", b"\0") + b"\0")
    (folder / "model").write_bytes(b"A board of its own\0")


def plug_in(root: Path) -> None:
    device = root / USB
    device.parent.mkdir(parents=True)
    device.symlink_to("../../video0")


def made(root: Path, name: str = "line1") -> AgentConfig:
    """The configuration beside its model, after its check."""
    command = ["bash", REPO / "scripts/first-config", name, root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert done.stderr == ""
    folder = root / "etc/edge-agent"
    shutil.copytree(bundled.FOLDER, folder / "models", ignore=shutil.ignore_patterns("golden"))
    (folder / f"{name}.toml").write_text(done.stdout)
    loaded, problems = check(folder / f"{name}.toml")
    assert problems == []
    return loaded.config


def test_a_machine_without_a_camera_gets_the_simulated_line(root):
    assert made(root).cameras[0].kind == "simulator"


def test_the_first_camera_on_usb_is_taken_by_the_name_that_stays(root):
    plug_in(root)
    camera = made(root).cameras[0]
    assert (camera.kind, str(camera.source)) == ("opencv", f"/{USB}")


def test_a_jetson_gets_the_model_that_tensorrt_can_build(root):
    be(root, "nvidia,p3768-0000+p3767-0005 nvidia,tegra234")
    assert made(root).model.path.name == "bottles.onnx"


def test_a_raspberry_pi_without_a_camera_gets_the_simulated_line(root):
    be(root, "raspberrypi,5-model-b brcm,bcm2712")
    config = made(root)
    assert (config.cameras[0].kind, config.model.path.name) == ("simulator", "bottles.tflite")


def test_two_instances_on_one_machine_are_two_devices(root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(root / "etc", other / "etc")
    assert (made(root).device.id, made(other, "line2").device.id) == ("line-pc-line1", "line-pc-line2")


def test_the_configuration_says_which_board_it_was_made_for(root):
    be(root, "raspberrypi,4-model-b brcm,bcm2711")
    made(root)
    assert "on A board of its own:" in (root / "etc/edge-agent/line1.toml").read_text().splitlines()[0]
