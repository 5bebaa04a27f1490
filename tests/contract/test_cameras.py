"""What `Camera` promises, on every kind that a machine without a camera can open."""

import threading
import time

import numpy as np
import pytest

from edge_agent import plugins
from edge_agent.cameras import opencv, picamera2, replay, simulator
from edge_agent.errors import CameraLostError, EndOfStreamError, FrameTimeoutError
from edge_agent.runtime.view import View, ViewedCamera
from tests.cameras.media import HEIGHT, WIDTH, served, write_pictures, write_video
from tests.cameras.picamera2s import standing_in

COUNT = 6
FOREVER_S = 50.0


def replay_folder(tmp_path, **options):
    return replay.create(replay.Config(source=write_pictures(tmp_path / "pictures", COUNT), **options))


def replay_video(tmp_path, **options):
    return replay.create(replay.Config(source=write_video(tmp_path / "video.avi", COUNT), **options))


def opencv_file(tmp_path):
    return opencv.create(opencv.Config(source=str(write_video(tmp_path / "video.avi", COUNT))))


@pytest.fixture
def stream_url():
    with served(COUNT) as url:
        yield url


def opencv_stream(url):
    return opencv.create(opencv.Config(source=url, timeout_s=0.3))


@pytest.fixture
def pi_camera():
    with standing_in() as library:
        library.RIG.frames_left = COUNT
        yield picamera2.create(picamera2.Config(width=WIDTH, height=HEIGHT))


def viewed(tmp_path):
    """Turned upside down twice."""
    return ViewedCamera(ViewedCamera(replay_folder(tmp_path), View(180)), View(180, ((0.0, 0.0), (1.0, 1.0))))


MEDIA = ["replay folder", "replay video", "opencv file", "opencv stream", "picamera2", "viewed"]


def opened(name, request, tmp_path):
    if name == "opencv stream":
        return opencv_stream(request.getfixturevalue("stream_url"))
    if name == "picamera2":
        return request.getfixturevalue("pi_camera")
    if name == "viewed":
        return viewed(tmp_path)
    if name == "simulator":
        return simulator.create(simulator.Config(fps=20, width=320, height=180))
    return {"replay folder": replay_folder, "replay video": replay_video, "opencv file": opencv_file}[name](tmp_path)


@pytest.fixture(params=MEDIA)
def camera(request, tmp_path):
    """A camera with COUNT frames to give, whose pictures are known."""
    made = opened(request.param, request, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=[*MEDIA, "simulator"])
def any_camera(request, tmp_path):
    """A camera with at least COUNT frames to give."""
    made = opened(request.param, request, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["replay folder", "replay video"])
def looping(request, tmp_path):
    make = {"replay folder": replay_folder, "replay video": replay_video}[request.param]
    made = make(tmp_path, loop=True)
    yield made
    made.close()


@pytest.fixture(params=["replay folder", "replay video", "opencv stream", "picamera2"])
def stalled(request, tmp_path):
    """A camera that has given what it has for now, and is silent."""
    slow = {"fps": 1 / FOREVER_S, "timeout_s": 60}
    if request.param == "opencv stream":
        made, given = opencv_stream(request.getfixturevalue("stream_url")), COUNT
    elif request.param == "picamera2":
        made, given = request.getfixturevalue("pi_camera"), COUNT
    else:
        make = {"replay folder": replay_folder, "replay video": replay_video}[request.param]
        made, given = make(tmp_path, **slow), 1
    for _ in range(given):
        made.read(10)
    yield made
    made.close()


def test_every_kind_of_camera_is_under_this_contract():
    assert set(plugins.kinds("cameras")) == {"opencv", "picamera2", "replay", "simulator"}


def test_seq_and_time_rise(any_camera):
    before_ns = time.monotonic_ns()
    frames = [any_camera.read(10) for _ in range(COUNT)]
    assert [frame.seq for frame in frames] == list(range(COUNT))
    times = [before_ns, *(frame.captured_ns for frame in frames), time.monotonic_ns()]
    assert times == sorted(set(times))


def test_frames_are_bgr_and_whole(camera):
    for k in range(COUNT):
        image = camera.read(10).image
        assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        assert np.abs(image[HEIGHT // 2, WIDTH // 2].astype(int) - [10 * k, 255 - 10 * k, 100]).max() <= 4


def test_a_frame_keeps_its_picture_while_others_are_read(camera):
    frames = [camera.read(10) for _ in range(COUNT)]
    shades = [int(frame.image[0, 0, 0]) for frame in frames]
    assert shades == sorted(set(shades))


def test_nobody_can_write_on_a_frame(any_camera):
    with pytest.raises(ValueError, match="read-only"):
        any_camera.read(10).image[0] = 0


@pytest.mark.parametrize("make", [replay_folder, replay_video, opencv_file])
def test_a_finite_source_ends_and_stays_at_its_end(make, tmp_path):
    camera = make(tmp_path)
    for _ in range(COUNT):
        camera.read(10)
    for _ in range(2):
        with pytest.raises(EndOfStreamError):
            camera.read(10)
    camera.close()


def test_seq_goes_on_when_a_source_loops(looping):
    frames = [looping.read(10) for _ in range(2 * COUNT + 1)]
    assert [frame.seq for frame in frames] == list(range(2 * COUNT + 1))
    assert frames[0].source == frames[COUNT].source == frames[2 * COUNT].source


def test_a_source_that_stalls_raises_on_time(stalled):
    started_s = time.monotonic()
    with pytest.raises(FrameTimeoutError):
        stalled.read(0.3)
    assert 0.25 < time.monotonic() - started_s < 10


def test_closing_ends_a_read_that_waits(stalled):
    errors, began = [], threading.Event()

    def read():
        began.set()
        try:
            stalled.read(FOREVER_S)
        except CameraLostError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    began.wait()
    stalled.close()
    thread.join(20)
    assert len(errors) == 1


def test_closing_twice_does_nothing(any_camera):
    any_camera.close()
    any_camera.close()


def test_a_closed_camera_is_lost(any_camera):
    any_camera.close()
    with pytest.raises(CameraLostError, match="closed"):
        any_camera.read(1)


@pytest.mark.parametrize(
    ("kind", "source"), [(replay, "nowhere"), (opencv, "nowhere.mp4"), (opencv, "/dev/video63"), (opencv, 63)]
)
def test_a_source_that_is_not_there_is_lost_and_named(kind, source):
    with pytest.raises(CameraLostError, match=r"there is no .*(nowhere|/dev/video63)"):
        kind.create(kind.Config(source=source))
