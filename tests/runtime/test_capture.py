import math
import queue
import shutil
import threading
import time

import pytest
from structlog.testing import capture_logs

from edge_agent.cameras import opencv, replay
from edge_agent.core.datatypes import Frame
from edge_agent.errors import CameraLostError, ConfigError, FrameTimeoutError
from edge_agent.runtime.capture import CameraBack, CameraLost, Capture
from edge_agent.runtime.mailbox import Mailroom
from tests.cameras.media import HEIGHT, WIDTH, picture, served, write_pictures

PATIENCE_S = 30


class Scripted:
    """A camera that plays a script: frames, or just their seq; errors are raised, functions called."""

    def __init__(self, script):
        self.script = iter(script)
        self.closed = 0

    def read(self, timeout_s):
        step = next(self.script, FrameTimeoutError("silent"))
        if callable(step):
            step = step()
        if isinstance(step, Exception):
            time.sleep(0.01 if isinstance(step, FrameTimeoutError) else 0)
            raise step
        return step if isinstance(step, Frame) else Frame(picture(0), step, time.monotonic_ns())

    def close(self):
        self.closed += 1


def opener(*cameras):
    """Opens one after the other; an error in their place is raised. The last one stays."""
    left = list(cameras)

    def open_():
        camera = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(camera, Exception):
            raise camera
        return camera

    return open_


def wait_for(condition):
    """Waits until the capture thread has got there."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


@pytest.fixture
def run():
    """Starts a capture, and stops it in the end: `capture, room = run(open_)`."""
    started = []

    def start(open_, *, lossless=True, **options):
        room = Mailroom()
        capture = Capture("top", open_, room.add(lossless=lossless), **options)
        started.append(capture)
        capture.start()
        return capture, room

    yield start
    for capture in started:
        assert capture.stop(PATIENCE_S)


def test_a_folder_is_played_to_its_end(run, tmp_path):
    config = replay.Config(source=write_pictures(tmp_path, 5))
    capture, room = run(lambda: replay.create(config))
    assert [room.take(PATIENCE_S).frame.source for _ in range(5)] == [f"{k}.png" for k in range(5)]
    wait_for(lambda: capture.condition == "finished")
    assert (capture.frames, capture.losses, capture.size) == (5, 0, (WIDTH, HEIGHT))
    assert "no more pictures" in capture.reason
    assert capture.failed is None


def test_a_folder_that_vanishes_and_returns_is_reported_lost_and_back(run, tmp_path):
    folder, away = write_pictures(tmp_path / "pictures", 5), tmp_path / "away"
    config = replay.Config(source=folder)
    capture, room = run(lambda: replay.create(config))
    last_seq = room.take(PATIENCE_S).frame.seq
    shutil.move(folder, away)
    while (taken := room.take(0.01)) is not None or capture.condition != "lost":
        last_seq = last_seq if taken is None else taken.frame.seq
    lost = capture.notices.get(timeout=PATIENCE_S)
    assert (lost.camera, capture.losses) == ("top", 1)
    assert "has gone" in lost.reason
    shutil.move(away, folder)
    after = room.take(PATIENCE_S).frame
    back = capture.notices.get(timeout=PATIENCE_S)
    assert isinstance(back, CameraBack)
    assert back.outage_s > 0
    assert (after.source, after.seq) == ("0.png", last_seq + 1)
    assert (capture.condition, capture.reason, capture.reopens) == ("open", "", 1)


def test_a_stream_that_stalls_is_opened_again(run):
    with served(3) as url:
        config = opencv.Config(source=url, timeout_s=2)
        capture, room = run(lambda: opencv.create(config), timeout_s=2)
        assert [room.take(PATIENCE_S).frame.seq for _ in range(6)] == list(range(6))
        assert "no frame for 2 s" in capture.notices.get(timeout=PATIENCE_S).reason
        assert (capture.losses, capture.reopens) == (1, 1)
        assert capture.timeouts >= 1


def test_a_camera_that_is_not_there_at_the_start_is_lost_once_and_looked_for_again(run, tmp_path):
    folder = tmp_path / "pictures"
    tries = []

    def open_():
        tries.append(time.monotonic())
        if len(tries) == 3:
            write_pictures(folder, 1)
        return replay.create(replay.Config(source=folder))

    capture, room = run(open_)
    assert room.take(PATIENCE_S).frame.seq == 0
    wait_for(lambda: capture.condition == "finished")
    kinds = [type(capture.notices.get(timeout=PATIENCE_S)) for _ in range(2)]
    assert kinds == [CameraLost, CameraBack]
    assert (capture.losses, capture.reopens) == (1, 0)


def test_the_pauses_between_openings_grow(run):
    tries = queue.SimpleQueue()

    def open_():
        tries.put(time.monotonic())
        raise CameraLostError("not there")

    run(open_)
    times = [tries.get(timeout=PATIENCE_S) for _ in range(3)]
    assert times[1] - times[0] >= 0.5 * 0.75
    assert times[2] - times[1] >= 1.0 * 0.75


def test_stopping_ends_a_long_pause_at_once(run):
    tried = threading.Event()

    def open_():
        tried.set()
        raise CameraLostError("not there")

    capture, _ = run(open_)
    tried.wait()
    assert capture.stop(PATIENCE_S)
    assert capture.condition == "finished"


def test_a_short_silence_is_counted_and_no_loss(run):
    camera = Scripted([0, FrameTimeoutError("late"), FrameTimeoutError("late"), 1])
    capture, room = run(opener(camera), timeout_s=PATIENCE_S)
    assert [room.take(PATIENCE_S).frame.seq for _ in range(2)] == [0, 1]
    assert (capture.condition, capture.losses, capture.reopens) == ("open", 0, 0)
    assert capture.timeouts >= 2


def test_a_lost_camera_is_closed_before_it_is_opened_again(run):
    first, second = Scripted([0, CameraLostError("cable")]), Scripted([0])
    _, room = run(opener(first, second))
    assert [room.take(PATIENCE_S).frame.seq for _ in range(2)] == [0, 1]
    assert (first.closed, second.closed) == (1, 0)


def test_seq_rises_over_reopenings_and_keeps_the_gaps_of_the_driver(run):
    cameras = [Scripted([0, 1, 4, CameraLostError("cable")]), Scripted([0, 2, CameraLostError("cable")]), Scripted([7])]
    _, room = run(opener(*cameras))
    assert [room.take(PATIENCE_S).frame.seq for _ in range(6)] == [0, 1, 4, 5, 7, 8]


def test_a_camera_that_opens_and_gives_nothing_stays_lost(run):
    opened = queue.SimpleQueue()

    def open_():
        opened.put(None)
        return Scripted([0, CameraLostError("cable")] if opened.qsize() == 1 else [])

    capture, room = run(open_, timeout_s=0.05)
    room.take(PATIENCE_S)
    wait_for(lambda: capture.reopens >= 2)
    assert (capture.condition, capture.losses) == ("lost", 1)
    assert capture.notices.get(timeout=PATIENCE_S) == CameraLost("top", "cable")
    assert capture.notices.empty()


def test_a_bug_in_a_driver_is_a_loss_and_not_the_end(run):
    capture, _ = run(opener(RuntimeError("a bug"), Scripted([0])))
    assert capture.notices.get(timeout=PATIENCE_S) == CameraLost("top", "RuntimeError: a bug")
    wait_for(lambda: capture.condition == "open")
    assert capture.failed is None


def test_what_no_reopening_can_mend_is_left_for_the_main_thread(run):
    error = ConfigError("no such kind")
    capture, _ = run(opener(error))
    wait_for(lambda: capture.condition == "failed")
    assert capture.failed is error
    assert capture.reason == str(error)


def test_a_driver_that_hangs_shows_no_tick_and_does_not_stop(run):
    hanging, release = threading.Event(), threading.Event()

    def hang():
        hanging.set()
        release.wait(PATIENCE_S)
        return FrameTimeoutError("at last")

    capture, _ = run(opener(Scripted([hang])))
    hanging.wait()
    ticked_ns = capture.last_tick_ns
    assert not capture.stop(0.05)
    assert capture.last_tick_ns == ticked_ns
    release.set()


def test_a_camera_whose_driver_hangs_is_lost_until_it_comes_back(run):
    release = threading.Event()

    def hang():
        release.wait(PATIENCE_S)
        return FrameTimeoutError("at last")

    capture, _ = run(opener(Scripted([0, hang, 1])), lossless=False, timeout_s=0.1)
    wait_for(lambda: capture.condition == "open")
    wait_for(lambda: (capture.condition, capture.reason) == ("lost", "its driver hangs"))
    release.set()
    wait_for(lambda: (capture.condition, capture.frames) == ("open", 2))


def test_it_ticks_while_it_waits_for_room_in_a_lossless_mailbox(run):
    capture, _ = run(opener(Scripted([0, 1, 2])))
    wait_for(lambda: capture.frames == 2)
    ticked_ns = capture.last_tick_ns
    wait_for(lambda: capture.last_tick_ns > ticked_ns)
    assert capture.frames == 2


def test_it_ticks_while_the_camera_is_lost(run):
    capture, _ = run(opener(CameraLostError("not there")))
    wait_for(lambda: capture.condition == "lost")
    ticked_ns = capture.last_tick_ns
    wait_for(lambda: capture.last_tick_ns > ticked_ns)


def test_the_rate_is_measured_and_unknown_while_lost(run):
    unplugged = threading.Event()

    def unplug():
        unplugged.wait(PATIENCE_S)
        return CameraLostError("cable")

    frames = [Frame(picture(0), k, 10_000_000 * k) for k in range(3)]
    capture, _ = run(opener(Scripted([*frames, unplug]), CameraLostError("not there")), lossless=False)
    wait_for(lambda: capture.frames == 3)
    assert capture.fps == pytest.approx(100)
    unplugged.set()
    wait_for(lambda: capture.condition == "lost")
    assert math.isnan(capture.fps)


def test_opening_loss_and_return_are_logged_and_frames_are_not(run):
    with capture_logs() as logs:
        cameras = [Scripted([0, 1, CameraLostError("cable")]), Scripted([0, 1])]
        capture, room = run(opener(*cameras))
        for _ in range(4):
            room.take(PATIENCE_S)
        assert capture.stop(PATIENCE_S)
    assert [entry["event"] for entry in logs] == ["camera_open", "camera_lost", "camera_back"]
    assert all(entry["camera"] == "top" for entry in logs)
    assert logs[1]["reason"] == "cable"


class Telling(Scripted):
    """A camera that says what it gives."""

    def __init__(self, script, given, refused=()):
        super().__init__(script)
        self.given, self.refused = given, dict(refused)

    def read(self, timeout_s):
        frame = super().read(timeout_s)
        if frame.seq == 2:
            self.given = self.given | {"clock": "arrival"}
        return frame


def test_what_a_camera_gives_and_refuses_is_logged_when_it_opens(run):
    given = {"fps": 25, "clock": "driver"}
    with capture_logs() as logs:
        cameras = [Telling([0, 1, CameraLostError("cable")], given, {"fps": (30, 25)}), Telling([0], given)]
        capture, room = run(opener(*cameras))
        for _ in range(3):
            room.take(PATIENCE_S)
        assert capture.stop(PATIENCE_S)
    assert [entry["event"] for entry in logs] == ["camera_setting_refused", "camera_open", "camera_lost", "camera_back"]
    assert [logs[0][key] for key in ("camera", "key", "asked", "given")] == ["top", "fps", 30, 25]
    assert logs[1]["given"] == logs[3]["given"] == capture.given == given


def test_a_camera_that_gives_something_else_all_at_once_is_logged(run):
    with capture_logs() as logs:
        capture, room = run(opener(Telling([0, 1, 2, 3], {"clock": "driver"})))
        for _ in range(4):
            room.take(PATIENCE_S)
        assert capture.stop(PATIENCE_S)
    assert [entry["event"] for entry in logs] == ["camera_open", "camera_changed"]
    assert logs[1]["given"] == capture.given == {"clock": "arrival"}


def test_of_a_camera_that_says_nothing_nothing_is_given(run):
    capture, room = run(opener(Scripted([0])))
    room.take(PATIENCE_S)
    assert capture.given == {}


def test_pictures_that_cannot_be_read_are_logged_by_name_once_however_often_they_come_round(run, tmp_path):
    folder = write_pictures(tmp_path, 3)
    (folder / "1.png").write_bytes(b"no picture")
    with capture_logs() as logs:
        capture, room = run(lambda: replay.create(replay.Config(source=folder, loop=True)))
        for _ in range(7):
            room.take(PATIENCE_S)
        assert capture.stop(PATIENCE_S)
    told = [entry for entry in logs if entry["event"] == "pictures_unreadable"]
    assert [(entry["camera"], entry["count"], entry["names"]) for entry in told] == [("top", 1, ["1.png"])]
    assert capture.skipped >= 3


def test_a_picture_that_cannot_be_read_is_counted_also_where_it_is_the_last(run, tmp_path):
    folder = write_pictures(tmp_path, 3)
    (folder / "2.png").write_bytes(b"no picture")
    capture, room = run(lambda: replay.create(replay.Config(source=folder)))
    while capture.condition != "finished":
        room.take(0.05)
    assert (capture.frames, capture.skipped) == (2, 1)
