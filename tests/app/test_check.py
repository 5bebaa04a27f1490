import pytest

from edge_agent.app.check import check, secret_problems
from edge_agent.config import load
from tests.fixtures import REPO

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
