import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.core import plan_header
from edge_agent.core.plan_header import OURS
from edge_agent.errors import ConfigError, TransientError
from edge_agent.models import sealed
from edge_agent.models.sealed import Seal
from tests.fixtures import REPO

PLAN = bytes(range(256)) * 9000
META = {"names": "{0: 'cap'}", OURS: {"shapes": (("x", (1, 3)),)}}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "engines"
    sealed.make_folder(folder)
    return folder


@pytest.fixture
def file(folder):
    Seal(folder).write(folder / "a.engine", META, PLAN)
    return folder / "a.engine"


@pytest.fixture
def as_nobody(tmp_path, monkeypatch):
    """Who may not write into the working directory; root could write anywhere."""
    tmp_path.chmod(0o555)
    monkeypatch.chdir(tmp_path)
    user = os.geteuid()
    if user == 0:
        os.seteuid(12345)
    yield
    os.seteuid(user)


def test_what_was_written_is_genuine_and_as_it_was(folder, file):
    assert Seal(folder).fault(file) is None
    metadata, start = plan_header.split(file.read_bytes())
    assert metadata["names"] == META["names"]
    assert metadata[OURS]["shapes"] == [["x", [1, 3]]]
    assert file.read_bytes()[start:] == PLAN


def test_folder_key_and_files_are_for_their_owner_only(folder, file):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"a.engine": 0o600, "key": 0o600}


@pytest.mark.parametrize("place", [0.1, 0.5, 1.0])
def test_a_changed_byte_is_found(folder, file, place):
    data = bytearray(file.read_bytes())
    data[int((len(data) - 1) * place)] ^= 1
    file.write_bytes(data)
    assert "signature does not fit" in Seal(folder).fault(file)


def test_changed_metadata_are_found(folder, file):
    metadata, start = plan_header.split(file.read_bytes())
    metadata["names"] = "{0: 'ok'}"
    file.write_bytes(plan_header.make(metadata) + file.read_bytes()[start:])
    assert "signature does not fit" in Seal(folder).fault(file)


@pytest.mark.parametrize("length", [0, 3, 40, 1000, -1])
def test_a_file_that_was_cut_off_is_found(folder, file, length):
    file.write_bytes(file.read_bytes()[:length])
    assert Seal(folder).fault(file)


@pytest.mark.parametrize("metadata", [{}, {OURS: {}}, {OURS: "mine"}, {OURS: {"tag": None}}, {OURS: {"tag": "ü"}}])
def test_a_file_that_was_not_signed_is_found(folder, file, metadata):
    file.write_bytes(plan_header.make(metadata) + PLAN)
    assert "signature does not fit" in Seal(folder).fault(file)


def test_a_file_from_another_folder_is_found(tmp_path, folder, file):
    other = tmp_path / "other"
    sealed.make_folder(other)
    Seal(other).write(other / "b.engine", META, PLAN)
    file.write_bytes((other / "b.engine").read_bytes())
    assert "signature does not fit" in Seal(folder).fault(file)


def test_without_a_key_nothing_is_genuine(folder, file):
    (folder / "key").unlink()
    assert Seal(folder).fault(file) == "the key that engines are signed with is not there"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_or_change_is_not_trusted_and_replaced(folder, file, mode):
    (folder / "key").chmod(mode)
    assert Seal(folder).fault(file)
    with capture_logs() as logs:
        Seal(folder).write(folder / "b.engine", META, PLAN)
    assert [entry["event"] for entry in logs] == ["engine_key_replaced"]
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert Seal(folder).fault(folder / "b.engine") is None
    assert Seal(folder).fault(file)


def test_a_key_that_a_power_cut_has_cut_off_is_replaced(folder, file):
    (folder / "key").write_bytes(b"")
    Seal(folder).write(file, META, PLAN)
    assert len((folder / "key").read_bytes()) == 32
    assert Seal(folder).fault(file) is None


def test_processes_that_make_the_key_at_once_agree_on_it(folder):
    program = (
        "import sys; from pathlib import Path; from edge_agent.models.sealed import Seal;"
        "folder = Path(sys.argv[1]); sys.stdin.read(); Seal(folder).write(folder / sys.argv[2], {}, b'plan')"
    )
    words = [sys.executable, "-c", program, folder]
    started = [subprocess.Popen([*words, f"{n}.engine"], stdin=subprocess.PIPE, cwd=REPO) for n in range(4)]
    for process in started:
        process.stdin.close()
    assert [process.wait() for process in started] == [0, 0, 0, 0]
    assert [Seal(folder).fault(path) for path in folder.glob("*.engine")] == [None] * 4


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(folder, file):
    old = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TransientError, match=r"a\.engine: there is no room left"):
            Seal(folder).write(file, META, PLAN * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert file.read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == ["a.engine", "key"]


def test_what_was_half_written_before_is_no_obstacle(folder, file):
    sealed.part_of(file).write_bytes(b"half")
    Seal(folder).write(file, META, PLAN)
    assert not sealed.part_of(file).exists()


def test_a_link_that_lies_where_a_part_goes_is_not_followed(tmp_path, folder, file):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    sealed.part_of(file).symlink_to(victim)
    Seal(folder).write(file, META, PLAN)
    assert victim.read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path, folder):
    """Root would give the file behind it to the owner of the folder."""
    (tmp_path / "victim").write_text("mine")
    (folder / "build.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        sealed.open_lock(folder / "build.lock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_lock_that_is_there_keeps_its_owner(folder):
    """It may be another name of a file elsewhere."""
    os.close(sealed.open_lock(folder / "build.lock"))
    os.chown(folder, 1234, 1235)
    os.close(sealed.open_lock(folder / "build.lock"))
    assert (folder / "build.lock").stat().st_uid == 0


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=r"engines: not only its owner can write to it, .* chmod go-w /.*/engines"):
        sealed.make_folder(folder)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*: Not a directory; engines cannot be kept there"):
        sealed.make_folder(tmp_path / "file" / "engines")


def test_a_disk_without_room_is_told(tmp_path):
    with pytest.raises(TransientError, match=r"the disk has .* MB left, and .* MB are needed; make room there"):
        sealed.check_room(tmp_path, 1 << 60)


@pytest.mark.usefixtures("as_nobody")
def test_a_folder_that_cannot_be_written_to_is_told_before():
    with pytest.raises(ConfigError, match="nothing can be written there; engines cannot be kept there"):
        sealed.check_room(Path(), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(folder):
    os.chown(folder, 1234, 1235)
    Seal(folder).write(folder / "a.engine", META, PLAN)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()} == {(1234, 1235)}
