import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.app.instances import find, find_all
from edge_agent.errors import UsageError
from tests.fixtures import REPO

CONFIGURATION = (REPO / "examples" / "photos.toml").read_text()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "etc" / "edge-agent").mkdir(parents=True)
    return tmp_path


def place(root: Path, name: str, text: str = CONFIGURATION) -> Path:
    path = root / "etc" / "edge-agent" / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_only_configuration_of_a_device_need_not_be_named(root):
    path = place(root, "line3")
    place(root, "arm", (REPO / "examples" / "reject-arm.toml").read_text())
    found = find(None, root)
    assert (found.name, found.config, found.is_service) == ("line3", path, True)


def test_one_of_several_must_be_named(root):
    place(root, "line3")
    place(root, "line4")
    assert [instance.name for instance in find_all(root)] == ["line3", "line4"]
    with pytest.raises(UsageError, match="line3, line4"):
        find(None, root)
    assert find("line4", root).name == find("line4.toml", root).name == "line4"


def test_a_device_without_a_configuration_says_so(root):
    with pytest.raises(UsageError, match="--config FILE"):
        find(None, root)
    with pytest.raises(UsageError, match="no such name"):
        find("line3", root)


def test_a_service_keeps_its_things_in_the_folders_of_services(root):
    place(root, "line3")
    for folder in (state := root / "var/lib/edge-agent/demo-01", runtime := root / "run/edge-agent/line3"):
        folder.mkdir(parents=True)
    found = find("line3", root)
    assert (found.own_folder, found.runtime) == (state, runtime)


def test_an_agent_that_somebody_started_keeps_its_things_with_them(root):
    path = root / "mine.toml"
    path.write_text(CONFIGURATION)
    found = find(str(path), root)
    assert found.own_folder == found.runtime == root / "home/edge-agent/demo-01"
    assert not found.is_service


def test_a_folder_of_the_configuration_is_taken_from_where_it_lies(root):
    place(root, "line3", CONFIGURATION + '\n[records]\nfolder = "kept"\n')
    assert find("line3", root).own_folder == root / "etc/edge-agent/kept"


@pytest.mark.parametrize("damage", ["\n[[cameras\n", "\nwidth = \n", '\n[device]\nid = "demo-01"\n', "\nunknown = 1\n"])
def test_a_wrong_configuration_still_leads_to_its_folder(root, damage):
    place(root, "line3", CONFIGURATION + damage)
    (root / "var/lib/edge-agent/demo-01").mkdir(parents=True)
    assert find(None, root).own_folder == root / "var/lib/edge-agent/demo-01"


@pytest.mark.parametrize("text", ["", "\x00\xff", "device = 3", "[device]\nid = 7", '[device]\nid = "../../etc"'])
def test_a_configuration_that_does_not_name_its_device_has_no_folder(root, text):
    place(root, "line3", text)
    assert find("line3", root).own_folder is None


AS_NOBODY = """
import os, pathlib, sys
from edge_agent.app import instances
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    instances.find(sys.argv[1], pathlib.Path(sys.argv[2]))
except instances.UsageError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_who_may_not_look_into_the_folder_is_told_how_to(root):
    (root / "etc/edge-agent").chmod(0o750)
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    command = [sys.executable, "-c", AS_NOBODY, "line3", root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO)
    assert "Permission denied; use sudo" in done.stdout
