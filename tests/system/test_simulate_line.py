"""A user's own configuration on a simulated line: their rules, their names, their broker."""

import json
import os
import subprocess
import sys

import pytest

from edge_agent.app.demo.simulated import Wish
from edge_agent.app.display import PlainViewer
from edge_agent.app.run import single_instance
from edge_agent.app.simulate_line import notes, simulate_line
from edge_agent.cameras.simulator.settings import LABELS
from edge_agent.config import load
from edge_agent.errors import EdgeAgentError
from edge_agent.models.bundled import TFLITE
from tests.brokers import needs, running_broker
from tests.fixtures import REPO
from tests.processes import ended, processes_that_name

pytestmark = pytest.mark.system
DEVICE = '[device]\nid = "cap-07"\nsite = "leon"\narea = "bottling"\nline = "3"\ncell = "capper"\n'
ROOT = "plant/leon/bottling/3/capper/vision/cap-07"
GERMAN = {"bottle": "flasche", "cap": "deckel", "label": "etikett", "label_misaligned": "schief", "crack": "riss"}
USER, WORD = "agent", "correct-horse"
MAP = [word for pair in GERMAN.items() for word in ("--map", "=".join(pair))]


LINE = 'kind = "line"\nparts = ["flasche"]\nline = [[0.5, 0.0], [0.5, 1.0]]\ndirection = "left"'


def camera(name="top", *, trigger=LINE, more=""):
    return f"""
[[cameras]]
id = "{name}"
kind = "opencv"
source = "/dev/video97"
{more}

[cameras.trigger]
{trigger}

[[cameras.rules]]
kind = "defect"
reject = ["schief"]

[[cameras.rules]]
kind = "presence"
require = ["deckel"]

"""


def written(folder, cameras, *, mqtt):
    (folder / "names.txt").write_text("\n".join(GERMAN.values()))
    model = f'[model]\npath = "{TFLITE}"\nlabels = "names.txt"\n'
    (folder / "line.toml").write_text(f'{DEVICE}{model}{cameras}[mqtt]\nhost = "127.0.0.1"\nprefix = "plant"\n{mqtt}\n')
    return folder / "line.toml"


def simulate(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", "simulate-line", "--config", folder / "line.toml", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        timeout=60,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def secured(folder):
    """A broker that asks for a password over TLS, the `[mqtt]` keys to reach it, and what a listener needs."""
    passwords, secret, cert, key = (folder / name for name in ("passwords", "secret", "cert.pem", "key.pem"))
    subprocess.run([needs("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, USER, WORD], check=True)
    secret.write_text(f"{WORD}\n")
    secret.chmod(0o600)
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=broker -addext subjectAltName=IP:127.0.0.1"
    words = [needs("openssl", "openssl"), *made.split()[1:], "-keyout", key, "-out", cert]
    subprocess.run(words, check=True, capture_output=True)
    return running_broker(folder, f"certfile {cert}\nkeyfile {key}\npassword_file {passwords}")


def test_a_users_configuration_is_scored_by_its_own_rules_and_names_over_its_own_broker(tmp_path):
    with secured(tmp_path) as broker:
        mqtt = f'port = {broker.port}\nusername = "{USER}"\npassword_file = "secret"\ntls = {{ca = "cert.pem"}}'
        path = written(tmp_path, camera(more="rotation = 90"), mqtt=mqtt)
        done = simulate(tmp_path, "--parts", 6, "--json", *MAP)
        assert "plant/leon" in broker.log
    sheet = json.loads(done.stdout)
    assert done.returncode == (0 if sheet["ok"] else 1), done.stderr
    assert sheet["parts"] == 6
    assert sheet["no_verdict"] + sheet["twice"] + sheet["extra"] <= 2  # of a busy machine
    assert (sheet["not_at_arm"], sheet["late"]["executed"]) == (0, 0)
    assert sheet["right"] >= 1
    assert "camera top: rotation does not hold for simulated pictures" in done.stderr
    assert "an arm that listens there acts on them" in done.stderr
    assert ended(lambda: not processes_that_name(path)), processes_that_name(path)
    assert list(tmp_path.glob("edge-agent-*")) == []


def test_two_cameras_are_scored_together(tmp_path, broker):
    written(tmp_path, camera("top") + camera("side"), mqtt=f"port = {broker.port}")
    done = simulate(tmp_path, "--parts", 3, "--json", *MAP)
    sheet = json.loads(done.stdout)
    assert sheet["parts"] == 6
    assert sheet["no_verdict"] + sheet["twice"] + sheet["extra"] <= 2  # of a busy machine


def test_an_agent_of_the_same_name_at_the_broker_is_left_in_peace(tmp_path, broker):
    written(tmp_path, camera(), mqtt=f"port = {broker.port}")
    beats = [sys.executable, "-c", BEATS, str(broker.port), f"{ROOT}/heartbeat"]
    with subprocess.Popen(beats) as other:
        try:
            done = simulate(tmp_path, "--parts", 6, *MAP)
        finally:
            other.kill()
    assert done.returncode == 1
    assert "an agent of this name is at work" in done.stderr


BEATS = """
import sys, time
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
client = Client(CallbackAPIVersion.VERSION2)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
while True:
    client.publish(sys.argv[2], "{}")
    time.sleep(0.25)
"""


def test_an_agent_that_runs_the_same_file_is_left_in_peace(tmp_path):
    path = written(tmp_path, camera(), mqtt="port = 1")
    with single_instance(path):
        done = simulate(tmp_path, "--parts", 6, *MAP)
    assert done.returncode == 1
    assert "another edge-agent runs this configuration already" in done.stderr


def test_a_broker_that_is_away_is_told_in_a_sentence(tmp_path):
    written(tmp_path, camera(), mqtt="port = 1")
    done = simulate(tmp_path, "--parts", 3, *MAP)
    assert done.returncode == 1
    assert "127.0.0.1:1: Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("trigger", "labels", "said"),
    [
        ('kind = "frame"', GERMAN, "cameras[0].trigger.kind: only parts that cross a line"),
        (
            'kind = "line"\nparts = ["flasche"]\nline = [[0, 0.5], [1, 0.5]]\ndirection = "down"',
            GERMAN,
            "cameras[0].trigger.direction: simulated parts travel right or left, not down",
        ),
        (
            'kind = "line"\nparts = ["flasche"]\nline = [[0.5, 0], [0.5, 0.3]]',
            GERMAN,
            "cameras[0].trigger.line: simulated parts do not meet it",
        ),
        (LINE, {}, "cameras[0].trigger.parts: 'bottle' is not among them"),
        (LINE, {"dent": "beule"}, "the simulator shows no 'dent'; it shows " + ", ".join(LABELS)),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_sentence(tmp_path, trigger, labels, said):
    path = written(tmp_path, camera(trigger=trigger), mqtt="")
    with pytest.raises(EdgeAgentError) as error:
        simulate_line(path, Wish(None, 3), labels, PlainViewer(print), None)
    assert said in str(error.value)


def test_a_pair_that_is_none_is_told_in_a_sentence(tmp_path):
    written(tmp_path, camera(), mqtt="")
    done = simulate(tmp_path, "--map", "crack")
    assert done.returncode == 1
    assert "'crack' is not SIMULATED=YOURS" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rule_that_the_simulator_cannot_serve_is_told(tmp_path):
    path = written(tmp_path, camera(), mqtt="")
    said = list(notes(load(path).config, {"bottle": "flasche"}))
    assert "camera top: rule defect names 'schief', which the simulator never shows; see --map" in said
