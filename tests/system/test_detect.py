"""`edge-agent detect` on real models and photos, against what others find in them."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edge_agent.core.datatypes import Detections
from tests.decoders.expectations import assert_as_expected, pictures
from tests.fixtures import REPO, needs_shared
from tests.system.agents import IMAGES, MODELS

pytestmark = pytest.mark.system
YOLOX = REPO / "examples" / "models" / "yolox_nano_416_coco.onnx"
LABELS = YOLOX.with_suffix(".txt")
CASES = {(file, model) for file in ("yolo_expected.json", "yolox_expected.json") for model, _ in pictures(file)}


def detect(*words):
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", "detect", *map(str, words)], capture_output=True, text=True, check=False
    )


@needs_shared
@pytest.mark.parametrize(("file", "model"), sorted(CASES), ids=str)
def test_detections_are_those_of_the_reference(file, model):
    names = [picture for of, picture in pictures(file) if of == model]
    labels = ["--labels", MODELS / "yolox_nano_416_coco.txt"] if model.endswith(".onnx") else []
    done = detect("--model", MODELS / model, "--json", *labels, *(IMAGES / name for name in names))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines] == [str(IMAGES / name) for name in names]
    for name, line in zip(names, lines, strict=True):
        rows = line["detections"]
        found = Detections(
            np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
            np.array([row["score"] for row in rows], np.float32),
            np.array([row["class_id"] for row in rows], np.int32),
        )
        assert_as_expected(file, model, name, found)
        assert set(line["timings_ms"]) == {"preprocess", "infer", "decode"}


def test_a_folder_gives_a_line_per_picture_and_annotated_copies(tmp_path):
    photos = REPO / "examples" / "photos"
    done = detect("--model", YOLOX, "--labels", LABELS, "--annotate", tmp_path / "out", "--json", photos)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines] == [str(photos / "cat_720p.jpg"), str(photos / "kite_and_cold.jpg")]
    assert lines[0]["detections"][0]["label"] == "cat"
    for line in lines:
        copy = cv2.imread(str(tmp_path / "out" / line["source"].rpartition("/")[2]))
        assert copy.shape[:2] == (line["height"], line["width"])


def test_annotated_copies_never_go_where_the_originals_lie(tmp_path):
    (tmp_path / "x.png").write_bytes(cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    before = (tmp_path / "x.png").read_bytes()
    done = detect("--model", YOLOX, "--labels", LABELS, "--annotate", tmp_path, tmp_path)
    assert done.returncode == 1
    assert "name another folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


def test_a_video_gives_a_line_per_frame(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for shade in (0, 100, 200):
        writer.write(np.full((240, 320, 3), shade, np.uint8))
    writer.release()
    done = detect("--model", YOLOX, "--labels", LABELS, "--json", tmp_path / "v.avi")
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == [0, 1, 2]


def test_annotated_copies_do_not_overwrite_each_other(tmp_path):
    cat = REPO / "examples" / "photos" / "cat_720p.jpg"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(cat, tmp_path / folder / "x.jpg")
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((10, 10, 3), np.uint8))
    sources = (tmp_path / "a", tmp_path / "b" / "x.jpg", tmp_path / "x.png")
    done = detect("--model", YOLOX, "--labels", LABELS, "--annotate", tmp_path / "out", *sources)
    assert done.returncode == 0, done.stderr
    heights = {path.name: cv2.imread(str(path)).shape[0] for path in (tmp_path / "out").iterdir()}
    assert heights == {"x.jpg": 720, "x-2.jpg": 720, "x-3.jpg": 10}


def test_pictures_of_a_folder_that_cannot_be_read_are_counted_and_named_at_the_end(tmp_path):
    for name in ("b.png", "c.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    shutil.copy(REPO / "examples" / "photos" / "cat_720p.jpg", tmp_path / os.fsdecode(b"a\xff.jpg"))
    done = detect("--model", YOLOX, "--labels", LABELS, "--json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [f"{tmp_path}/a\ufffd.jpg"]
    assert done.stderr == f"edge-agent: {tmp_path}: 2 of 3 pictures could not be read: b.png, c.jpg\n"


def test_a_single_picture_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = detect("--model", YOLOX, "--labels", LABELS, tmp_path / "b.png")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"edge-agent: {tmp_path}/b.png cannot be read as a picture: it is damaged, empty, too large, or of another kind\n"
    )


def on_a_terminal(*words, stdout=None):
    """What `detect` shows on a terminal of 200 columns, and what it writes to its standard output elsewhere."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "detect", "--model", YOLOX, "--labels", LABELS, *words],
        stdout=stdout or theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    with process, contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


PHOTOS = REPO / "examples" / "photos"


def test_a_bar_shows_how_far_a_folder_is_and_leaves_the_results_alone(tmp_path):
    with (tmp_path / "results").open("w") as results:
        shown = on_a_terminal("--json", PHOTOS, stdout=results)
    assert "2/2" in shown
    assert [json.loads(line)["frame"] for line in (tmp_path / "results").read_text().splitlines()] == [0, 1]


def test_words_and_the_bar_share_a_terminal():
    shown = on_a_terminal(PHOTOS)
    assert "2/2" in shown
    assert "cat_720p.jpg#0: cat 0." in shown


def test_json_on_a_terminal_and_a_single_picture_have_no_bar():
    shown = on_a_terminal("--json", PHOTOS) + on_a_terminal("--json", PHOTOS / "cat_720p.jpg")
    assert [json.loads(line)["frame"] for line in shown.splitlines()] == [0, 1, 0]


def test_how_a_model_is_read_can_be_told():
    done = detect("--model", YOLOX, "--labels", LABELS, "--decoder", 'kind = "yolox", decoded = true', PHOTOS)
    assert done.returncode == 1
    assert "decoded = false" in done.stderr
    done = detect("--model", YOLOX, "--labels", LABELS, "--decoder", 'kind = "yolox", decoded = false', PHOTOS)
    assert "cat 0.79" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--model", YOLOX, "nothing.jpg"], 1, "there is no file or folder nothing.jpg"),
        (["--model", "nothing.onnx", "nothing.jpg"], 1, "there is no file or folder nothing.jpg"),
        (["--model", "nothing.onnx", REPO / "examples/photos"], 1, "nothing.onnx: there is no such file"),
        (["--model", LABELS, REPO / "examples/photos"], 1, "not a model that can be run"),
        (["--model", YOLOX, "--backend", "tflite", REPO / "examples/photos"], 1, "tflite reads .tflite files"),
        (
            ["--model", YOLOX, "--backend", "tensorrt", REPO / "examples/photos"],
            1,
            "TensorRT is not installed: ",
        ),
        (["--model", YOLOX, LABELS], 1, "no picture"),
        (["--model", YOLOX], 1, "Missing argument"),
        (["--model", YOLOX, "--decoder", "yolox", PHOTOS], 1, "--decoder: 'yolox' is not TOML; write for example"),
        (["--model", YOLOX, "--decoder", 'kind = "yolo", boxes = 1', PHOTOS], 1, "--decoder: boxes: must be"),
        (["--model", YOLOX, "--decoder", "boxes = 1", PHOTOS], 1, "--decoder: kind"),
        (
            ["--model", YOLOX, "--decoder", 'kind = "yolox", layuot = "x"', PHOTOS],
            1,
            "--decoder: layuot: is not a key of this table; did you mean 'layout'?",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(words, code, sentence):
    done = detect(*words)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
