"""`check`, `schema`, `snapshot` and what all commands share, as a person at a shell meets them."""

import json
import subprocess
import sys

import cv2
import jsonschema_rs
import pytest

from tests.fixtures import REPO

EXAMPLE = REPO / "examples" / "photos.toml"
COMMANDS = ("run", "check", "demo", "detect", "bench", "simulate-line", "snapshot", "schema", "profile")


def edge_agent(*words):
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = edge_agent(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "profile"])
def test_help_has_an_example(command):
    assert f"Example: edge-agent {command}" in " ".join(edge_agent(command, "--help").stdout.split())


@pytest.mark.parametrize("words", [["bogus"], ["run"], ["detect", "--bogus"], ["schema", "bogus"]])
def test_a_wrong_call_exits_with_1_and_no_traceback(words):
    done = edge_agent(*words)
    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_word_that_is_no_choice_is_told_in_a_plain_sentence():
    done = edge_agent("logs", "--severity", "bad")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Invalid value for '--severity' / '-s': 'bad' is not one of 'info', 'warning', 'error'.\n"
    )


def test_check_of_a_good_configuration_says_so():
    done = edge_agent("check", "--config", EXAMPLE)
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def test_check_finds_everything_that_the_file_names(tmp_path):
    text = EXAMPLE.read_text().replace('"photos"', '"nowhere"').replace('["person"]', '["persn"]')
    (tmp_path / "models").symlink_to(REPO / "examples" / "models")
    (tmp_path / "bad.toml").write_text(text)
    done = edge_agent("check", "--json", "--config", tmp_path / "bad.toml")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert [problem["key"] for problem in problems] == ["cameras[0]", "cameras[0].rules[0].reject"]
    assert "nowhere" in problems[0]["message"]
    assert "did you mean 'person'?" in problems[1]["message"]
    assert text.splitlines()[problems[1]["line"] - 1].strip().startswith("reject")


def test_check_of_a_file_that_is_wrong_itself_exits_with_78(tmp_path):
    (tmp_path / "bad.toml").write_text("[device]\n")
    done = edge_agent("check", "--config", tmp_path / "bad.toml")
    assert done.returncode == 78
    assert "bad.toml:1: device.id: is missing" in done.stderr


def test_check_of_a_missing_model_names_it(tmp_path):
    (tmp_path / "bad.toml").write_text(EXAMPLE.read_text().replace('"photos"', f'"{REPO}/examples/photos"'))
    done = edge_agent("check", "--config", tmp_path / "bad.toml")
    assert done.returncode == 1
    assert "model.path" in done.stderr
    assert "there is no such file" in done.stderr


def test_the_schema_of_the_configuration_accepts_the_example():
    if sys.version_info < (3, 11):
        import tomli as tomllib
    else:
        import tomllib
    schema = json.loads(edge_agent("schema", "config").stdout)
    jsonschema_rs.validate(schema, tomllib.loads(EXAMPLE.read_text()))
    assert set(json.loads(edge_agent("schema").stdout)) >= {"config", "verdict", "state", "birth"}


def test_a_schema_can_be_written_into_a_folder(tmp_path):
    done = edge_agent("schema", "verdict", "--write", tmp_path / "new")
    assert (done.returncode, done.stdout) == (0, "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["verdict.json"]
    assert (tmp_path / "new" / "verdict.json").read_text() == edge_agent("schema", "verdict").stdout


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    done = edge_agent("schema", "--write", tmp_path / "file" / "folder")
    assert done.returncode == 1
    assert f"{tmp_path}/file/folder: cannot be written: Not a directory" in done.stderr


def test_a_snapshot_is_the_picture_and_annotate_draws_into_it(tmp_path):
    plain = edge_agent("snapshot", "--config", EXAMPLE, "--camera", "top", tmp_path / "plain.png")
    assert plain.returncode == 0, plain.stderr
    drawn = edge_agent("snapshot", "--config", EXAMPLE, "--camera", "top", "--annotate", tmp_path / "drawn.png")
    assert drawn.returncode == 0, drawn.stderr
    original = cv2.imread(str(REPO / "examples" / "photos" / "cat_720p.jpg"))
    assert (cv2.imread(str(tmp_path / "plain.png")) == original).all()
    assert (cv2.imread(str(tmp_path / "drawn.png")) != original).any()


def test_a_snapshot_of_an_unknown_camera_says_which_there_are(tmp_path):
    done = edge_agent("snapshot", "--config", EXAMPLE, "--camera", "bottom", tmp_path / "x.png")
    assert done.returncode == 1
    assert "there is no camera 'bottom'; there are top" in done.stderr


def test_check_finds_a_rule_that_the_model_threshold_has_made_blind(tmp_path):
    text = (
        EXAMPLE.read_text().replace("[model]", "[model]\nconf = 0.6").replace('"photos"', f'"{REPO}/examples/photos"')
    )
    (tmp_path / "models").symlink_to(REPO / "examples" / "models")
    (tmp_path / "blind.toml").write_text(text)
    done = edge_agent("check", "--config", tmp_path / "blind.toml")
    assert done.returncode == 78
    assert "cameras[0].rules[0].unsure_score: 0.35 is below model.conf, 0.6" in done.stderr
