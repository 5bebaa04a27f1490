import re

import pytest

from edge_agent.app.check import check, secret_problems
from edge_agent.config import load
from tests.backends.models import write_onnx
from tests.fixtures import REPO
from tests.system.agents import config_text, replay

LINES = (
    (REPO / "examples" / "rtsp.toml").read_text().replace("# username", "username").replace("# password", "password")
)


@pytest.fixture
def config(tmp_path):
    """The example of a network camera, with a password."""
    path = tmp_path / "rtsp.toml"
    path.write_text(LINES.replace('"models/', f'"{REPO}/examples/models/'))
    return path


def test_a_password_file_of_a_camera_that_is_not_there_is_found_at_its_line(config):
    line = next(number for number, text in enumerate(LINES.splitlines(), 1) if text.startswith("password_file"))
    for problems in (check(config)[1], secret_problems(load(config))):
        assert [(problem.line, problem.key) for problem in problems] == [(line, "cameras[0].password_file")]
        assert "cannot read" in problems[0].message


def test_with_the_password_file_all_is_well(config):
    secret = config.with_name("camera-password")
    secret.touch(0o600)
    secret.write_text("s3cret\n")
    assert check(config)[1] == secret_problems(load(config)) == []


@pytest.mark.parametrize("content", ["", "one\ntwo\n"])
def test_what_is_wrong_with_a_labels_file_is_told_at_its_line(config, content):
    config.with_name("names.txt").write_text(content)
    config.write_text(re.sub(r"(?m)^labels = .*", 'labels = "names.txt"', config.read_text()))
    keys = {problem.key for problem in check(config)[1]}
    assert "model.labels" in keys
    assert "model.path" not in keys


def test_a_line_before_a_classifier_is_refused_where_it_stands(tmp_path):
    tensor = (1, [1, 3, 8, 8])
    model = write_onnx(
        tmp_path / "sorts.onnx",
        [("GlobalAveragePool", ["images"], "mean"), ("Flatten", ["mean"], "flat"), ("Softmax", ["flat"], "scores")],
        {"images": tensor},
        {"scores": (1, [1, 3])},
    )
    (tmp_path / "names.txt").write_text("good\nbad\nother\n")
    camera = replay(
        REPO / "examples/photos", trigger='kind = "line"\n  parts = ["good"]\n  line = [[0.5, 0], [0.5, 1]]'
    )
    more = 'labels = "names.txt"\n[model.decoder]\nkind = "classifier"\ninput = "zero_to_one"'
    config = tmp_path / "agent.toml"
    config.write_text(config_text(model=model, cameras=camera, port=1, more=more))
    (problem,) = check(config)[1]
    assert (problem.key, problem.line is None) == ("cameras[0].trigger.kind", False)
    assert 'write kind = "frame"' in problem.message
