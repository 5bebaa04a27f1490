import gc
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.cameras import picamera2
from edge_agent.cameras.picamera2 import Config
from edge_agent.cameras.picamera2.device import to_monotonic
from edge_agent.cameras.picamera2.modes import choose_mode, whole_modes
from edge_agent.errors import CameraLostError, FrameTimeoutError, UnavailableError
from tests.cameras.picamera2s import FOLDER, standing_in
from tests.fixtures import REPO

BUFFERS = 6
IMX219 = [
    {"size": (640, 480), "bit_depth": 10, "fps": 206.65, "crop_limits": (1000, 752, 1280, 960)},
    {"size": (1640, 1232), "bit_depth": 10, "fps": 41.85, "crop_limits": (0, 0, 3280, 2464)},
    {"size": (1920, 1080), "bit_depth": 10, "fps": 47.57, "crop_limits": (680, 692, 1920, 1080)},
    {"size": (3280, 2464), "bit_depth": 8, "fps": 21.19, "crop_limits": (0, 0, 3280, 2464)},
    {"size": (3280, 2464), "bit_depth": 10, "fps": 21.19, "crop_limits": (0, 0, 3280, 2464)},
]


@pytest.fixture
def library():
    with standing_in() as stand_in:
        yield stand_in


def opened(**options):
    return picamera2.create(Config(**{"width": 64, "height": 48} | options))


def files_open():
    gc.collect()  # what other tests have left behind goes now, and not in between
    return len(list(Path("/proc/self/fd").iterdir()))


def is_lent(camera):
    """How many of its buffers the camera does not have."""
    return sum(request.used for request in camera._camera._requests)


# Buffers


def test_pictures_are_the_cameras_own_memory_in_bgr_without_the_padding(library):
    camera = opened(width=50)
    image = camera.read(5).image
    assert (image.shape, image.strides, image.dtype) == ((48, 50, 3), (192, 3, 1), np.uint8)
    assert (image == (0, 255, 100)).all()
    memory = np.frombuffer(next(r for r in camera._camera._requests if r.used).memory, np.uint8)
    assert np.shares_memory(image, memory)


def test_a_picture_that_is_let_go_gives_its_buffer_back(library):
    library.RIG.free_running = True
    camera = opened(fps=100)
    seqs = [camera.read(5).seq for _ in range(10 * BUFFERS)]
    assert seqs == sorted(set(seqs))
    assert library.RIG.starved == 0
    assert is_lent(camera) <= 3


def test_the_smallest_view_keeps_the_buffer_and_its_picture(library):
    camera = opened()
    pixel = camera.read(5).image[7:8, 3:4]
    for _ in range(3 * BUFFERS):
        camera.read(5)
    assert pixel.tolist() == [[[0, 255, 100]]]
    del pixel
    camera.read(5)
    assert is_lent(camera) == 1


def test_a_line_that_holds_every_buffer_starves_the_camera_until_it_lets_one_go(library):
    camera = opened()
    held = [camera.read(5) for _ in range(BUFFERS)]
    with pytest.raises(FrameTimeoutError):
        camera.read(0.2)
    assert library.RIG.starved > 0
    held.pop(2)
    assert camera.read(5).seq == BUFFERS


def test_a_buffer_that_comes_back_while_a_read_waits_ends_the_wait(library):
    camera = opened()
    held = [camera.read(5) for _ in range(BUFFERS)]
    timer = threading.Timer(0.1, held.clear)
    timer.start()
    assert camera.read(20).seq == BUFFERS
    timer.join()


def test_a_picture_that_dies_in_a_reference_cycle_comes_back_too(library):
    camera = opened()
    for _ in range(2 * BUFFERS):
        cycle = [camera.read(5)]
        cycle.append(cycle)
        del cycle
        gc.collect()
    assert library.RIG.starved == 0


def test_frames_that_are_held_when_the_camera_closes_stay_valid(library):
    camera = opened()
    frames = [camera.read(5) for _ in range(3)]
    camera.close()
    del camera
    gc.collect()
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20]
    del frames


def test_a_format_that_was_not_asked_for_loses_the_camera(library):
    library.RIG.format = "XBGR8888"
    camera = opened()
    with pytest.raises(CameraLostError, match="gives XBGR8888 where RGB888 was asked for"):
        camera.read(5)
    assert is_lent(camera) == 0


# Time and order


def test_a_frame_carries_the_time_of_the_sensor(library):
    camera = opened()
    before_ns = time.monotonic_ns()
    frame = camera.read(5)
    assert before_ns - 1_000 <= frame.captured_ns <= time.monotonic_ns() - 1_000


@pytest.mark.parametrize(
    ("sensor_ns", "boot_ns", "expected_ns"),
    [
        (95, 100, 95),  # never suspended: the clocks are one
        (95, 5100, 95),  # suspended for 5000, stamped with CLOCK_MONOTONIC
        (5095, 5100, 95),  # the same, stamped with CLOCK_BOOTTIME
        (9999, 5100, 100),  # nonsense: not later than now
    ],
)
def test_time_stamps_of_either_clock_become_monotonic(sensor_ns, boot_ns, expected_ns):
    assert to_monotonic(sensor_ns, 100, boot_ns) == expected_ns


def test_times_rise_whatever_the_sensor_says(library):
    library.RIG.clock_lead_ns = 10**15
    camera = opened()
    times = [camera.read(5).captured_ns for _ in range(4)]
    assert times == sorted(set(times))


def test_the_newest_picture_is_given_and_those_missed_leave_a_gap(library):
    library.RIG.free_running = True
    camera = opened(fps=100)
    first = camera.read(5)
    time.sleep(1)
    asked_ns = time.monotonic_ns()
    second = camera.read(5)
    assert second.seq - first.seq > 5
    assert asked_ns - second.captured_ns < 0.8e9


# Trouble


def test_a_read_that_was_given_up_costs_no_picture(library):
    library.RIG.frames_left = 0
    camera = opened()
    for _ in range(3):
        with pytest.raises(FrameTimeoutError, match=r"camera imx708 gave no picture for 0.06 s: is its cable firm"):
            camera.read(0.06)
    library.RIG.frames_left = 2
    camera._camera._prod()
    assert [camera.read(5).seq for _ in range(2)] == [0, 1]
    assert len(camera._camera._job_list) == 0


def test_a_camera_that_fell_silent_closes_all_the_same(library):
    library.RIG.frames_left = 0
    camera = opened()
    with pytest.raises(FrameTimeoutError):
        camera.read(0.06)
    camera.close()
    assert not camera._camera.is_open


def test_a_camera_in_use_is_lost_with_the_reason_and_leaves_no_file_open(library):
    library.RIG.busy = True
    with pytest.raises(CameraLostError, match=r"camera imx708 does not open .*resource busy.*`fuser -v /dev/media"):
        opened()
    before = files_open()
    for _ in range(20):
        with pytest.raises(CameraLostError):
            opened()
    assert files_open() <= before
    library.RIG.busy = False
    opened().close()


def test_a_camera_that_cannot_be_configured_is_closed_again(library):
    library.RIG.modes = [{"format": "MJPEG"}]
    with pytest.raises(CameraLostError, match="no camera of the Pi's own connector: use kind 'opencv'"):
        opened()
    assert [camera.is_open for camera in library.RIG.opened] == [False]


@pytest.mark.parametrize("wanted", [1, "imx477"])
def test_a_camera_that_is_not_there_is_named_with_those_that_are(library, wanted):
    with pytest.raises(CameraLostError, match=rf"there is no camera {wanted!r} \(there is 0 \(imx708\)\)"):
        opened(camera=wanted)


def test_a_pi_without_a_camera_says_so(library):
    library.RIG.cameras = []
    with pytest.raises(CameraLostError, match=r"there is no camera 0 \(there is none at all\)"):
        opened()


def test_cameras_are_told_apart_by_number_model_and_id(library):
    library.RIG.cameras = [
        {"Model": "imx708", "Id": "/base/i2c@88000/imx708@1a", "Num": 1},
        {"Model": "imx708", "Id": "/base/i2c@80000/imx708@1a", "Num": 0},
        {"Model": "imx219", "Id": "/base/i2c@70000/imx219@10", "Num": 2},
    ]
    assert opened(camera=1)._camera.camera_num == 0
    assert opened(camera="imx219")._camera.camera_num == 2
    assert opened(camera="/base/i2c@88000/imx708@1a")._camera.camera_num == 1
    with pytest.raises(CameraLostError, match="there are several cameras 'imx708'"):
        opened(camera="imx708")


def test_where_picamera2_is_missing_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(UnavailableError, match=r"apt install python3-picamera2.*--system-site-packages"):
        opened()
    with pytest.raises(UnavailableError, match="apt install python3-picamera2"):
        picamera2.verify(Config())


def test_a_picamera2_that_does_not_load_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError, match=r"does not load: numpy.dtype size changed.*pip install 'numpy<2'"):
        opened()


def test_an_old_picamera2_is_refused(tmp_path, monkeypatch):
    (tmp_path / "picamera2.py").write_text("class Picamera2: pass")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(UnavailableError, match="too old"):
            opened()
    finally:
        del sys.modules["picamera2"]


def test_its_chatter_stays_out_of_the_log(library):
    opened()
    assert not logging.getLogger("picamera2.picamera2").isEnabledFor(logging.ERROR)
    assert os.environ["LIBCAMERA_LOG_LEVELS"] == "*:ERROR"


def test_importing_the_module_does_not_import_the_library():
    code = "import sys, edge_agent.cameras.picamera2; sys.exit('picamera2' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(FOLDER)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=REPO)


# Settings


def configured(camera):
    return camera._camera.camera_configuration()


def test_no_more_is_asked_of_the_camera_than_was_configured(library):
    assert configured(opened(fps=25))["controls"] == {
        "FrameDurationLimits": (40_000, 40_000),
        "AfMode": 2,
        "NoiseReductionMode": 1,
    }


def test_exposure_gain_and_focus_are_asked_in_the_cameras_units(library):
    camera = opened(fps=50, exposure=4.5, gain=2.0, focus=5.0)
    asked = configured(camera)["controls"]
    assert asked["FrameDurationLimits"] == (20_000, 20_000)
    assert (asked["ExposureTime"], asked["AnalogueGain"]) == (4500, 2.0)
    assert (asked["AfMode"], asked["LensPosition"]) == (0, 5.0)
    assert camera.given == {"width": 64, "height": 48, "fps": 50.0, "exposure": 4.5, "gain": 2.0, "focus": 5.0}
    assert camera.refused == {}


def test_a_lens_that_cannot_move_is_left_alone_and_told_of(library):
    del library.RIG.controls["AfMode"], library.RIG.controls["LensPosition"]
    camera = opened(focus=5.0)
    assert {"AfMode", "LensPosition"}.isdisjoint(configured(camera)["controls"])
    assert "focus" not in camera.given
    assert camera.refused == {"focus": (5.0, None)}
    assert opened().refused == {}


def test_what_the_camera_cannot_do_is_told(library):
    camera = opened(width=65, fps=100, exposure=500, gain=40)
    assert camera.refused == {
        "width": (65, 64),
        "fps": (100.0, 56.029),
        "exposure": (500.0, 17.848),
        "gain": (40.0, 16.0),
    }
    assert camera.given["focus"] == "auto"


def test_without_a_size_the_camera_gives_what_it_is_told_for_its_sensor(library):
    asked = []
    camera = picamera2.create(Config(), lambda sensor: asked.append(sensor) or (416, 235))
    assert asked == [(4608, 2592)]
    assert camera.read(5).size == (416, 234)
    assert (camera.given["width"], camera.given["height"]) == (416, 234)
    assert camera.refused == {}


def test_the_whole_sensor_is_seen_in_the_smallest_mode_that_is_large_and_fast_enough(library):
    assert configured(opened())["sensor"] == {"output_size": (2304, 1296), "bit_depth": 10}
    assert configured(opened(width=4000, height=2000, fps=10))["sensor"]["output_size"] == (4608, 2592)


@pytest.mark.parametrize(
    ("size", "fps", "expected"),
    [
        ((640, 480), 30, (1640, 1232)),
        ((1640, 1232), 30, (1640, 1232)),
        ((2000, 1500), 15, (3280, 2464)),
        ((2000, 1500), 30, (1640, 1232)),
        ((640, 480), 200, (1640, 1232)),
    ],
)
def test_speed_goes_before_pixels_and_the_view_before_both(size, fps, expected):
    mode = choose_mode(whole_modes(IMX219), size, fps)
    assert (mode["size"], mode["bit_depth"]) == (expected, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 640}, "width and height go together"),
        ({"exposure": "bright"}, "exposure"),
        ({"exposure": 0}, "exposure"),
        ({"gain": 0.5}, "gain"),
        ({"focus": -1}, "focus"),
        ({"camera": -1}, "camera"),
    ],
)
def test_settings_that_no_camera_has_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Config(**options)


# On the device

ON_A_PI = Path("/proc/device-tree/model").is_file() and "Raspberry Pi" in Path("/proc/device-tree/model").read_text()


@pytest.mark.skipif(not ON_A_PI, reason="this is no Raspberry Pi")
def test_a_real_camera_gives_pictures_at_its_rate_and_in_time():
    pytest.importorskip("picamera2")
    try:
        camera = picamera2.create(Config(fps=30), lambda _: (640, 480))
    except CameraLostError as error:
        pytest.skip(str(error))
    frames = []
    for _ in range(60):
        frame = camera.read(5)
        frames.append((frame.seq, frame.captured_ns, time.monotonic_ns() - frame.captured_ns))
        assert frame.image.mean() > 0
    camera.close()
    seqs, times_ns, ages_ns = zip(*frames, strict=True)
    assert seqs[-1] - seqs[0] < 65
    assert 28 < 59e9 / (times_ns[-1] - times_ns[0]) * (seqs[-1] - seqs[0]) / 59 < 32
    assert max(ages_ns[10:]) < 200e6


def test_copies_can_all_be_kept_and_the_camera_has_its_buffers(library):
    camera = picamera2.create(Config(width=64, height=48), copies=True)
    held = [camera.read(5) for _ in range(3 * BUFFERS)]
    camera.read(5)
    assert is_lent(camera) <= 3
    assert not held[0].image.flags.writeable
    camera.close()
