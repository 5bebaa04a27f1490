"""`edge-agent snapshot` of cameras that end early, or are not there."""

import subprocess
import sys

import cv2
import pytest

from tests.cameras.media import picture, write_video
from tests.fixtures import REPO
from tests.system.agents import config_text

pytestmark = pytest.mark.system
YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"


def snapshot(folder, kind, source):
    camera = f'[[cameras]]\nid = "top"\nkind = "{kind}"\nsource = "{source}"\n[cameras.trigger]\nkind = "frame"\n'
    (folder / "agent.toml").write_text(config_text(model=YOLOX, cameras=camera, port=1))
    words = ["snapshot", "--config", folder / "agent.toml", "--camera", "top", folder / "out.png"]
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, words)], capture_output=True, text=True, check=False, cwd=REPO
    )


def test_a_video_shorter_than_the_settling_time_gives_its_last_frame(tmp_path):
    done = snapshot(tmp_path, "opencv", write_video(tmp_path / "short.avi", 3))
    assert done.returncode == 0, done.stderr
    assert abs(cv2.imread(str(tmp_path / "out.png")).mean(axis=(0, 1)) - picture(20)[0, 0]).max() < 4


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [
        ("opencv", "/dev/video63", "there is no camera /dev/video63"),
        ("opencv", "{}/junk.avi", "junk.avi cannot be read as a video"),
        ("replay", "{}/junk.png", "junk.png cannot be read as a picture"),
    ],
)
def test_a_camera_that_gives_nothing_ends_with_1_and_one_sentence(tmp_path, kind, source, sentence):
    for name in ("junk.avi", "junk.png"):
        (tmp_path / name).write_bytes(b"junk" * 100)
    done = snapshot(tmp_path, kind, source.format(tmp_path))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
