from pathlib import Path

import pytest

from edge_agent.app.places import own_folder, state_folder
from edge_agent.config import load
from tests.fixtures import REPO

EXAMPLE = REPO / "examples" / "photos.toml"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/edge-agent/line3:/var/lib/other"}, "/var/lib/edge-agent/line3"),
        ({"XDG_STATE_HOME": "/home/tech/state"}, "/home/tech/state/edge-agent"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/tech"}, "/home/tech/.local/state/edge-agent"),
        ({"HOME": "/home/tech"}, "/home/tech/.local/state/edge-agent"),
    ],
)
def test_the_state_folder_is_systemds_or_the_users(monkeypatch, environment, folder):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_folder() == Path(folder)


def test_records_have_a_folder_for_each_device(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/home/tech/state")
    assert own_folder(load(EXAMPLE).config) == Path("/home/tech/state/edge-agent/demo-01")


def test_an_id_of_dots_leads_to_no_other_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", "/home/tech/state")
    (tmp_path / "line.toml").write_text(EXAMPLE.read_text().replace('id = "demo-01"', 'id = ".."'))
    assert own_folder(load(tmp_path / "line.toml").config) == Path("/home/tech/state/edge-agent/_..")


def test_the_configuration_may_name_another_folder_relative_to_itself(tmp_path):
    text = EXAMPLE.read_text() + '\n[records]\nfolder = "kept"\n'
    (tmp_path / "line.toml").write_text(text)
    assert own_folder(load(tmp_path / "line.toml").config) == tmp_path / "kept"
