"""Pictures in a folder, of which the oldest go when there are too many. What else lies there is left alone."""

import errno
import os
import re
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtime.folders import make_folder, write_whole

MEGABYTE = 1_000_000
_NAME = re.compile(r".+-\d+-(reject|unknown)-[0-9a-f]{1,8}\.jpg(\.new)?")  # `.new`: one that is being written


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that is kept. With `keep` 0 nothing is, and what was goes. `max_days` is by the wall clock.

    While less than `min_free_mb` is free on the disk nothing more is kept.
    """

    keep: int
    max_mb: float
    max_days: float
    min_free_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class _Kept:
    at_s: float
    size: int
    name: str


def picture_name(camera: str, seq: int, verdict: str, session: str) -> str:
    """Of the picture of a verdict that is no pass."""
    return f"{camera}-{seq}-{verdict}-{session[:8]}.jpg"


class Album:
    """One thread adds and tidies; any may ask how much there is. All raise `OSError` where the disk does not do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 0
        self._kept: dict[str, deque[_Kept]] = {"reject": deque(), "unknown": deque()}  # the oldest first

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def look_up(self) -> None:
        """What earlier sessions left. What a kill left half-written, or a power cut empty, is removed."""
        found: list[tuple[str, _Kept]] = []
        if not self.folder.exists():
            return
        for path in self.folder.iterdir():
            name = _NAME.fullmatch(path.name)
            with suppress(FileNotFoundError):  # somebody deletes it now
                told = path.lstat()
                if name is None or not stat.S_ISREG(told.st_mode):
                    continue
                if name[2] or not told.st_size:
                    path.unlink()
                    continue
                found.append((name[1], _Kept(told.st_mtime, told.st_size, path.name)))
        for verdict, kept in sorted(found, key=lambda pair: pair[1].at_s):
            self._kept[verdict].append(kept)
            self.size += kept.size

    def add(self, name: str, verdict: str, picture: bytes, caps: Caps, now_s: float) -> None:
        """One more, which whoever looks sees as a whole or not at all. `now_s` is the wall clock's, since the epoch."""
        make_folder(self.folder)
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < caps.min_free_mb * MEGABYTE + len(picture):
            raise OSError(errno.ENOSPC, f"less than {caps.min_free_mb:g} MB are free on the disk")
        write_whole(self.folder / name, picture)
        self._kept[verdict].append(_Kept(now_s, len(picture), name))
        self.size += len(picture)

    def tidy(self, caps: Caps, now_s: float) -> None:
        """Deletes what is too old, and what is too much: of rejects and unknowns those that are more.

        So a flood of the one does not push out the other.
        """
        for kept in self._kept.values():
            while kept and now_s - kept[0].at_s > caps.max_days * 86_400:
                self._delete(kept)
        while len(self) > caps.keep or self.size > caps.max_mb * MEGABYTE:
            self._delete(max(self._kept.values(), key=len))

    def _delete(self, kept: deque[_Kept]) -> None:
        """The oldest of these, which somebody else may have deleted already."""
        (self.folder / kept[0].name).unlink(missing_ok=True)
        self.size -= kept.popleft().size
