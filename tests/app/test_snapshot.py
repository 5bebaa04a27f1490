"""`edge-agent snapshot` of cameras that end early, or are not there."""

import subprocess
import sys

import cv2
import pytest

from edge_agent.app.snapshot import Pictures
from edge_agent.core.datatypes import Frame, Later
from edge_agent.errors import BadFrameError, FrameTimeoutError
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


class Faulty:
    """A camera that gives what it is told to, and then only broken pictures, or nothing."""

    def __init__(self, *steps, then):
        self.steps, self.then, self.seq = list(steps), then, 0

    def read(self, timeout_s):
        self.seq += 1
        step = self.steps.pop(0) if self.steps else self.then
        if isinstance(step, Exception):
            raise step
        return Frame(step, self.seq, self.seq * 40_000_000)

    def close(self):
        pass


def broken():
    raise BadFrameError("a damaged JPEG")


BROKEN = Later(broken, (8, 8))


def test_broken_and_late_pictures_are_passed_over_and_the_broken_counted():
    source = Faulty(
        BROKEN, picture(1), FrameTimeoutError("late"), BROKEN, BadFrameError("torn"), picture(2), then=BROKEN
    )
    pictures = Pictures(source, 5)
    assert [pictures.next().seq, pictures.skipped] == [2, 1]
    assert [pictures.next().seq, pictures.skipped] == [6, 3]


@pytest.mark.parametrize(("then", "error"), [(BROKEN, BadFrameError), (FrameTimeoutError("late"), FrameTimeoutError)])
def test_without_a_good_picture_in_time_the_reason_is_raised(then, error):
    with pytest.raises(error):
        Pictures(Faulty(then=then), 0.05).next()
