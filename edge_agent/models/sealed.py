"""Files that only this folder's owner can have made: metadata, content and a tag over both, written whole or not at all.

The tag is HMAC-SHA256 with a key that lies in the folder, for nobody but its owner to read. A file goes under another
name first, is synced and renamed: a kill or a power cut leaves the old one or the new one.
"""

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from edge_agent.core import plan_header
from edge_agent.core.plan_header import OURS
from edge_agent.errors import ConfigError, EdgeAgentError, TransientError

log = structlog.get_logger()

PART = ".part"
"""What a file's name ends in while it is written."""

RESERVE = 64 << 20
"""Bytes of the disk that are left free: the agent's records need room as well."""

_KEY_BYTES = 32
_CHUNK = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Seal:
    """The key of a folder, and what it is good for. Any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key_path = folder, folder / "key"

    def write(self, path: Path, metadata: Mapping[str, Any], content: bytes | memoryview) -> None:
        """Writes a file that `fault` finds genuine.

        Raises:
            TransientError: the disk has no room.
            ConfigError: the folder cannot be used.
        """
        with in_words(self._folder):
            key = self._read_key() or self._make_key()
        plain, _ = plan_header.split(plan_header.make(metadata))  # as it will be read: JSON knows no tuples
        own = plain.setdefault(OURS, {})
        own["tag"] = _tag(key, plain, [content])
        write_whole(path, [plan_header.make(plain), content])

    def fault(self, path: Path) -> str | None:
        """Why the file is not genuine, in words; None where it is."""
        try:
            key = self._read_key()
            if key is None:
                return "the key that engines are signed with is not there"
            with path.open("rb") as file:
                metadata = read_metadata(file)
                tag = str(_own(metadata).pop("tag", ""))
                genuine = hmac.compare_digest(tag.encode(), _tag(key, metadata, _chunks(file)).encode())
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
        return None if genuine else "it is damaged, or was not built here: its signature does not fit"

    def _read_key(self) -> bytes | None:
        """None where there is none that can be trusted. Raises `OSError` where it cannot be read."""
        try:
            with self._key_path.open("rb") as file:
                key, facts = file.read(_KEY_BYTES + 1), os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        return key if len(key) == _KEY_BYTES and _is_private(facts) else None

    def _make_key(self) -> bytes:
        """A new key, unless another process was faster. Files signed with an earlier one are no longer genuine."""
        with _alone(self._folder):
            key = self._read_key()
            if key is None:
                if self._key_path.exists():
                    log.warning(
                        "engine_key_replaced", path=str(self._key_path), why="it is damaged, or others could read it"
                    )
                key = secrets.token_bytes(_KEY_BYTES)
                write_whole(self._key_path, [key])
        return key


def read_metadata(file: BinaryIO) -> dict[str, Any]:
    """The metadata at the beginning of a file, which is then read up to its content; empty where there is none.

    Raises:
        ValueError: what is there is damaged.
        OSError: it cannot be read.
    """
    start = file.read(plan_header.LENGTH_BYTES + 1)
    length = plan_header.json_bytes(start)
    if not length:
        file.seek(0)
        return {}
    metadata, _ = plan_header.split(start + file.read(length - 1))
    return metadata


def write_whole(path: Path, pieces: Sequence[bytes | memoryview], mode: int = 0o600) -> None:
    """Writes a file durably; the one that was there stays as it was until the new one is whole.

    What root writes belongs to the owner of the folder: a service that runs as another user can read it.

    Raises:
        TransientError: the disk has no room.
        ConfigError: it cannot be written there.
    """
    part = part_of(path)
    with in_words(path):
        try:
            with os.fdopen(_create(part, mode), "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _sync_folder(path.parent)


def part_of(path: Path) -> Path:
    """Where a file lies while it is written."""
    return path.with_name(path.name + PART)


def open_lock(path: Path) -> int:
    """A file to be locked, made where there is none. A link is refused: root would give its target away. Raises `OSError`."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileExistsError):
        return _owned(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), path.parent)
    return os.open(path, flags)


def make_folder(folder: Path) -> None:
    """Makes it where there is none, for nobody else to see. Raises `ConfigError` where that cannot be done."""
    with in_words(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises `ConfigError` where others can exchange a file after it was found genuine."""
    with in_words(folder):
        if folder.stat().st_mode & 0o022:
            raise ConfigError(
                f"{folder}: not only its owner can write to it, and engines are code: chmod go-w {folder}"
            )


def check_room(folder: Path, nbytes: int) -> None:
    """Raises `TransientError` where a file of that size would leave less than `RESERVE` on the disk.

    Raises `ConfigError` where no file can be written at all: that is to be told before minutes of work, not after.
    """
    with in_words(folder):
        free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise ConfigError(f"{folder}: nothing can be written there; engines cannot be kept there")
    if free < nbytes + RESERVE:
        need = (nbytes + RESERVE) >> 20
        raise TransientError(f"{folder}: the disk has {free >> 20} MB left, and {need} MB are needed; make room there")


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Errors of the operating system as ours.

    Raises:
        TransientError: the disk has no room.
        ConfigError: any other.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, EdgeAgentError):
            raise
        if error.errno in _NO_ROOM:
            raise TransientError(f"{path}: there is no room left ({error.strerror}); make room there") from error
        raise ConfigError(f"{error.filename or path}: {error.strerror}; engines cannot be kept there") from error


def _tag(key: bytes, metadata: Mapping[str, Any], content: Iterator[bytes] | Sequence[bytes | memoryview]) -> str:
    """Of the header as it would be without the tag, and of what follows it."""
    tag = hmac.new(key, plan_header.make(metadata), hashlib.sha256)
    for piece in content:
        tag.update(piece)
    return tag.hexdigest()


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = metadata.get(OURS)
    return own if isinstance(own, dict) else {}


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _is_private(facts: os.stat_result) -> bool:
    """Nobody but its owner can read it, and that is us; root may use the key of the service that it builds for."""
    mine = os.geteuid() in (0, facts.st_uid)
    return mine and stat.S_ISREG(facts.st_mode) and not facts.st_mode & 0o077


def _create(path: Path, mode: int) -> int:
    with suppress(FileNotFoundError):
        path.unlink()
    return _owned(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), path.parent)


def _owned(fd: int, folder: Path) -> int:
    """The file belongs to the folder's owner, also where root makes it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time in the folder, for a moment."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
