"""What a bundle does with folders that are out of order, or made to mislead it."""

import os
import resource
import tarfile

import pytest

from edge_agent.app import instances
from edge_agent.app.bundle import pack
from edge_agent.app.doctor import look_around

TEXT = '[device]\nid = "cap"\n[records]\nfolder = "own"\n'


@pytest.fixture
def own(tmp_path):
    """The agent's own folder."""
    (tmp_path / "agent.toml").write_text(TEXT)
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def packed(folder):
    """What is in the bundle, by names, and what was left out."""
    context = look_around(instances.find(str(folder / "agent.toml")))
    done = pack(context, [], folder / "b.tar.gz")
    with tarfile.open(done.path) as tar:
        return {member.name.split("/")[1]: tar.extractfile(member).read() for member in tar}, done.left_out


def test_a_name_that_is_no_utf_8_is_packed(tmp_path, own):
    os.close(os.open(os.fsencode(own) + b"/bad\xff", os.O_CREAT))
    assert rb"bad\udcff" in packed(tmp_path)[0]["folder.txt"]


def test_a_link_in_the_agents_folder_leads_nowhere(tmp_path, own):
    (tmp_path / "shadow").write_text("root:hash")
    (own / "metrics.prom").symlink_to(tmp_path / "shadow")
    pieces, left_out = packed(tmp_path)
    assert b"root:hash" not in b"".join(pieces.values())
    assert "metrics.txt" in left_out


def test_a_pipe_in_the_agents_folder_is_not_waited_for(tmp_path, own):
    os.mkfifo(own / "metrics.prom")
    assert packed(tmp_path)[0]["metrics.txt"] == b""


def test_a_bundle_for_which_there_is_no_room_leaves_nothing(tmp_path, own):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            packed(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "b.tar.gz").exists()
    assert own.is_dir()
