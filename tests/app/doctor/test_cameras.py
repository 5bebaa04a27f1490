"""Cameras that are missing, forbidden, slow or of another kind: OpenCV's own V4L2 code on a pretended device."""

import grp
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec

import pytest

from tests.app.doctor.patients import NOBODY, as_root, device, finding, findings, installation, simple
from tests.cameras.media import HEIGHT, WIDTH
from tests.cameras.test_opencv_device import DEVICE, environment, library, yuyv  # noqa: F401 - two are fixtures
from tests.fixtures import REPO
from tests.system.agents import replay

ASKED = f"width = {WIDTH}\nheight = {HEIGHT}\nfps = 30\n"


@pytest.fixture
def look(tmp_path, environment):  # noqa: F811 - the fixture
    """What is found on the pretended camera: `look("camera-rate", ASKED, FPS=5)`."""

    def run(check, asked=ASKED, **faults):
        return examined(tmp_path, [check], asked, environment(**faults))[0]

    return run


def examined(folder, checks, asked, environment):  # noqa: F811 - not the fixture
    path = folder / "agent.toml"
    path.write_text(simple(folder, cameras=device(DEVICE, asked)))
    command = [sys.executable, "-m", "tests.app.doctor.examined", path, *checks]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=REPO)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_camera_that_is_well_passes(tmp_path, environment):  # noqa: F811 - the fixture
    checks = ["camera-opens", "camera-settings", "camera-rate"]
    found = examined(tmp_path, checks, ASKED, environment())
    assert [(one["check"], one["level"]) for one in found] == [(check, "ok") for check in checks]


def test_a_camera_that_is_not_there_is_found(tmp_path):
    context = installation(tmp_path, simple(tmp_path, cameras=device("/dev/video63")))
    found = finding(context, "camera-present")
    assert (found.level, found.about) == ("fail", "top")
    assert f"there is no /dev/video63, which {tmp_path}/agent.toml:" in found.evidence
    assert found.fix.startswith("plug the camera in")
    assert finding(context, "camera-opens").level == "skip"


def test_a_recording_that_is_not_there_is_found(tmp_path):
    found = finding(installation(tmp_path, simple(tmp_path, cameras=replay(tmp_path / "gone"))), "camera-present")
    assert (found.level, found.fix.startswith("mend `source` at ")) == ("fail", True)


@as_root
def test_a_device_that_the_agent_may_not_use_names_the_group_to_join(tmp_path):
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as node:
        os.fchmod(node.fileno(), 0o660)
        os.fchown(node.fileno(), 0, grp.getgrnam("video").gr_gid)
        context = installation(tmp_path, simple(tmp_path, cameras=device(node.name)))
        context.agent = NOBODY
        found = finding(context, "camera-access")
        context.agent = replace(NOBODY, groups=frozenset({grp.getgrnam("video").gr_gid}))
        assert finding(context, "camera-access").level == "ok"
    assert (found.level, found.about) == ("fail", "top")
    assert found.fix == "sudo usermod -aG video nobody, and log in again"


def test_a_camera_that_another_program_has_is_found(look):
    found = look("camera-opens", BUSY=0)
    assert (found["level"], found["fix"]) == ("fail", f"end the program that has it: sudo fuser -v {DEVICE} names it")


def test_a_camera_that_gives_nothing_is_found(look):
    found = look("camera-opens", FREEZE=0)
    assert (found["level"], "gave no picture" in found["evidence"]) == ("fail", True)


def test_a_camera_without_mjpg_is_told_what_it_has(look, tmp_path):
    found = look("camera-settings", f'{ASKED}format = "MJPG"\n', FORMATS="YUYV")
    assert (found["level"], found["evidence"]) == ("warn", "format: MJPG was asked for, and YUYV is given")
    assert found["fix"].startswith(f'set `format = "YUYV"` at {tmp_path}/agent.toml:')


def test_a_setting_that_the_camera_does_not_have_is_to_be_removed(look):
    found = look("camera-settings", f"{ASKED}gain = 3\n", WITHOUT="gain")
    assert (found["level"], found["evidence"]) == ("warn", "it has no gain")
    assert found["fix"].startswith("remove `gain` at ")


def test_a_camera_below_the_rate_that_was_asked_for_is_found(look):
    found = look("camera-rate", FPS=10)
    assert (found["level"], "30 are asked for" in found["evidence"]) == ("warn", True)
    assert found["fix"].startswith("set `fps = 10.0` at ")


def test_a_replay_without_pictures_is_no_camera_to_switch_on(tmp_path):
    found = finding(installation(tmp_path, simple(tmp_path)), "camera-opens")
    assert (found.level, found.fix.startswith("put pictures or a video there, or mend `source`")) == ("fail", True)


@pytest.mark.skipif(bool(find_spec("picamera2")), reason="Picamera2 is installed here")
def test_without_picamera2_it_is_to_be_installed(tmp_path):
    camera = '[[cameras]]\nid = "top"\nkind = "picamera2"\n[cameras.trigger]\nkind = "frame"\n'
    found = finding(installation(tmp_path, simple(tmp_path, cameras=camera)), "camera-opens")
    assert (found.level, found.fix.startswith("sudo apt install python3-picamera2")) == ("fail", True)


def test_a_camera_that_its_agent_has_lost_is_found_through_the_agent(tmp_path):
    context = up(tmp_path, {"condition": "lost", "fps": None, "frames": 0})
    found = finding(context, "camera-opens")
    assert (found.level, found.fix) == ("fail", "edge-agent explain camera_lost")


def test_a_rate_that_the_running_agent_does_not_reach_is_found(tmp_path):
    context = up(tmp_path, {"condition": "open", "fps": 12.5, "frames": 900})
    assert (finding(context, "camera-opens").level, finding(context, "camera-settings").level) == ("ok", "skip")
    found = finding(context, "camera-rate")
    assert (found.level, found.evidence) == ("warn", "12.5 pictures/s come, and 30 are asked for")
    assert found.fix.startswith(f"v4l2-ctl -d {DEVICE} -c exposure_dynamic_framerate=0")


def test_pictures_that_the_running_agent_finds_fault_with_are_told(tmp_path):
    context = up(tmp_path, {"condition": "open", "fps": 30, "frames": 900, "faults": ["dark"]})
    found = finding(context, "camera-picture")
    assert (found.level, found.evidence) == ("fail", "the picture is dark")


def up(tmp_path, camera):
    """A running agent says this of its camera."""
    from edge_agent.app.status import Report

    context = installation(tmp_path, simple(tmp_path, cameras=device(DEVICE, ASKED)))
    facts = {"age_s": 0.1, "state": "running", "reasons": [], "health": {"cameras": {"top": camera}}}
    context.status = Report(context.instance, "up", "running", 0, facts=facts)
    return context


def test_a_chip_of_a_gpio_trigger_that_is_not_there_is_found(tmp_path):
    cameras = replay(tmp_path / "photos", fps=30, trigger='kind = "gpio"\nchip = "/dev/gpiochip63"\nline = 4')
    found = finding(installation(tmp_path, simple(tmp_path, cameras=cameras)), "trigger-input")
    assert (found.level, "there is no /dev/gpiochip63" in found.evidence) == ("fail", True)
    assert found.fix.startswith("mend `chip` at ")


def test_a_missing_gpiod_is_told_of_the_input_line_with_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gpiod'] = None\n")
    command = [sys.executable, "-m", "tests.app.doctor.examined", REPO / "examples/gpio-trigger.toml", "trigger-input"]
    without = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO, env=without)
    found = json.loads(done.stdout.splitlines()[0])
    assert (found["level"], found["evidence"]) == ("fail", "GPIO needs the package gpiod")
    assert found["fix"] == f"{sys.executable} -m pip install 'gpiod>=2.1'"


def test_a_camera_whose_driver_hangs_is_left_behind(look):
    found = look("camera-opens", HANG=0)
    assert (found["level"], "has not come back" in found["evidence"]) == ("fail", True)


def test_every_camera_has_its_own_finding(tmp_path):
    cameras = device("/dev/video63") + device("/dev/video62").replace('"top"', '"side"')
    found = findings(installation(tmp_path, simple(tmp_path, cameras=cameras)), "camera-present")
    assert [one.about for one in found] == ["top", "side"]
