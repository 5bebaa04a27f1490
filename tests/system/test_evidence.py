"""Pictures of parts that did not pass: of a real run, over restarts, on a hot board; and none of them leaves the device."""

import shutil
import signal
import stat
import subprocess
from contextlib import closing

import cv2
import pytest

from edge_agent.app.flight import Flight
from tests.brokers import Listener
from tests.hardware.trees import make_zone
from tests.processes import ended
from tests.system.agents import ROOT, config_text, replay, running_agent
from tests.system.test_hang import PHOTOS, recording
from tests.system.test_payload import pictures_in
from tests.system.test_run import RELAXED

pytestmark = pytest.mark.system
REJECTS = '[[cameras.rules]]\nkind = "defect"\nreject = ["part"]\n'
BOX_COLOUR = (66, 133, 244)


def line(folder, broker, evidence="", *, fps=4, more=""):
    """A line that rejects every picture."""
    if not (folder / "one.npz").exists():
        recording(folder / "one.npz")
    cameras = replay(PHOTOS, fps=fps) + REJECTS
    text = config_text(model=folder / "one.npz", cameras=cameras, port=broker.port, verdict=RELAXED)
    return f"{text}\n[evidence]\n{evidence}\n{more}"


def pictures(tmp_path):
    """The oldest first."""
    folder = tmp_path / "state" / "edge-agent" / "test-01" / "evidence"
    found = [(path.stat().st_mtime_ns, path) for path in folder.glob("*.jpg")] if folder.exists() else []
    return [path for _, path in sorted(found)]


def stop(agent):
    agent.send(signal.SIGTERM)
    assert agent.ended() == 0


def run_until(tmp_path, text, condition):
    """An agent that runs until that is so, and stops well."""
    with running_agent(tmp_path, text) as agent:
        assert ended(condition)
        stop(agent)


def test_each_reject_leaves_a_picture_with_its_box_and_nothing_of_it_on_the_wire(tmp_path, broker):
    with Listener(broker.port) as everything:
        run_until(tmp_path, line(tmp_path, broker), lambda: len(pictures(tmp_path)) >= 4)
        everything.hear_out()
    assert [trace for heard in everything.heard for trace in pictures_in(heard.payload)] == []
    with closing(Flight(tmp_path / "state" / "edge-agent" / "test-01" / "flight.log")) as flight:
        noted = {record.body["file"] for record in flight.records() if record.kind == "picture"}
    assert noted == {path.name for path in pictures(tmp_path)}
    results = {heard.json["verdict_seq"]: heard.json for heard in everything.on("result/top")}
    for path in pictures(tmp_path):
        camera, seq, verdict, session = path.stem.split("-")
        told = results[int(seq)]
        assert (camera, verdict, session) == ("top", "reject", told["session"][:8])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        picture, photo = cv2.imread(str(path)), cv2.imread(str(PHOTOS / told["frame"]["source"]))
        left, top, _, bottom = map(round, told["detections"][0]["box"])
        assert picture[(top + bottom) // 2, left].tolist() == pytest.approx(BOX_COLOUR, abs=60)
        beside = picture[: photo.shape[0], : left - 20]
        assert cv2.absdiff(beside, photo[:, : left - 20]).mean() < 8
        assert picture.shape[0] > photo.shape[0]  # what was made of it stands below


def test_the_number_that_is_kept_holds_over_restarts_and_the_newest_stay(tmp_path, broker):
    text = line(tmp_path, broker, "keep = 3")
    run_until(tmp_path, text, lambda: len(pictures(tmp_path)) == 3)
    before = pictures(tmp_path)
    run_until(tmp_path, text, lambda: not set(before) & set(pictures(tmp_path)))
    assert len(pictures(tmp_path)) == 3
    run_until(tmp_path, line(tmp_path, broker, "keep = 3\nmax_mb = 0.001"), lambda: not pictures(tmp_path))


def test_they_can_be_switched_off_while_the_agent_runs_and_those_that_were_go(tmp_path, broker, listener):
    with running_agent(tmp_path, line(tmp_path, broker)) as agent:
        assert ended(lambda: pictures(tmp_path))
        agent.config.write_text(line(tmp_path, broker, "keep = 0"))
        agent.send(signal.SIGHUP)
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "reloaded")
        assert ended(lambda: not pictures(tmp_path))
        seen = len(listener.on("verdict/top"))
        listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/verdict/top", seen + 3)
        assert pictures(tmp_path) == []
        stop(agent)


# --- a hot board --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hot_board(tmp_path):
    """Words that run a command on a board whose sensor says 82 °C; skips where the kernel does not let us."""
    make_zone(tmp_path / "board", 0, "cpu-thermal", "82000")
    script = f'mount --bind "{tmp_path}/board/sys/class" /sys/class && exec "$@"'
    words = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this kernel lets nobody mount a folder of their own")
    return words


def test_a_hot_board_keeps_no_pictures_says_so_and_judges_on(tmp_path, broker, listener, hot_board):
    text = line(tmp_path, broker, more='[hardware]\nprofile = "raspberry-pi-5"\n')
    with running_agent(tmp_path, text, hot_board) as agent:
        event = listener.wait_for(lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == "load_shed")
        assert event.json["data"] == {"what": "evidence", "temperature_c": 82.0, "throttled": None}
        state = listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/state" and "shedding:evidence" in heard.json["reasons"]
        )
        assert state.json["state"] == "degraded"
        health = listener.wait_for(
            lambda heard: heard.topic == f"{ROOT}/health" and heard.json["evidence"].get("shed", 0) > 0, timeout=25
        )
        assert health.json["shedding"] == ["evidence"]
        listener.wait_for_count(lambda heard: heard.topic == f"{ROOT}/verdict/top", 4)
        stop(agent)
    assert len(pictures(tmp_path)) <= 1  # before the first look at the sensor
