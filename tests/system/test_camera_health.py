"""A camera that goes blind and sees again: a real process, a real broker, pictures replayed in place of the camera."""

import json
import signal
import subprocess
import sys

import cv2
import pytest

from tests.fixtures import REPO
from tests.scenes import plain, pushed, scene, seen
from tests.system.agents import ROOT, config_text, replay, running_agent
from tests.system.test_hang import recording
from tests.system.test_run import is_state, is_verdict

pytestmark = pytest.mark.system
FPS = 20
WELL_S, DARK_S = 6, 3
RELAXED = "deadline_ms = 2000\nvalid_ms = 4000\nunknown_in_row = 0"


def pictures(folder, *stretches):
    """Pictures in a folder: so many seconds of each scene, with noise."""
    folder.mkdir()
    number = 0
    for seconds, image in stretches:
        for _ in range(round(seconds * FPS)):
            cv2.imwrite(str(folder / f"{number}.png"), seen(cv2.resize(image, (320, 180)), 2, seed=number))
            number += 1
    return folder


def configured(folder, source, port, health="", *, loop=False):
    camera = replay(source, fps=FPS, loop=loop) + f"\n[cameras.health]\n{health}\n"
    return config_text(model=recording(folder / "quick.npz"), cameras=camera, port=port, verdict=RELAXED)


def edge_agent(*words):
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, words)], capture_output=True, text=True, check=False, cwd=REPO
    )


def picture_of(result):
    """The number of the picture that was judged; -1 for none."""
    frame = result.json["frame"]
    return int(frame["source"].split(".")[0]) if frame else -1


def is_event(code):
    return lambda heard: heard.topic == f"{ROOT}/event" and heard.json["code"] == code


def test_in_the_dark_parts_are_unknown_and_light_heals_by_itself(tmp_path, broker, listener):
    source = pictures(tmp_path / "shots", (WELL_S, scene()), (DARK_S, plain(2)), (15, scene()))
    dark, light = WELL_S * FPS, (WELL_S + DARK_S) * FPS
    healed = light + 5 * FPS  # two seconds are asked for; a busy machine gets its pictures late
    with running_agent(tmp_path, configured(tmp_path, source, broker.port)) as agent:
        listener.wait_for(is_state("running"), timeout=20)
        sick = listener.wait_for(is_event("camera_unhealthy"), timeout=20)
        degraded = listener.wait_for(is_state("degraded"))
        well = listener.wait_for(is_event("camera_healthy"), timeout=20)
        listener.wait_for(lambda heard: is_state("running")(heard) and heard.json["seq"] > degraded.json["seq"])
        listener.wait_for(lambda heard: heard.topic == f"{ROOT}/result/top" and picture_of(heard) > healed + FPS)
        agent.send(signal.SIGTERM)
        assert agent.ended() == 0
        log = agent.log()
    assert degraded.json["reasons"] == ["camera_unhealthy:top"]
    assert sick.json["severity"] == "alarm"
    assert {**sick.json["data"], "brightness": 0} == {
        "camera": "top",
        "faults": "dark",
        "times": 1,
        "brightness": 0,
        "brightness_limit": 5.0,
    }
    assert well.json["severity"] == "info"
    assert DARK_S < well.json["data"]["lasted_s"] < DARK_S + 6
    assert "camera_unhealthy" in log
    assert "camera_healthy" in log
    results = {heard.json["part_id"]: heard for heard in listener.on("/result/top")}
    said = [
        (picture_of(results[heard.json["part_id"]]), heard.json["verdict"], str(heard.json["reasons"]))
        for heard in listener.on("/verdict/top")
        if heard.json["part_id"] in results and heard.json["reasons"] != [{"code": "stopping"}]
    ]
    blind = ("unknown", "[{'code': 'camera_unhealthy'}]")
    assert {tuple(what) for number, *what in said if number < dark} == {("pass", "[]")}
    assert {tuple(what) for number, *what in said if dark <= number < light} == {blind}
    assert {tuple(what) for number, *what in said if number > healed} == {("pass", "[]")}


def test_without_the_table_a_replay_is_not_watched(tmp_path, broker, listener):
    source = pictures(tmp_path / "shots", (1, plain(2)))
    camera = replay(source, fps=FPS, loop=True)
    config = config_text(model=recording(tmp_path / "m.npz"), cameras=camera, port=broker.port, verdict=RELAXED)
    with running_agent(tmp_path, config):
        verdicts = listener.wait_for_count(is_verdict(), 60, timeout=30)
    assert {heard.json["verdict"] for heard in verdicts} == {"pass"}


def test_a_baseline_is_taken_checked_and_finds_a_camera_that_was_pushed(tmp_path, broker, listener):
    source = pictures(tmp_path / "shots", (4, scene(1)))
    away = pictures(tmp_path / "away", (4, pushed(scene(1), 0.05)))
    (tmp_path / "agent.toml").write_text(configured(tmp_path, source, broker.port))
    done = edge_agent("snapshot", "--config", tmp_path / "agent.toml", "--camera", "top", "--baseline")
    assert done.returncode == 0, done.stderr
    assert 'baseline = "top.baseline.json"' in done.stdout
    assert (tmp_path / "top.baseline.json").stat().st_size < 60_000
    moved = configured(tmp_path, away, broker.port, 'baseline = "top.baseline.json"', loop=True)
    (tmp_path / "agent.toml").write_text(moved)
    assert edge_agent("check", "--config", tmp_path / "agent.toml").returncode == 0
    with running_agent(tmp_path, moved):
        sick = listener.wait_for(is_event("camera_unhealthy"), timeout=40)
    assert sick.json["data"]["faults"] == "moved"
    assert sick.json["data"]["in_place"] < sick.json["data"]["in_place_limit"] == 0.33


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no baseline"),
        ("{}", "is no baseline, or a damaged one"),
        ("side", "is the baseline of camera 'side', not of 'top'"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_told_with_its_line(tmp_path, content, sentence):
    source = pictures(tmp_path / "shots", (1, scene()))
    text = configured(tmp_path, source, 1, 'baseline = "b.json"')
    (tmp_path / "agent.toml").write_text(text)
    if content == "side":
        side = tmp_path / "side.toml"
        side.write_text(text.replace('id = "top"', 'id = "side"'))
        taken = edge_agent("snapshot", "--config", side, "--camera", "side", "--baseline")
        assert taken.returncode == 0, taken.stderr
        assert "SIGHUP" in taken.stdout
    elif content:
        (tmp_path / "b.json").write_text(content)
    for command, code in (("check", 1), ("run", 78)):
        done = edge_agent(command, "--config", tmp_path / "agent.toml", *(["--json"] if command == "check" else []))
        assert done.returncode == code, done.stderr
        assert sentence in done.stdout + done.stderr
        assert "--baseline" in done.stdout + done.stderr
        if command == "check":
            (problem,) = json.loads(done.stdout)["problems"]
            assert problem["key"] == "cameras[0].health.baseline"
            assert text.splitlines()[problem["line"] - 1].startswith("baseline")


def test_new_limits_and_a_new_baseline_are_taken_over_on_sighup(tmp_path, broker, listener):
    source = pictures(tmp_path / "shots", (2, scene()))
    text = configured(tmp_path, source, broker.port, "dark_below = 5", loop=True)
    with running_agent(tmp_path, text) as agent:
        listener.wait_for(is_state("running"), timeout=20)
        agent.config.write_text(text.replace("dark_below = 5", "dark_below = 250"))
        agent.send(signal.SIGHUP)
        sick = listener.wait_for(is_event("camera_unhealthy"), timeout=20)
        assert sick.json["data"]["faults"] == "dark"
        agent.config.write_text(text.replace("[cameras.health]\ndark_below = 5", "[cameras.health]\nenabled = false"))
        agent.send(signal.SIGHUP)
        listener.wait_for(is_event("camera_healthy"), timeout=20)
