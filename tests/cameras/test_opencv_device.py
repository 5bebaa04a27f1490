"""V4L2 devices, without one: OpenCV's own V4L2 code talks to tests/cameras/v4l2/fake_v4l2.c in place of the kernel."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.backends import recorded
from edge_agent.cameras.opencv import Config, create
from edge_agent.cameras.opencv.clock import Clock
from edge_agent.cameras.opencv.controls import refusals
from edge_agent.cameras.opencv.pixels import decode_jpeg, decoder, halve_jpeg, jpeg_size
from edge_agent.core.datatypes import TensorSpec
from edge_agent.errors import BadFrameError
from edge_agent.runtime.agent import STUCK_S
from tests.cameras.media import HEIGHT, WIDTH, picture
from tests.fixtures import REPO
from tests.system.agents import config_text

DEVICE = "/dev/full"  # which the fake stands in for
SIZE = {"width": WIDTH, "height": HEIGHT}
SECOND_NS = 1_000_000_000


def jpeg(image, *options):
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


def without_huffman_tables(data):
    """As UVC cameras send them: everybody knows the tables of the standard."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept += b"" if data[at + 1] == 0xC4 else data[at:end]
        at = end
    return kept + data[at:]


def yuyv(luma):
    return np.tile(np.uint8([luma, 128]), (HEIGHT, WIDTH, 1)).tobytes()


def raw(fourcc, bgr):
    """A picture of one colour as a driver packs it (docs.kernel.org, userspace-api/media/v4l/pixfmt)."""
    image = np.full((HEIGHT, WIDTH, 3), bgr, np.uint8)
    planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    y, u, v = planar[0], planar[WIDTH * HEIGHT], planar[-1]
    area = WIDTH * HEIGHT
    return bytes(
        {
            "YUYV": np.tile(np.uint8([y, u, y, v]), area // 2),
            "UYVY": np.tile(np.uint8([u, y, v, y]), area // 2),
            "NV12": np.concatenate([np.full(area, y), np.tile(np.uint8([u, v]), area // 4)]),
            "NV21": np.concatenate([np.full(area, y), np.tile(np.uint8([v, u]), area // 4)]),
            "YU12": np.concatenate([np.full(area, y), np.full(area // 4, u), np.full(area // 4, v)]),
            "YV12": np.concatenate([np.full(area, y), np.full(area // 4, v), np.full(area // 4, u)]),
            "GREY": np.full(area, y),
            "BGR3": image,
            "RGB3": image[:, :, ::-1],
        }[fourcc]
        .astype(np.uint8)
        .tobytes()
    )


def run_python(words, env):
    """What it writes; what it complains about becomes the failure's text."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *words], env=env, cwd=REPO, text=True, **pipes) as process:
        out, complaints = process.communicate(timeout=50)
    assert process.returncode == 0, complaints
    return out


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The fake, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the pretended V4L2 driver needs a C compiler, and Linux")
    made = tmp_path_factory.mktemp("v4l2") / "fake_v4l2.so"
    source = REPO / "tests" / "cameras" / "v4l2" / "fake_v4l2.c"
    words = [compiler, "-Wall", "-O1", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl", "-lpthread"]
    subprocess.run(words, check=True)
    return made


@pytest.fixture
def environment(library, tmp_path):
    """The environment of a process that has the pretended device, `environment(pictures, FPS=25)`."""

    def make(pictures=None, **faults):
        for k, data in enumerate(pictures or [yuyv(100)]):
            (tmp_path / f"{k}.raw").write_bytes(data)
        own = {"PICTURES": tmp_path / "%d.raw", "COUNT": len(pictures or [0]), **faults}
        return os.environ | {"LD_PRELOAD": str(library)} | {f"FAKE_V4L2_{k}": str(v) for k, v in own.items()}

    return make


@pytest.fixture
def look(environment):
    """What a process sees that reads the pretended device: `look({"fps": 60}, pictures, count=3, FPS=25)`."""

    def run(asked=None, pictures=None, *, count=3, **faults):
        config = {"source": DEVICE, "fps": 50, **SIZE, **(asked or {})}
        words = ["-m", "tests.cameras.v4l2.reader", json.dumps(config), str(count)]
        ran = run_python(words, environment(pictures, **faults))
        return SimpleNamespace(**{"given": {}, "refused": {}, "error": None} | json.loads(ran))

    return run


# -- what it gives ----------------------------------------------------------------------------------------------------


def test_frames_come_in_order_with_pictures_of_their_own(look):
    seen = look({"fps": 10}, [yuyv(luma) for luma in range(20, 230, 20)], count=4)
    shades = [frame["pixel"][0] for frame in seen.frames]
    assert shades == sorted(set(shades))
    assert [frame["seq"] for frame in seen.frames] == [0, 1, 2, 3]
    assert not any(frame["writeable"] for frame in seen.frames)


@pytest.mark.parametrize("fourcc", ["YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12", "BGR3", "RGB3"])
def test_the_colours_of_every_format_are_right(look, fourcc):
    bgr = [40, 90, 200]
    seen = look({"format": fourcc}, [raw(fourcc, bgr)], count=1, FORMATS=fourcc)
    assert seen.given["format"] == fourcc
    assert seen.frames[0]["shape"] == [HEIGHT, WIDTH, 3]
    assert np.abs(np.subtract(seen.frames[0]["pixel"], bgr)).max() <= 4


def test_grey_is_grey(look):
    seen = look({"format": "GREY"}, [bytes([77]) * (WIDTH * HEIGHT)], count=1, FORMATS="GREY")
    assert seen.frames[0]["pixel"] == [77, 77, 77]


def test_a_format_that_only_opencv_knows_is_left_to_it(look):
    seen = look(pictures=[bytes([20, 30, 40, 255]) * (WIDTH * HEIGHT)], count=1, FORMATS="XR24")
    assert (seen.given["format"], seen.frames[0]["pixel"]) == ("XR24", [20, 30, 40])


def test_what_the_driver_gives_is_read_back(look):
    seen = look({"exposure": 12.5, "gain": 40, "focus": 30, "format": "MJPG"}, [jpeg(picture(0))], FORMATS="YUYV MJPG")
    given = {**SIZE, "fps": 50, "format": "MJPG", "exposure": 12.5, "gain": 40, "focus": 30, "clock": "driver"}
    assert (seen.given, seen.refused) == (given, {})


def test_automatics_are_asked_for_and_read_back(look):
    seen = look({"exposure": "auto", "focus": "auto"})
    assert (seen.given["exposure"], seen.given["focus"], seen.refused) == ("auto", "auto", {})


def test_what_is_not_set_is_left_alone(look):
    seen = look()
    assert (seen.given["exposure"], seen.given["gain"], seen.given["focus"]) == ("auto", 0, "auto")


def test_another_size_and_rate_are_taken_as_they_come_and_told(look):
    seen = look({"width": 1280, "height": 720}, SIZE=f"{WIDTH}x{HEIGHT}", FPS=25)
    assert seen.refused == {"width": [1280, WIDTH], "height": [720, HEIGHT], "fps": [50, 25]}
    assert {tuple(frame["size"]) for frame in seen.frames} == {(WIDTH, HEIGHT)}


def test_a_setting_that_the_device_does_not_have_is_told(look):
    seen = look({"exposure": 5, "gain": 3, "focus": "auto"}, WITHOUT="exposure gain focus")
    assert seen.refused == {"exposure": [5, None], "gain": [3, None], "focus": ["auto", None]}
    assert len(seen.frames) == 3


def test_a_value_beyond_what_the_device_can_is_told(look):
    assert look({"gain": 500}).refused == {"gain": [500, 100]}


def test_a_format_that_the_device_does_not_have_is_told(look):
    assert look({"format": "NV12"}, FORMATS="YUYV").refused == {"format": ["NV12", "YUYV"]}


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_frame_is_as_old_as_the_driver_says(look):
    frames = look(count=8).frames
    assert min(frame["age_ms"] for frame in frames) >= 20  # stamped when it began to come in, 50 a second
    assert sorted((frame["age_ms"] for frame in frames), reverse=True) == [frame["age_ms"] for frame in frames]


@pytest.mark.parametrize("clock", ["realtime", "zero", "stuck", "ahead"])
def test_a_driver_with_another_clock_is_not_believed(look, clock):
    seen = look(count=3, CLOCK=clock)
    assert seen.given["clock"] == "arrival"
    assert len(seen.frames) == 3


def test_a_stamp_is_kept_to_the_microsecond():
    assert Clock().captured_ns(123_456_789_000, 123_456_800_000) == 123_456_789_000


@pytest.mark.parametrize(
    "stamps_ns", [[5, 5], [5, 4], [5, 7 + 1]], ids=["it stands still", "it goes back", "it runs ahead"]
)
def test_a_clock_that_goes_wrong_is_not_believed_any_more(stamps_ns):
    clock = Clock()
    arrived_ns = [6, 7]
    assert [clock.captured_ns(*pair) for pair in zip(stamps_ns, arrived_ns, strict=True)] == [5, 7]
    assert clock.source == "arrival"
    assert clock.captured_ns(8, 9) == 9


def test_pictures_that_waited_in_the_driver_are_old_and_not_new():
    clock = Clock()
    clock.captured_ns(SECOND_NS, SECOND_NS + 1)
    waited = [clock.captured_ns(SECOND_NS + k, 20 * SECOND_NS) for k in range(2, 6)]
    assert waited == [SECOND_NS + k for k in range(2, 6)]
    assert clock.source == "driver"


def test_a_clock_that_falls_behind_is_not_believed_any_more():
    clock = Clock()
    captured_ns = [clock.captured_ns(k * SECOND_NS // 2, k * SECOND_NS) for k in range(1, 20)]
    assert clock.source == "arrival"
    assert captured_ns[-1] == 19 * SECOND_NS
    assert captured_ns == sorted(set(captured_ns))


def test_a_first_stamp_from_long_ago_is_not_believed():
    assert Clock().captured_ns(SECOND_NS, 10 * SECOND_NS) == 10 * SECOND_NS


# -- compressed pictures ----------------------------------------------------------------------------------------------


def test_jpegs_are_decoded_with_zeros_behind_them_and_without_tables(look):
    pictures = [without_huffman_tables(jpeg(picture(shade))) for shade in range(0, 250, 25)]
    frames = look({"format": "MJPG", "fps": 10}, pictures, count=3, FORMATS="MJPG", PAD=500).frames
    shades = [frame["pixel"][0] for frame in frames]
    assert all(min(shade % 25, -shade % 25) <= 4 for shade in shades)
    assert shades == sorted(set(shades))
    assert not any(frame["writeable"] for frame in frames)


def test_a_jpeg_that_breaks_off_or_is_not_there_is_a_bad_frame_and_others_are_good(look):
    whole = jpeg(picture(60))
    frames = look({"format": "MJPG"}, [whole, whole[: len(whole) - 40], b""], count=12, FORMATS="MJPG").frames
    told = " ".join(frame.get("bad", "good") for frame in frames)
    assert all(words in told for words in ("breaks off", "empty", "good"))
    assert {tuple(frame["size"]) for frame in frames} == {(WIDTH, HEIGHT)}


def test_a_jpeg_of_another_size_is_a_bad_frame(look):
    other = jpeg(np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    frames = look({"format": "MJPG"}, [other], count=1, FORMATS="MJPG").frames
    assert "32x24 where 64x48 is agreed" in frames[0]["bad"]


@pytest.mark.parametrize(("fourcc", "data"), [("MJPG", jpeg(picture(0))), ("YUYV", yuyv(0))])
def test_a_picture_is_decoded_only_when_it_is_asked_for(environment, fourcc, data):
    code = "from edge_agent.cameras.opencv import *; camera = create(Config(source='/dev/full')); "
    code += "print(type(camera.read(2).picture).__name__); camera.close()"
    assert run_python(["-c", code], environment([data], FORMATS=fourcc)) == "Later\n"


def array(data):
    return np.frombuffer(data, np.uint8).reshape(1, -1)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"", "0 bytes that are no JPEG"),
        (lambda data: bytes(200), "no JPEG"),
        (lambda data: data[:20], "no JPEG"),
        (lambda data: data[:-2] + bytes(100), "breaks off"),
        (lambda data: data[: data.index(b"\xff\xda")] + b"\xff\xda\xff\xd9", "cannot read"),
        (lambda data: data.replace(b"\x00\x30\x00\x40", b"\xff\xff\xff\xff"), "65535x65535"),
    ],
    ids=["empty", "zeros", "cut in the header", "cut in the picture", "no picture", "a size of 13 GB"],
)
def test_a_damaged_jpeg_is_a_bad_frame(damage, says):
    with pytest.raises(BadFrameError, match=says):
        decode_jpeg(array(damage(jpeg(picture(60)))), size=(WIDTH, HEIGHT))


def test_a_jpeg_is_not_turned_by_what_it_says_about_itself():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: by a quarter
    data = jpeg(picture(60))
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert decode_jpeg(array(data), size=(WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_that_breaks_off_behind_its_thumbnail_is_a_bad_frame():
    """The thumbnail is a JPEG of its own, with a scan and an end."""
    data, small = jpeg(picture(60)), jpeg(np.zeros((8, 8, 3), np.uint8))
    data = data[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]
    assert decode_jpeg(array(data), size=(WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(BadFrameError, match="breaks off"):
        decode_jpeg(array(data[:-2]), size=(WIDTH, HEIGHT))


@pytest.mark.parametrize("length", [0, 1, 4094, 4095, 4096, 4097, 20_000])
def test_the_end_of_a_jpeg_is_found_whatever_stands_behind(length):
    assert decode_jpeg(array(jpeg(picture(60)) + bytes(length)), size=(WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda"])
def test_bytes_that_fill_up_before_a_marker_are_nothing_wrong(marker):
    data = jpeg(picture(60)).replace(marker, b"\xff\xff\xff" + marker, 1)
    assert decode_jpeg(array(data), size=(WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH, 3)


# -- half of them -----------------------------------------------------------------------------------------------------


def test_half_of_a_jpeg_shows_the_same_and_its_exif_does_not_turn_it():
    row = np.linspace(0, 250, WIDTH, dtype=np.uint8)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = jpeg(np.repeat(np.repeat(row[None, :, None], HEIGHT, 0), 3, 2))
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    half = halve_jpeg(array(data), size=(WIDTH, HEIGHT))
    assert half.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert not half.flags.writeable
    whole = decode_jpeg(array(data), size=(WIDTH, HEIGHT)).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    assert np.abs(half - whole).max() < 4


def test_half_of_a_broken_jpeg_is_a_bad_frame():
    with pytest.raises(BadFrameError, match="breaks off"):
        halve_jpeg(array(jpeg(picture(60))[:-2]), size=(WIDTH, HEIGHT))


@pytest.mark.parametrize(("format_", "halves", "shrunk"), [("MJPG", True, 2), ("MJPG", False, 1), ("YUYV", True, 1)])
def test_only_jpegs_are_halved_and_only_where_that_is_asked_for(format_, halves, shrunk):
    data = array(jpeg(picture(60)) if format_ == "MJPG" else yuyv(60))
    image, by = decoder(format_, (WIDTH, HEIGHT), halves=halves)(data).at_least((20, 20))
    assert (by, image.shape) == (shrunk, (HEIGHT // shrunk, WIDTH // shrunk, 3))


@pytest.mark.parametrize(
    ("fourcc", "data", "refused"),
    [("MJPG", jpeg(picture(0)), {}), ("YUYV", yuyv(0), {"reduced_decoding": [True, False]})],
)
def test_a_device_without_jpegs_says_that_nothing_is_reduced(look, fourcc, data, refused):
    assert look({"reduced_decoding": True}, [data], count=1, FORMATS=fourcc).refused == refused


# -- memory -----------------------------------------------------------------------------------------------------------

LARGE_WH = (640, 480)
TRACED = """
import sys, tracemalloc
from collections import deque
from edge_agent.cameras.opencv import Config, create
from edge_agent.runtime.view import View, ViewedCamera
camera = create(Config(source="/dev/full", width=640, height=480, fps=50))
camera = ViewedCamera(camera, View(int(sys.argv[1])))
held, peaks = deque(maxlen=3), []
tracemalloc.start()
for _ in range(12):
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    held.append(camera.read(2))
    held[-1].image
    peaks.append(tracemalloc.get_traced_memory()[1] - before)
print(max(peaks[-5:]))
"""


@pytest.mark.parametrize(
    ("fourcc", "rotation"),
    [*((fourcc, 0) for fourcc in ("YUYV", "NV12", "GREY", "BGR3", "XR24")), ("YUYV", 90)],
)
def test_frames_cost_no_large_memory_once_the_camera_runs(environment, fourcc, rotation):
    """Three are held all the while, as by the mailbox and by who looks at them."""
    area = LARGE_WH[0] * LARGE_WH[1]
    data = bytes(area * {"NV12": 3, "GREY": 2, "BGR3": 6, "XR24": 8}.get(fourcc, 4) // 2)
    env = environment([data], FORMATS=fourcc, SIZE="{}x{}".format(*LARGE_WH))
    assert int(run_python(["-c", TRACED, str(rotation)], env)) < 64 * 1024


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_the_size_of_a_jpeg_is_read_from_its_header(options):
    assert jpeg_size(jpeg(picture(60), *options)) == (WIDTH, HEIGHT)


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_device_that_is_unplugged_is_lost(look):
    seen = look(count=20, GONE=6)
    assert seen.error == "CameraLostError"
    assert 0 < len(seen.frames) <= 5
    assert "is its cable firm?" in seen.message


def test_a_device_that_freezes_times_out(look):
    seen = look(count=20, FREEZE=6)
    assert seen.error == "FrameTimeoutError"
    assert "no picture for 2 s" in seen.message


def test_a_device_that_gives_no_first_picture_times_out(look):
    seen = look(FREEZE=0)
    assert seen.error == "FrameTimeoutError"
    assert "no picture for 2 s" in seen.message


def test_a_device_that_another_program_has_is_lost_and_says_so(look):
    seen = look(BUSY=0)
    assert seen.error == "CameraLostError"
    assert f"another program may be using it (`fuser -v {DEVICE}` names it)" in seen.message


def test_closing_ends_a_read_that_waits_and_closing_twice_does_nothing(environment):
    code = """
import threading, time
from edge_agent.cameras.opencv import Config, create
from edge_agent.errors import CameraLostError
camera = create(Config(source="/dev/full"))
camera.read(2)
threading.Timer(0.5, camera.close).start()
for _ in range(2):
    try:
        while True:
            camera.read(40)
    except CameraLostError as error:
        print(error)
camera.close()
"""
    assert run_python(["-c", code], environment(FREEZE=3)) == f"{DEVICE} was closed\n" * 2


def test_no_picture_is_lost_while_another_is_worked_on(look):
    """The fake fills buffers without a pause, as a USB camera does: with one buffer every second picture is lost."""
    pictures = [yuyv(luma) for luma in range(20, 220, 10)]
    shades = [frame["pixel"][0] for frame in look(pictures=pictures, count=15).frames]
    steps = np.diff(shades)
    assert np.median(steps) <= 12


@pytest.mark.system
def test_the_watchdog_is_no_longer_fed_while_a_driver_hangs(environment, tmp_path):
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    metadata = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
    recorded.save(tmp_path / "m.npz", [image], [[np.zeros((1, 10, 6), np.float32)]], metadata)
    camera = f'[[cameras]]\nid = "top"\nkind = "opencv"\nsource = "{DEVICE}"\n[cameras.trigger]\nkind = "frame"\n'
    text = config_text(model=tmp_path / "m.npz", cameras=camera, port=1).partition("[mqtt]")[0] + "[stdout]\n"
    (tmp_path / "agent.toml").write_text(text)
    fed_s, said_s, end_s = 0.0, 0.0, time.monotonic() + STUCK_S + 60
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, (tmp_path / "log").open("w") as log:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(STUCK_S)
        env = environment(HANG=10) | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        words = [sys.executable, "-m", "edge_agent", "run", "--config", str(tmp_path / "agent.toml")]
        with subprocess.Popen(words, env=env, cwd=REPO, stdout=log, stderr=log) as agent:
            try:
                while said_s < end_s and not 0 < fed_s < said_s - 3:
                    said, said_s = systemd.recv(4096), time.monotonic()
                    fed_s = said_s if said == b"WATCHDOG=1" else fed_s
            finally:
                agent.kill()
    assert '"camera_open"' in (tmp_path / "log").read_text()
    assert 0 < fed_s < said_s - 3  # it goes on, and says so


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 640), ("fps", 30), ("format", "MJPG"), ("exposure", "auto"), ("gain", 1), ("focus", 0)],
)
@pytest.mark.parametrize(("source", "medium"), [("rtsp://10.0.0.5/main", "stream"), ("belt.mp4", "file")])
def test_only_devices_can_be_asked(key, value, source, medium):
    settings = SIZE if key == "width" else {key: value}
    with pytest.raises(ValidationError, match=f"{key}.*: only a device such as /dev/video0 can be asked; a {medium}"):
        Config(source=source, **settings)


@pytest.mark.parametrize(("source", "medium"), [("v4l2src ! appsink", "pipeline"), ("belt.mp4", "file")])
def test_what_opencv_decodes_cannot_be_reduced(source, medium):
    with pytest.raises(ValidationError, match=f"reduced_decoding: a {medium} is decoded as a whole"):
        Config(source=source, reduced_decoding=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "mjpg"},
        {"format": "H264"},
        {"exposure": 0},
        {"exposure": "manual"},
        {"gain": -1},
        {"focus": "far"},
    ],
)
def test_a_setting_that_no_device_understands_is_refused(wrong):
    with pytest.raises(ValidationError):
        Config(source=0, **wrong)


@pytest.mark.parametrize(
    ("asked", "given"),
    [({"fps": 29.97}, {"fps": 30.0}), ({"exposure": 8.33}, {"exposure": 8.3}), ({"gain": 3}, {"gain": 3})],
)
def test_what_is_only_rounded_is_not_refused(asked, given):
    assert refusals(Config(source=0, **asked), given) == {}


# -- the real thing ---------------------------------------------------------------------------------------------------


def test_vivid_or_loopback_gives_frames_with_its_own_clock():
    names = Path("/sys/class/video4linux").glob("video*/name")
    found = [
        path.parent.name for path in names if path.read_text().startswith(("vivid", "v4l2loopback", "Dummy video"))
    ]
    if not found:
        pytest.skip("the kernel has no vivid or v4l2loopback device (modprobe vivid)")
    camera = create(Config(source=f"/dev/{min(found)}", width=640, height=480))
    frames = [camera.read(5) for _ in range(5)]
    assert all(frame.image.shape == (*frame.size[::-1], 3) for frame in frames)
    assert camera.given["clock"] == "driver"
    camera.close()
