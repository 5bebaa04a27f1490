import os
import stat
from pathlib import Path

import pytest

from edge_agent.runtime.album import Album, Caps, picture_name

ROOMY = Caps(keep=100, max_mb=10, max_days=30)
DAY_S = 86_400
NOW_S = 20_000 * DAY_S


def album_with(folder, *names, size=1000):
    """An album with pictures, one a second up to now."""
    album = Album(folder)
    for number, name in enumerate(names):
        verdict = "reject" if "reject" in name else "unknown"
        at_s = NOW_S - len(names) + number
        album.add(name, verdict, b"x" * size, ROOMY, at_s)
        os.utime(folder / name, (at_s, at_s))
    return album


def rejects(count, camera="top"):
    return [picture_name(camera, seq, "reject", "5f0c6d1a9e2b") for seq in range(count)]


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_name_says_which_verdict_it_is_of():
    assert picture_name("top", 1834, "reject", "5f0c6d1a9e2b") == "top-1834-reject-5f0c6d1a.jpg"


def test_pictures_are_readable_for_the_group_alone(tmp_path):
    folder = tmp_path / "own" / "evidence"
    album_with(folder, "top-1-reject-5f0c.jpg")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "top-1-reject-5f0c.jpg").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "caps",
    [Caps(keep=3, max_mb=10, max_days=30), Caps(keep=100, max_mb=0.0035, max_days=30)],
    ids=["count", "bytes"],
)
def test_the_oldest_go_where_there_are_too_many(tmp_path, caps):
    album = album_with(tmp_path, *rejects(10))
    album.tidy(caps, NOW_S)
    assert names_in(tmp_path) == set(rejects(10)[7:])
    assert (len(album), album.size) == (3, 3000)


def test_those_that_are_too_old_go(tmp_path):
    album = album_with(tmp_path, *rejects(10))
    album.tidy(ROOMY, NOW_S + 30 * DAY_S - 2.5)
    assert names_in(tmp_path) == set(rejects(10)[8:])


def test_a_clock_that_was_set_back_deletes_nothing(tmp_path):
    album = album_with(tmp_path, *rejects(3))
    album.tidy(ROOMY, 0.0)
    assert len(album) == 3


def test_a_flood_of_unknowns_does_not_push_out_the_rejects(tmp_path):
    unknowns = [picture_name("top", 100 + seq, "unknown", "5f0c") for seq in range(50)]
    album = album_with(tmp_path, *rejects(4), *unknowns)
    album.tidy(Caps(keep=10, max_mb=10, max_days=30), NOW_S)
    assert names_in(tmp_path) == {*rejects(4), *unknowns[-6:]}


def test_what_earlier_sessions_left_counts_from_the_oldest_on(tmp_path):
    album_with(tmp_path, *rejects(10))
    later = Album(tmp_path)
    later.look_up()
    assert (len(later), later.size) == (10, 10_000)
    later.tidy(Caps(keep=3, max_mb=10, max_days=30), NOW_S)
    assert names_in(tmp_path) == set(rejects(10)[7:])


def test_without_a_folder_there_is_nothing_and_none_is_made(tmp_path):
    album = Album(tmp_path / "evidence")
    album.look_up()
    album.tidy(ROOMY, NOW_S)
    assert len(album) == 0
    assert not album.folder.exists()


def test_with_keep_0_all_are_deleted(tmp_path):
    album = album_with(tmp_path, *rejects(3))
    album.tidy(Caps(keep=0, max_mb=10, max_days=30), NOW_S)
    assert names_in(tmp_path) == set()


def test_what_a_kill_or_a_power_cut_left_is_removed(tmp_path):
    album_with(tmp_path, *rejects(1))
    (tmp_path / ".top-7-reject-5f0c.jpg.new").write_bytes(b"half")
    (tmp_path / "top-8-reject-5f0c.jpg").write_bytes(b"")
    Album(tmp_path).look_up()
    assert names_in(tmp_path) == set(rejects(1))


def test_what_others_put_there_is_left_alone(tmp_path):
    others = tmp_path / "others.jpg"
    others.write_bytes(b"x")
    (tmp_path / "top-1-reject-5f0c.jpg").symlink_to(others)
    (tmp_path / "top-2-reject-5f0c.jpg").mkdir()
    album = Album(tmp_path)
    album.look_up()
    album.tidy(Caps(keep=0, max_mb=10, max_days=30), NOW_S)
    assert names_in(tmp_path) == {"others.jpg", "top-1-reject-5f0c.jpg", "top-2-reject-5f0c.jpg"}


def test_a_picture_that_somebody_deleted_is_no_trouble(tmp_path):
    album = album_with(tmp_path, *rejects(3))
    (tmp_path / rejects(3)[0]).unlink()
    album.tidy(Caps(keep=1, max_mb=10, max_days=30), NOW_S)
    assert names_in(tmp_path) == {rejects(3)[2]}


def test_a_disk_that_is_nearly_full_takes_no_more(tmp_path):
    with pytest.raises(OSError, match=r"less than 1e\+12 MB are free on the disk"):
        Album(tmp_path).add("top-1-reject-5f0c.jpg", "reject", b"x", Caps(10, 10, 30, min_free_mb=1e12), NOW_S)
    assert names_in(tmp_path) == set()


def test_a_picture_that_somebody_deletes_while_it_looks_does_not_hide_the_others(tmp_path, monkeypatch):
    album_with(tmp_path, *rejects(3))
    there = list(tmp_path.iterdir())
    there[1].unlink()
    monkeypatch.setattr(Path, "iterdir", lambda _folder: iter(there))
    album = Album(tmp_path)
    album.look_up()
    assert len(album) == 2
