import time
from contextlib import contextmanager

import cv2
import pytest
from pydantic import ValidationError

from edge_agent.cameras.opencv import Config, create, verify
from edge_agent.cameras.opencv.gstreamer import with_sink
from edge_agent.errors import CameraLostError, FrameTimeoutError, UnavailableError

HAS_GSTREAMER = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)
READS_PIPELINES = HAS_GSTREAMER and tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 7)
needs_gstreamer = pytest.mark.skipif(
    not READS_PIPELINES, reason=f"OpenCV {cv2.__version__} has no GStreamer, or one without timeouts (before 4.7)"
)
TEST_SOURCE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48,framerate=30/1"
CSI = (
    "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720 ! nvvidconv ! "
    "video/x-raw,format=BGRx ! appsink"
)


@contextmanager
def opened(pipeline, **options):
    camera = create(Config(source=pipeline, **options))
    try:
        yield camera
    finally:
        camera.close()


@pytest.mark.skipif(READS_PIPELINES, reason="this OpenCV reads pipelines")
@pytest.mark.parametrize("look", [create, verify])
def test_without_gstreamer_a_pipeline_is_refused_with_what_to_do(look):
    with pytest.raises(UnavailableError, match=r"built without GStreamer.*JetPack 6 has it|4\.7 or newer is needed"):
        look(Config(source=CSI))


def test_a_pipeline_is_known_by_its_marks_and_named_by_its_elements():
    config = Config(source=CSI)
    assert config.medium == "pipeline"
    assert config.path == CSI
    assert config.label == "the pipeline nvarguscamerasrc ! nvvidconv ! appsink"


def test_a_password_goes_into_a_pipeline_in_its_place_and_does_not_show():
    source = "rtspsrc location=rtsp://10.0.0.5/a user-id={username} user-pw={password} ! decodebin ! appsink"
    config = Config(source=source, username="operator", password_file="password")  # noqa: S106 - the name of a file
    assert config.label == "the pipeline rtspsrc ! decodebin ! appsink"
    with pytest.raises(ValidationError, match="has no place for the password"):
        Config(source=CSI, username="operator", password_file="password")  # noqa: S106 - the name of a file


@pytest.mark.parametrize(
    ("pipeline", "ended"),
    [
        ("a ! b", "a ! b ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"),
        ("a ! appsink", "a ! appsink drop=true max-buffers=1 sync=false"),
        ("a ! appsink sync=true drop=true ", "a ! appsink sync=true drop=true max-buffers=1"),
        ("tee name=t ! appsink t. ! fakesink", "tee name=t ! appsink t. ! fakesink"),
    ],
)
def test_a_pipeline_ends_with_the_newest_picture(pipeline, ended):
    assert with_sink(pipeline) == ended


@needs_gstreamer
@pytest.mark.parametrize("end", ["", ",format=BGRx ! appsink", ",format=GRAY8 ! appsink"])
def test_pictures_come_as_bgr(end):
    with opened(TEST_SOURCE + end, timeout_s=10) as camera:
        frames = [camera.read(10) for _ in range(5)]
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert [frame.seq for frame in frames] == list(range(5))
    times = [frame.captured_ns for frame in frames]
    assert times == sorted(set(times))


@needs_gstreamer
def test_a_slow_reader_gets_the_newest_picture():
    with opened(f"{TEST_SOURCE} ! identity", timeout_s=10) as camera:
        camera.read(10)
        time.sleep(1)
        camera.read(10)
        started_s = time.monotonic()
        for _ in range(3):
            camera.read(10)
    assert time.monotonic() - started_s > 0.03  # nothing was waiting but the one


@needs_gstreamer
@pytest.mark.parametrize("form", ["NV12", "YUY2"])
def test_raw_planes_do_not_pass_as_grey_pictures(form):
    with (
        opened(f"{TEST_SOURCE},format={form} ! appsink", timeout_s=10) as camera,
        pytest.raises(CameraLostError, match="gives no BGR pictures: end it with `videoconvert"),
    ):
        camera.read(10)


@needs_gstreamer
def test_a_pipeline_that_ends_is_lost():
    with opened("videotestsrc num-buffers=3 is-live=true ! identity", timeout_s=10) as camera:
        for _ in range(3):
            camera.read(10)
        with pytest.raises(CameraLostError, match="stopped giving pictures") as caught:
            camera.read(10)
    assert not isinstance(caught.value, FrameTimeoutError)


@needs_gstreamer
def test_a_pipeline_that_stalls_is_lost_in_time():
    with opened("videotestsrc is-live=true ! video/x-raw,framerate=1/30", timeout_s=1) as camera:
        camera.read(1)
        started_s = time.monotonic()
        with pytest.raises(FrameTimeoutError, match="gave no picture for 1 s"):
            camera.read(1)
    assert time.monotonic() - started_s < 20


@needs_gstreamer
def test_a_pipeline_that_does_not_run_is_told():
    with pytest.raises(CameraLostError, match=r"filesrc.* does not start: .*gst-launch-1\.0 -v"):
        create(Config(source="filesrc location=/nowhere/at-all ! jpegdec"))


@needs_gstreamer
@pytest.mark.parametrize(
    ("pipeline", "complaint"),
    [("nosuchelement ! videoconvert", 'no element "nosuchelement"'), ("videotestsrc ! audioconvert", "could not link")],
)
def test_a_pipeline_that_cannot_be_made_is_told_in_the_words_of_gstreamer(pipeline, complaint, capfd):
    with pytest.raises(CameraLostError, match=f"cannot be made: .*{complaint}"):
        create(Config(source=pipeline))
    assert capfd.readouterr() == ("", "")
