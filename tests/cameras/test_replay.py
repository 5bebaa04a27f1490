import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.cameras.replay import Config, ReplayCamera, create, verify
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError
from tests.cameras.media import picture, png_that_claims, write_pictures, write_video


def sources(camera):
    found = []
    while True:
        try:
            found.append(camera.read(10).source)
        except EndOfStreamError:
            camera.close()
            return found


def test_pictures_come_in_natural_order_with_subfolders_and_without_hidden_files(tmp_path):
    for name in ("10.png", "9.PNG", "b2/1.jpg", "b10/1.tiff", "a.webp", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), picture(0)) if name != "notes.txt" else (tmp_path / name).touch()
    assert sources(create(Config(source=tmp_path))) == ["9.PNG", "10.png", "a.webp", "b2/1.jpg", "b10/1.tiff"]


def test_one_picture_is_a_source(tmp_path):
    write_pictures(tmp_path, 3)
    assert sources(create(Config(source=tmp_path / "1.png"))) == ["1.png"]


def test_frames_of_a_video_are_named_by_their_number(tmp_path):
    camera = create(Config(source=write_video(tmp_path / "belt.avi", 2), loop=True))
    assert [camera.read(1).source for _ in range(3)] == ["belt.avi#0", "belt.avi#1", "belt.avi#0"]
    camera.close()


def test_a_picture_that_cannot_be_read_is_skipped_and_counted(tmp_path, capfd):
    write_pictures(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"not a picture")
    camera = create(Config(source=tmp_path))
    assert sources(camera) == ["0.png", "2.png"]
    assert camera.skipped == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "damaged",
    [b"", png_that_claims(60_000, 60_000), png_that_claims(30_000, 30_000), png_that_claims(0, 0)],
    ids=["empty", "above OpenCV's limit", "900 megapixels", "no pixels"],
)
def test_a_damaged_picture_is_skipped_and_named(tmp_path, damaged):
    write_pictures(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(damaged)
    camera = create(Config(source=tmp_path))
    assert sources(camera) == ["0.png", "2.png"]
    assert (camera.skipped, camera.unreadable) == (1, ["1.png"])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_a_picture_that_breaks_off_is_skipped(tmp_path, suffix):
    shades = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    whole = cv2.imencode(suffix, shades)[1].tobytes()
    write_pictures(tmp_path, 1)
    (tmp_path / f"1{suffix}").write_bytes(whole[: len(whole) // 2])
    camera = create(Config(source=tmp_path))
    assert sources(camera) == ["0.png"]
    assert camera.skipped == 1


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (1, np.uint16), (3, np.uint16), (4, np.uint8), (4, np.uint16)]
)
def test_grey_deep_and_alpha_pictures_become_bgr(tmp_path, channels, dtype):
    shades = np.full((48, 64, channels), np.iinfo(dtype).max, dtype)
    assert cv2.imwrite(str(tmp_path / "a.png"), shades)
    image = create(Config(source=tmp_path)).read(1).image
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert (image == 255).all()


def test_a_name_that_is_not_utf8_becomes_text_that_can_be_sent(tmp_path):
    for name in (b"b\xff.png", b"a\nb\x1b.png", "grün.png".encode()):
        write_pictures(tmp_path, 1)
        (tmp_path / "0.png").rename(tmp_path / os.fsdecode(name))
    found = in_a_process_of_its_own(tmp_path)
    assert found == ["a\ufffdb\ufffd.png", "b\ufffd.png", "grün.png"]


def test_a_video_whose_name_is_not_utf8_is_refused_in_one_sentence(tmp_path):
    path = write_video(tmp_path / "v.avi", 1).rename(tmp_path / os.fsdecode(b"v\xff.avi"))
    assert in_a_process_of_its_own(path) == [
        f"{tmp_path}/v\ufffd.avi cannot be opened as a video: its name is not UTF-8; rename it"
    ]


def in_a_process_of_its_own(source: Path) -> list[str]:
    """The names of a source's frames, or why there are none. OpenCV has crashed on such names."""
    program = """
import sys
from edge_agent.cameras.replay import Config, create
from edge_agent.errors import CameraLostError, EndOfStreamError
try:
    camera = create(Config(source=sys.argv[1]))
    while True:
        sys.stdout.buffer.write(camera.read(9).source.encode() + b"\\0")
except EndOfStreamError:
    pass
except CameraLostError as error:
    sys.stdout.buffer.write(str(error).encode() + b"\\0")
"""
    done = subprocess.run([sys.executable, "-c", program, source], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_a_single_picture_that_cannot_be_read_is_lost(tmp_path):
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(CameraLostError, match=r"0\.png cannot be read as a picture"):
        create(Config(source=tmp_path / "0.png"))


def test_the_length_is_the_number_of_pictures_or_frames(tmp_path):
    write_pictures(tmp_path, 3)
    assert create(Config(source=tmp_path)).length == 3
    assert create(Config(source=tmp_path / "0.png")).length == 1
    assert create(Config(source=write_video(tmp_path / "belt.avi", 5))).length == 5


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_where_none_can_be_read_is_lost(tmp_path, loop):
    (tmp_path / "0.png").write_bytes(b"not a picture")
    with pytest.raises(CameraLostError, match="holds no picture that can be read"):
        create(Config(source=tmp_path, loop=loop))


def test_a_file_that_is_no_video_is_lost(tmp_path, capfd):
    (tmp_path / "belt.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(CameraLostError, match="cannot be read as a video"):
        create(Config(source=tmp_path / "belt.mp4"))
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_vanishes_is_lost(tmp_path):
    camera = create(Config(source=write_pictures(tmp_path / "pictures", 3)))
    camera.read(1)
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(CameraLostError, match="has gone"):
        camera.read(1)


def test_a_loop_decodes_each_picture_once(tmp_path):
    camera = create(Config(source=write_pictures(tmp_path / "pictures", 3), loop=True))
    first = [camera.read(1).image for _ in range(3)]
    shutil.rmtree(tmp_path / "pictures")
    again = [camera.read(1).image for _ in range(3)]
    assert all(a is b for a, b in zip(first, again, strict=True))


def test_a_loop_keeps_no_more_decoded_than_there_is_room_for(tmp_path):
    config = Config(source=write_pictures(tmp_path, 3), loop=True)
    camera = ReplayCamera(config, cache_bytes=2 * picture(0).nbytes)
    first = [camera.read(1).image for _ in range(3)]
    again = [camera.read(1).image for _ in range(3)]
    assert [a is b for a, b in zip(first, again, strict=True)] == [True, True, False]
    assert np.array_equal(first[2], again[2])


def test_no_picture_comes_before_it_is_due(tmp_path):
    fps = 50
    camera = create(Config(source=write_pictures(tmp_path, 8), fps=fps))
    started_ns = time.monotonic_ns()
    for k in range(8):
        assert camera.read(10).captured_ns - started_ns >= k * 1e9 / fps


def test_a_late_reader_does_not_shift_the_schedule(tmp_path):
    fps = 10
    camera = create(Config(source=write_pictures(tmp_path, 30), fps=fps))
    start_ns = camera.read(10).captured_ns
    while time.monotonic_ns() - start_ns < 10 * 1e9 / fps:
        time.sleep(0.01)  # being late is what is tested
    late = [camera.read(10) for _ in range(10)]
    assert [frame.seq for frame in late] == list(range(1, 11))
    assert late[8].captured_ns - late[0].captured_ns < 8e9 / fps  # those that were due came at once


def test_fps_too_low_for_the_timeout_is_refused():
    with pytest.raises(ValidationError, match="with a frame every 5 s timeout_s must be more"):
        Config(source="pictures", fps=0.2)


@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere", "there is no"), ("empty", "holds no pictures"), ("a.txt", "by its name no")]
)
def test_verify_names_what_is_wrong(tmp_path, name, problem):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=problem):
        verify(Config(source=tmp_path / name))


def test_verify_is_content_with_folders_pictures_and_videos(tmp_path):
    write_pictures(tmp_path, 1)
    write_video(tmp_path / "belt.avi", 1)
    for source in (tmp_path, tmp_path / "0.png", tmp_path / "belt.avi"):
        verify(Config(source=source))
