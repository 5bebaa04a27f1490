import os
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.cameras.opencv import Config, create, verify
from edge_agent.cameras.opencv.device import device_trouble
from edge_agent.cameras.opencv.pixels import as_bgr
from edge_agent.core.datatypes import Later
from edge_agent.core.pool import Pool
from edge_agent.errors import BadFrameError, CameraLostError, ConfigError, FrameTimeoutError
from tests.cameras.media import HEIGHT, WIDTH, picture, served, write_video


@pytest.mark.parametrize(
    ("source", "path", "medium"),
    [
        (0, "/dev/video0", "device"),
        ("2", "/dev/video2", "device"),
        ("/dev/v4l/by-id/usb-cam-video-index0", "/dev/v4l/by-id/usb-cam-video-index0", "device"),
        ("rtsp://10.0.0.5:554/main", "rtsp://10.0.0.5:554/main", "stream"),
        ("belt.mp4", "belt.mp4", "file"),
    ],
)
def test_the_form_of_a_source_says_what_it_is(source, path, medium):
    config = Config(source=source)
    assert (config.path, config.medium) == (path, medium)


def test_a_stream_that_refuses_is_lost_without_a_word_of_its_password(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("s3cret")
    sentence = f"rtsp://127.0.0.1:{port} cannot be opened: nobody listens at port {port}"
    with pytest.raises(CameraLostError, match=sentence) as caught:
        create(Config(source=f"rtsp://127.0.0.1:{port}/main", username="operator", password_file=secret))
    out, err = capfd.readouterr()
    assert "s3cret" not in f"{caught.value!r}{out}{err}"


def test_a_stream_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_s = time.monotonic()
        with pytest.raises(CameraLostError, match="cannot be opened"):
            create(Config(source=f"rtsp://127.0.0.1:{silent.getsockname()[1]}/main"))
    assert 4 < time.monotonic() - started_s < 30


def jpeg_of(image):
    return cv2.imencode(".jpg", image)[1].tobytes()


def test_a_picture_of_an_mjpeg_stream_is_decoded_only_when_it_is_asked_for():
    with served(4) as url, closing(create(Config(source=url))) as camera:
        frame = camera.read(10)
        assert isinstance(frame.picture, Later)
        assert frame.size == (WIDTH, HEIGHT)
        assert frame.picture.at_least((8, 8)) == (frame.image, 1)


def test_half_of_a_picture_of_an_mjpeg_stream_can_be_had():
    with served(4) as url, closing(create(Config(source=url, reduced_decoding=True))) as camera:
        image, shrunk = camera.read(10).picture.at_least((8, 8))
        assert camera.refused == {}
    assert (image.shape, shrunk) == ((HEIGHT // 2, WIDTH // 2, 3), 2)


def test_a_broken_picture_of_an_mjpeg_stream_is_a_bad_frame_and_others_are_good():
    whole = jpeg_of(picture(60))
    with served(4, [whole, whole, whole[:-40], whole]) as url, closing(create(Config(source=url))) as camera:
        good, _, bad, other = (camera.read(10) for _ in range(4))
        assert np.array_equal(good.image, other.image)
        with pytest.raises(BadFrameError, match="breaks off"):
            _ = bad.image


def test_an_mjpeg_stream_whose_pictures_change_their_size_is_lost():
    small = jpeg_of(np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    with served(3, [jpeg_of(picture(60))] * 2 + [small]) as url, closing(create(Config(source=url))) as camera:
        for _ in range(2):
            camera.read(10)
        with pytest.raises(CameraLostError, match="changed the size of its pictures"):
            camera.read(10)


def test_a_stream_that_ends_is_lost_and_not_at_its_end():
    with served(3) as url:
        camera = create(Config(source=f"{url}?end"))
        for _ in range(3):
            camera.read(10)
        with pytest.raises(CameraLostError, match="stopped giving pictures") as caught:
            camera.read(10)
        assert not isinstance(caught.value, FrameTimeoutError)
        camera.close()


def test_frames_of_a_file_are_named(tmp_path):
    camera = create(Config(source=str(write_video(tmp_path / "belt.avi", 2))))
    assert [camera.read(1).source for _ in range(2)] == ["belt.avi#0", "belt.avi#1"]
    camera.close()


def test_a_file_that_is_no_video_is_named_in_one_sentence_and_nothing_else_is_said(tmp_path, capfd):
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"not a video" * 100)
    with pytest.raises(CameraLostError, match=r"junk\.mp4 cannot be read as a video"):
        create(Config(source=str(junk)))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end_and_then_lost(tmp_path):
    path = write_video(tmp_path / "belt.avi", 2)
    camera = create(Config(source=str(path)))
    path.unlink()
    assert [camera.read(1).seq for _ in range(2)] == [0, 1]
    camera.close()
    with pytest.raises(CameraLostError, match="there is no video file"):
        create(Config(source=str(path)))


def test_a_device_that_is_not_there_gets_a_sentence():
    assert "there is no camera /dev/video63" in device_trouble("/dev/video63")


def test_a_device_without_permission_gets_the_group_to_join():
    with tempfile.NamedTemporaryFile(dir="/tmp") as device:
        Path(device.name).chmod(0)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            trouble = device_trouble(device.name)
        finally:
            if as_root:
                os.seteuid(0)
    assert "add the user to the group" in trouble


def test_a_file_in_the_place_of_a_device_gets_a_sentence(tmp_path):
    (tmp_path / "video0").touch()
    assert device_trouble(str(tmp_path / "video0")).endswith("is not a camera device")


def test_a_device_that_opens_and_gives_nothing_gets_a_sentence():
    assert "another program may be using it (`fuser -v /dev/null` names it)" in device_trouble("/dev/null")
    with pytest.raises(CameraLostError, match="/dev/null gives no pictures"):
        create(Config(source="/dev/null"))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_grey_and_alpha_pictures_become_bgr(shape):
    image = as_bgr(np.full(shape, 7, np.uint8), Pool())
    assert image.shape == (4, 6, 3)
    assert (image == 7).all()


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 4)])
def test_a_picture_of_16_bits_never_shows_the_one_before(shape):
    pool = Pool()
    as_bgr(np.full(shape, 7, np.uint8), pool)
    assert (as_bgr(np.full(shape, 1000, np.uint16), pool) == 1000).all()


def test_a_width_alone_is_refused():
    with pytest.raises(ValidationError, match="width and height go together"):
        Config(source=0, width=640)


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_source_is_refused(source):
    with pytest.raises(ValidationError, match="must be a device such as /dev/video0, a stream or a video file"):
        Config(source=source)


def test_verify_finds_a_missing_file_and_leaves_devices_alone(tmp_path):
    verify(Config(source=0))
    verify(Config(source="rtsp://10.0.0.5/main"))
    with pytest.raises(ConfigError, match=r"there is no video file .*belt\.avi"):
        verify(Config(source=str(tmp_path / "belt.avi")))


def test_importing_the_module_does_not_import_opencv():
    code = "import sys, edge_agent.cameras.opencv, edge_agent.cameras.replay; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_frames_cost_no_large_memory_once_a_source_runs_and_keep_their_pictures(tmp_path):
    """Two are held all the while, as by the mailbox and by who looks at them."""
    camera = create(Config(source=write_video(tmp_path / "large.avi", 20, times=5)))
    held, peaks = deque(maxlen=2), []
    tracemalloc.start()
    for k in range(20):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        held.append(camera.read(2))
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        assert all(abs(int(frame.image[0, 0, 0]) - 10 * frame.seq) < 6 for frame in held), k
    tracemalloc.stop()
    camera.close()
    assert held[-1].image.nbytes > 64 * 1024
    assert max(peaks[5:]) < 64 * 1024
