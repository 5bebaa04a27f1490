"""What a user may hand over by mistake: one clear sentence, no traceback, and nothing comes to harm."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.backends.models import write_onnx
from tests.cameras.media import png_that_claims
from tests.fixtures import REPO
from tests.system.agents import config_text, replay

pytestmark = pytest.mark.system
YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
LABELS = YOLOX.with_suffix(".txt")
PHOTO = REPO / "examples" / "photos" / "cat_720p.jpg"
FULL = Path("/dev/full")
GIGABYTE = 1 << 30
A_TENTH_MB = 100_000
MOST_MEMORY = """\
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
"""Runs a command and tells its exit code and memory in KiB: from a small process, for a child counts as its parent's memory too."""

CMYK = base64.b64decode(
    """
/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAUDg8SDw0UEhASFxUUGB4yIR4cHB49LC4kMklATEtHQEZFUFpzYlBVbVZFRmSIZW13e4GCgU5gjZeMfZ
ZzfoF8/8AAFAgAIAAgBEMRAE0RAFkRAEsRAP/EABcAAQEBAQAAAAAAAAAAAAAAAAAFBgf/xAAYEAEAAwEAAAAAAAAAAAAAAAAABBRBYf/aAA4E
QwBNAFkASwAAPwDUStai10a9FlaWugiytLXQRpWlroOmytRbXQRZWlroIsrS10EaVpa6DpsrUW10EWVpa6CLK0tdBGlaWug6bK1GtdBFlaWugi
ytLXQRpWlroP/Z
"""
)
"""A picture of 32 x 32 as a printer wants it: JPEG with four channels."""


def edge_agent(*words, **options):
    """Runs a command; whatever goes wrong, it says so in words."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, words)], capture_output=True, text=True, check=False, **options
    )
    assert "Traceback" not in done.stderr
    return done


def detect(model, picture, *words):
    return edge_agent("detect", "--model", model, *words, picture)


def from_the_start_of(path, size):
    return path.read_bytes()[:size]


def the_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


WEB_PAGE = b"<!doctype html><title>404</title>"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.onnx", b"", "is empty; copy the model again"),
        ("a.tflite", b"", "is empty; copy the model again"),
        ("a.onnx", from_the_start_of(YOLOX, A_TENTH_MB), "cannot be loaded; copy or export it again"),
        ("a.tflite", WEB_PAGE, "is not a TFLite model, or is damaged; copy or export it again"),
        ("a.onnx", WEB_PAGE, "cannot be loaded; copy or export it again"),
        ("a.tflite", from_the_start_of(YOLOX, A_TENTH_MB), "is not a TFLite model, or is damaged"),
        ("a.onnx", PHOTO.read_bytes(), "cannot be loaded; copy or export it again"),
        ("a.npz", PHOTO.read_bytes(), "a.npz"),
        ("a.pt", b"PK", "export it first"),
        ("a", YOLOX.read_bytes(), "not a model that can be run; it must end in"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_words(tmp_path, name, content, sentence):
    done = detect(the_file(tmp_path, name, content), PHOTO)
    assert done.returncode == 1
    assert f"edge-agent: {tmp_path}/{name}" in done.stderr
    assert sentence in done.stderr


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite"])
@pytest.mark.timeout(180)
def test_a_file_of_a_gigabyte_that_is_no_model_is_refused_and_not_held_in_memory(tmp_path, name):
    path = the_file(tmp_path, name, from_the_start_of(YOLOX, 1000))
    os.truncate(path, GIGABYTE)  # a sparse file
    words = [sys.executable, "-m", "edge_agent", "detect", "--model", path, PHOTO]
    done = subprocess.run(
        [sys.executable, "-c", MOST_MEMORY, *map(str, words)], capture_output=True, text=True, check=True
    )
    code, most_kb = json.loads(done.stdout.splitlines()[-1])
    assert code == 1
    assert f"edge-agent: {path}" in done.stderr
    assert "Traceback" not in done.stderr
    assert most_kb < GIGABYTE / 1024


def test_a_model_without_labels_gets_numbers_for_names():
    done = detect(YOLOX, PHOTO, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["detections"][0]["label"] == "class_15"


@pytest.mark.parametrize("lines", [1, 79, 81])
def test_labels_of_the_wrong_length_are_refused(tmp_path, lines):
    labels = the_file(tmp_path, "labels.txt", "".join(f"thing {n}\n" for n in range(lines)).encode())
    done = detect(YOLOX, PHOTO, "--labels", labels)
    assert done.returncode == 1
    assert f"{lines} labels" in done.stderr
    assert "80 classes" in done.stderr


def test_a_model_for_something_else_than_pictures_is_refused(tmp_path):
    model = write_onnx(
        tmp_path / "sound.onnx", [("Identity", ["in"], "out")], {"in": (1, [1, 16000])}, {"out": (1, [1, 16000])}
    )
    done = detect(model, PHOTO)
    assert done.returncode == 1
    assert "sound" in done.stderr


def encoded(kind, picture):
    return cv2.imencode(kind, picture)[1].tobytes()


CAT = cv2.imread(str(PHOTO))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grey.png", encoded(".png", cv2.cvtColor(CAT, cv2.COLOR_BGR2GRAY))),
        ("grey.jpg", encoded(".jpg", cv2.cvtColor(CAT, cv2.COLOR_BGR2GRAY))),
        ("sixteen_bits.png", encoded(".png", CAT.astype(np.uint16) * 257)),
        ("sixteen_bits.tiff", encoded(".tiff", CAT.astype(np.uint16) * 257)),
        ("alpha.png", encoded(".png", cv2.cvtColor(CAT, cv2.COLOR_BGR2BGRA))),
        ("large.jpg", encoded(".jpg", cv2.resize(CAT, (12_000, 8_400)))),
    ],
)
def test_a_cat_is_a_cat_in_any_kind_of_picture(tmp_path, name, content):
    picture = the_file(tmp_path, name, content)
    done = detect(YOLOX, picture, "--json", "--labels", LABELS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["detections"][0]["label"] == "cat"


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("cmyk.jpg", CMYK, (32, 32)),
        ("one_pixel.png", encoded(".png", CAT[:1, :1]), (1, 1)),
        ("one_row.png", encoded(".png", CAT[:1]), (1280, 1)),
        ("one_column.png", encoded(".png", CAT[:, :1]), (1, 720)),
    ],
)
def test_an_odd_picture_is_looked_at(tmp_path, name, content, size):
    done = detect(YOLOX, the_file(tmp_path, name, content), "--json", "--labels", LABELS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["width"], found["height"]) == size


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zero.jpg", b""),
        ("noise.jpg", np.random.default_rng(0).bytes(10_000)),
        ("half.jpg", from_the_start_of(PHOTO, 30_000)),
        ("page.png", WEB_PAGE),
        ("gigapixel.png", png_that_claims(30_000, 30_000)),
    ],
)
def test_a_picture_that_is_none_is_refused_in_words(tmp_path, name, content):
    picture = the_file(tmp_path, name, content)
    done = detect(YOLOX, picture, "--labels", LABELS)
    assert done.returncode == 1
    assert f"{picture} cannot be read as a picture" in done.stderr


def test_a_full_disk_for_results_is_said_in_words():
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", "detect", "--model", YOLOX, "--labels", LABELS, PHOTO],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "edge-agent: the output cannot be written: No space left on device\n"


def test_a_full_disk_for_logs_costs_the_logs_alone(tmp_path):
    shutil.copytree(REPO / "examples", tmp_path / "examples")
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", "run", "--config", tmp_path / "examples" / "stdout.toml"],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
            timeout=40,
        )
    assert done.returncode == 0
    verdicts = [line for line in done.stdout.splitlines() if "/verdict/" in json.loads(line)["topic"]]
    assert len(verdicts) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.toml: device: is missing"),
        (b'[device]\nid = "\xff"\n', "a.toml:2"),
        (b"\x00" * 1000, "a.toml:1"),
        (WEB_PAGE, "a.toml:1"),
        (b"[device]\n" * 2, "a.toml:2"),
        (b"x = 1\n" * 100_000, "a.toml"),
        (b"x = " + b"9" * 100_000 + b"\n", "a.toml:1"),
        (b"x = 0x" + b"9" * 100_000 + b"\n", "a.toml:1"),
        (b"x = " + b"9" * 4_000 + b"\n", "a.toml:1"),
        (b"x = " + b"[" * 10_000 + b"\n", "a.toml"),
    ],
    ids=[
        "empty",
        "not UTF-8",
        "zeros",
        "web page",
        "twice",
        "huge",
        "huge number",
        "huge hexadecimal number",
        "large number",
        "deep",
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_is_no_configuration_is_refused_with_78(tmp_path, command, content, sentence):
    done = edge_agent(command, "--config", the_file(tmp_path, "a.toml", content), timeout=40)
    assert done.returncode == 78
    assert sentence in done.stderr + done.stdout


AS_NOBODY = """
import os, sys
from pathlib import Path
from edge_agent.app import run
from edge_agent.cli import main
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.argv = ["edge-agent", "run", "--config", sys.argv[1]]
main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_configuration_that_the_service_may_not_read_is_refused_with_78(tmp_path):
    config = the_file(tmp_path, "a.toml", b"")
    config.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, config], capture_output=True, text=True, check=False, cwd=REPO
    )
    assert done.returncode == 78, done.stderr
    assert "cannot be read: Permission denied" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('kind = "replay"', 'kind = "replya"', "did you mean 'replay'?"),
        ("loop = true", "lop = true", "did you mean 'loop'?"),
        ("fps = 5", "fps = 1e400", "cameras[0].fps"),
        ("fps = 5", "fps = nan", "cameras[0].fps"),
        ("fps = 5", "fps = -1", "cameras[0].fps"),
        ("fps = 5", "fps = 5\nfps = 5", "agent.toml"),
        ('id = "top"', 'id = "a/b"', "cameras[0].id"),
        ('id = "top"', f'id = "{"x" * 1000}"', "cameras[0].id"),
        ('id = "top"', 'id = ""', "cameras[0].id"),
        ("port = 1", "port = 99999999999999999999", "mqtt.port"),
        ("port = 1", 'port = "1883"', "mqtt.port"),
        ("[verdict]", "[verdict]\ndeadline_ms = 1e300", "verdict.deadline_ms"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(tmp_path, before, after, sentence):
    text = config_text(model=YOLOX, cameras=replay(PHOTO), port=1)
    assert before in text
    config = the_file(tmp_path, "agent.toml", text.replace(before, after).encode())
    done = edge_agent("check", "--config", config)
    assert done.returncode == 78
    assert sentence in done.stderr + done.stdout


def test_a_camera_whose_pictures_change_size_is_judged_on(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    sizes = [(1280, 720), (640, 480), (1, 1), (720, 1280)]
    for number, size in enumerate(sizes):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(CAT, size))
    text = config_text(
        model=YOLOX, cameras=replay(folder, fps=0, loop=False), port=1, verdict="deadline_ms = 9000\nvalid_ms = 9900"
    )
    config = the_file(tmp_path, "agent.toml", text[: text.index("[mqtt]")].encode() + b"[stdout]\n")
    done = edge_agent("run", "--config", config, timeout=40)
    assert done.returncode == 0, done.stderr
    results = [line["payload"] for line in map(json.loads, done.stdout.splitlines()) if "/result/" in line["topic"]]
    assert [(result["frame"]["width"], result["frame"]["height"]) for result in results] == sizes
    assert [result["verdict"] for result in results] == ["pass"] * len(sizes)
