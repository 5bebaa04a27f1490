import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edge_agent.app.lockstep import START_UTC, lockstep
from edge_agent.config import ConfigProblemsError, load
from tests.cameras.media import write_pictures
from tests.fixtures import REPO
from tests.runtime.stations import record
from tests.system.agents import config_text, replay

BUNDLED = REPO / "edge_agent" / "demo_model" / "bottles.tflite"
YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
COCO = f'labels = "{YOLOX.with_suffix(".txt")}"'
END_TO_END = '[model.decoder]\nkind = "yolo"\nhead = "end2end"\nboxes = "pixels"'
ACROSS = 'kind = "line"\nparts = ["{part}"]\nline = [[0.6, 0.0], [0.6, 1.0]]\ndirection = "right"'
CRACKS = '[[cameras.rules]]\nkind = "defect"\nreject = ["crack", "label_misaligned"]\n'


def bottles(more="", *, trigger='kind = "frame"', rules="", **settings):
    """A simulated camera, drawn small."""
    keys = {"fps": 10, "width": 320, "height": 180, "clutter": 0} | settings
    lines = "\n".join(f"{key} = {value}" for key, value in keys.items())
    return f'[[cameras]]\nid = "top"\nkind = "simulator"\n{lines}\n{more}\n[cameras.trigger]\n{trigger}\n{rules}'


def loaded(folder, cameras, *, model=None, more=END_TO_END):
    """The configuration; without a model, one that plays a recording in which nothing is seen."""
    path = folder / "agent.toml"
    path.write_text(config_text(model=model or record(folder / "m.npz", []), cameras=cameras, port=1883, more=more))
    return load(path)


def line_of(folder, seed):
    """The demo's own line: full size, tracked bottles, the bundled model."""
    cameras = bottles(
        trigger=ACROSS.format(part="bottle"),
        rules=CRACKS,
        fps=15,
        width=1280,
        height=720,
        parts=3,
        seed=seed,
        defects=0.5,
    )
    return loaded(folder, cameras, model=BUNDLED, more="")


def messages(config, **how):
    """Topic and payload of each, as they are sent."""
    return [(message.topic, message.payload) for message in lockstep(config, **{"session": "5f0c", **how})]


def told(config, kind, **how):
    """The payloads of one kind of message."""
    return [json.loads(payload) for topic, payload in messages(config, **how) if f"/{kind}" in topic]


def words(verdicts):
    """All that does not depend on time or on the last digit of a score."""
    return [
        (v["seq"], v["part_id"], v["verdict"], [(r.get("rule"), r.get("label")) for r in v["reasons"]])
        for v in verdicts
    ]


def test_the_same_seed_and_session_give_the_same_bytes(tmp_path):
    config = line_of(tmp_path, seed=7)
    first = messages(config)
    assert sum("/verdict/top" in topic for topic, _ in first) == 3
    assert messages(config) == first


def test_another_seed_gives_other_bytes(tmp_path):
    one, other = (told(line_of(tmp_path, seed), "result/") for seed in (7, 8))
    assert [result["detections"] for result in one] != [result["detections"] for result in other]


def test_another_session_differs_in_nothing_else(tmp_path):
    config = loaded(tmp_path, bottles(parts=1))
    renamed = [(topic, payload.replace(b"5f0c", b"beef")) for topic, payload in messages(config)]
    assert messages(config, session="beef") == renamed


def test_a_replay_gives_the_same_bytes_too(tmp_path):
    cameras = replay(REPO / "examples" / "photos", fps=25, loop=False)
    config = loaded(tmp_path, cameras, model=YOLOX, more=COCO)
    first = messages(config)
    assert len(first) == 4
    assert messages(config) == first


def moving_cat(folder):
    """A photo of a cat that travels over a grey belt."""
    photo = cv2.imread(str(REPO / "examples" / "photos" / "cat_720p.jpg"))
    cat = cv2.resize(photo[60:500, 400:900], (300, 264))
    folder.mkdir()
    for left in range(20, 650, 45):
        belt = np.full((480, 960, 3), 114, np.uint8)
        belt[100:364, left : left + 300] = cat
        cv2.imwrite(str(folder / f"{left:03d}.png"), belt)
    return folder


@pytest.mark.system
def test_the_verdicts_are_those_of_the_real_agent(tmp_path):
    line = replay(moving_cat(tmp_path / "cat"), fps=8, loop=False, trigger=ACROSS.format(part="cat"))
    photos = replay(REPO / "examples" / "photos", camera="side", fps=2, loop=False)
    rejects = '[[cameras.rules]]\nkind = "defect"\nreject = ["person", "cat"]\n'
    text = config_text(model=YOLOX, cameras=line + rejects + photos + rejects, port=1883, more=COCO)
    text = text.replace('[mqtt]\nhost = "127.0.0.1"\nport = 1883', "[stdout]")
    path = tmp_path / "agent.toml"
    path.write_text(text.replace("[verdict]", "[verdict]\ndeadline_ms = 5000\nvalid_ms = 9000"))
    patient = tmp_path / "patient.toml"  # however busy the machine is, no picture is left out
    patient.write_text(re.sub(r"fps = \d", "fps = 0", path.read_text()))
    command = [sys.executable, "-m", "edge_agent", "run", "--config", str(patient)]
    lines = subprocess.run(command, cwd=REPO, capture_output=True, check=True, timeout=50).stdout.splitlines()
    heard = [json.loads(line) for line in lines]
    for camera in ("top", "side"):
        real = [line["payload"] for line in heard if line["topic"].endswith(f"/verdict/{camera}")]
        assert words(real) == words(told(load(path), f"verdict/{camera}"))
        assert real


def test_cameras_are_looked_at_in_the_order_of_their_times(tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 6)
    cameras = replay(pictures, fps=10, loop=False) + replay(pictures, camera="side", fps=4, loop=False)
    verdicts = told(loaded(tmp_path, cameras), "verdict/")
    times = [verdict["captured_at"] for verdict in verdicts]
    assert times == sorted(times)
    order = "top side top top side top top top side side side side"
    assert [verdict["camera"] for verdict in verdicts] == order.split()


def test_a_verdict_is_sent_at_the_moment_its_picture_comes(tmp_path):
    for verdict in told(loaded(tmp_path, bottles(parts=1)), "verdict/"):
        assert verdict["at"] == verdict["captured_at"]
        assert set(verdict["latency_ms"].values()) == {0.0}


def test_a_camera_that_is_lost_comes_back_and_numbers_go_on(tmp_path):
    config = loaded(tmp_path, bottles('faults = [{kind = "disconnected", at_s = 1, for_s = 2}]'))
    lost, back = told(config, "event", seconds=6)
    assert (lost["code"], lost["at"]) == ("camera_lost", "2026-01-01T00:00:01.000Z")
    assert (back["code"], 2 <= back["data"]["outage_s"] <= 4) == ("camera_back", True)
    results = told(config, "result/", seconds=6)
    assert [result["verdict_seq"] for result in results] == list(range(1, len(results) + 1))
    seqs = [result["frame"]["seq"] for result in results]
    assert seqs == sorted(set(seqs))
    assert results[-1]["at"] == "2026-01-01T00:00:06.000Z"


def test_a_camera_that_goes_dark_is_told_as_on_a_real_line(tmp_path):
    config = loaded(tmp_path, bottles('faults = [{kind = "dark", at_s = 1, for_s = 3}]') + "[cameras.health]")
    (ill, well) = told(config, "event", seconds=8)
    assert (ill["code"], ill["data"]["faults"], well["code"]) == ("camera_unhealthy", "dark", "camera_healthy")
    unknown = [v["at"] for v in told(config, "verdict/", seconds=8) if v["reasons"] == [{"code": "camera_unhealthy"}]]
    assert "2026-01-01T00:00:01.000Z" <= unknown[0] < "2026-01-01T00:00:02.000Z"


def test_it_ends_after_the_seconds_it_was_given(tmp_path):
    verdicts = told(loaded(tmp_path, bottles()), "verdict/", seconds=1.5)
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, 16))
    assert verdicts[0]["at"] > START_UTC.isoformat()[:19]


@pytest.mark.parametrize(
    ("cameras", "key", "words"),
    [
        (replay(REPO / "examples" / "photos", fps=0), "cameras[0].fps", "gives the pictures no times"),
        ('[[cameras]]\nid = "a"\nkind = "opencv"\nsource = "/dev/video0"\n[cameras.trigger]\nkind = "frame"', "cameras[0].kind", "keeps its own time"),
        (replay(REPO / "nowhere", fps=5), "cameras[0]", "there is no file or folder"),
    ],
)  # fmt: skip
def test_what_cannot_run_in_lockstep_is_refused(tmp_path, cameras, key, words):
    with pytest.raises(ConfigProblemsError) as error:
        messages(loaded(tmp_path, cameras))
    (problem,) = error.value.problems
    assert (problem.key, problem.line is not None) == (key, True)
    assert words in problem.message
