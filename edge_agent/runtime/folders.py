"""Where the agent keeps what is its own on the device: readable for its user and the group of the technicians."""

import os
from contextlib import suppress
from pathlib import Path

FOLDER_MODE = 0o750
FILE_MODE = 0o640


def make_folder(folder: Path) -> None:
    """With those above it, where they are not there yet; one that is there keeps its mode. Raises `OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(FOLDER_MODE)


def write_whole(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Whoever reads the file sees the old one or the new one. It is not synced: that spares SD cards. Raises `OSError`.

    The file beside it is made anew and by us alone, for the folder may be one in which others can write.
    """
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
