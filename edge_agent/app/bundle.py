"""Packs what support needs to know of an installation into one file: no pictures, and no secrets.

A piece is a text; what cannot be had is left out, and the bundle says why. Every text goes through `redaction`.
"""

import io
import json
import os
import platform
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from itertools import islice
from pathlib import Path

import edge_agent
from edge_agent.app.doctor import Report, document
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.systemd import Unit, credentials
from edge_agent.app.flight import Flight, flight_of
from edge_agent.app.flight_lines import document_of
from edge_agent.app.instances import Instance
from edge_agent.app.redaction import known_secrets, redacted
from edge_agent.app.service import output_of
from edge_agent.errors import ConfigError, EdgeAgentError, UsageError
from edge_agent.hardware.probe import read_text

RECORDS, RECORD_BYTES = 20_000, 8 << 20
JOURNAL_LINES, KERNEL_LINES = 5_000, 1_000
JOURNAL_S = 20.0
FILES, METRICS_BYTES = 5_000, 1 << 20
_SYSTEM_FILES = ("etc/os-release", "etc/nv_tegra_release", "proc/cmdline", "proc/meminfo", "proc/mounts")
_DEVICES = ("/dev/video*", "/dev/v4l/by-id/*", "/dev/gpiochip*", "/dev/media*", "/dev/nvhost*", "/dev/nvgpu/*/*")


@dataclass(frozen=True, slots=True)
class Packed:
    """The file that was written, the size in bytes of each piece in it, and why others are not there."""

    path: Path
    pieces: dict[str, int]
    left_out: dict[str, str]


class _MissingError(EdgeAgentError):
    """A piece cannot be had, and why."""


def pack(context: Context, reports: list[Report], out: Path | None = None) -> Packed:
    """Writes the bundle, readable for this user alone, and never over another file.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    made = datetime.now(timezone.utc)
    device = (
        context.loaded.config.device.id if context.loaded else context.instance.name if context.instance else "device"
    )
    name = f"edge-agent-bundle-{re.sub(r'[^A-Za-z0-9_.-]', '_', device)}-{made.astimezone():%Y%m%d-%H%M%S}"
    path, secrets = out or Path(f"{name}.tar.gz"), _secrets(context)
    texts: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for piece, make in _pieces(context, reports).items():
        try:
            texts[piece] = redacted(make(), secrets)
        except OSError as error:
            left_out[piece] = f"{error.filename}: {error.strerror}"
        except EdgeAgentError as error:
            left_out[piece] = redacted(str(error), secrets)
        except Exception as error:  # noqa: BLE001 - what is out of order is what a bundle is for
            left_out[piece] = redacted(f"{type(error).__name__}: {error}", secrets)
    texts["about.json"] = _json({"made_at": made.isoformat(timespec="seconds"), "left_out": left_out})
    _write(path, name, texts, made.timestamp())
    return Packed(path, {piece: len(_bytes(text)) for piece, text in texts.items()}, left_out)


def _pieces(context: Context, reports: list[Report]) -> dict[str, Callable[[], str]]:
    """What is packed, by the names of the files, and who makes it."""
    instance = context.instance
    pieces: dict[str, Callable[[], str]] = {
        "doctor.json": lambda: _json(document(reports, instance)),
        "profile.json": lambda: _profile(context),
        "versions.json": _versions,
        "system.txt": _system,
        "devices.txt": _devices,
        "kernel.txt": lambda: _journal("--dmesg", "--boot", f"--lines={KERNEL_LINES}"),
    }
    if instance is None:
        return pieces
    unit = f"edge-agent@{instance.name}.service"
    return pieces | {
        "status.json": lambda: _status(context),
        "recorder.jsonl": lambda: _recorder(instance),
        "configuration.toml": lambda: _configuration(instance),
        "folder.txt": lambda: _folder(instance),
        "journal.txt": lambda: _journal(f"--unit={unit}", f"--lines={JOURNAL_LINES}"),
        "unit.txt": lambda: _unit(context),
        "metrics.txt": lambda: _metrics(instance),
    }


def _secrets(context: Context) -> set[str]:
    instance = context.instance
    if instance is None or instance.config is None:
        return set()
    try:
        text = instance.config.read_text(errors="replace")
    except OSError:
        return set()
    return known_secrets(instance.config, text, filter(None, (credentials(instance.name),)))


def _profile(context: Context) -> str:
    choice = context.choice
    board = {**asdict(context.board), "cpu_features": sorted(context.board.cpu_features)}
    if isinstance(choice, ConfigError):
        return _json({"board": board, "profile": None, "reason": str(choice)})
    profile = choice.profile.model_dump(mode="json") if choice.profile else None
    return _json({"board": board, "profile": profile, "supported": choice.supported, "reason": choice.reason})


def _versions() -> str:
    packages = {str(one.metadata["Name"]): one.version for one in metadata.distributions()}
    systemd = (output_of("systemctl", "--version") or "").splitlines()
    return _json(
        {
            "edge_agent": edge_agent.__version__,
            "python": platform.python_version(),
            "uname": " ".join(platform.uname()),
            "systemd": systemd[0] if systemd else None,
            "packages": dict(sorted(packages.items())),
        }
    )


def _system() -> str:
    told = ((name, read_text(Path("/"), name)) for name in _SYSTEM_FILES)
    return "\n".join(f"== /{name}\n{text.rstrip()}\n" for name, text in told if text)


def _devices() -> str:
    found = sorted(path for pattern in _DEVICES for path in Path("/").glob(pattern.lstrip("/")))
    return "\n".join(map(_line_of, found)) or "no camera and no GPIO chip"


def _folder(instance: Instance) -> str:
    """What lies in the agent's own folder: names, sizes and rights, and nothing of what is in them."""
    if instance.own_folder is None:
        raise _MissingError("the configuration does not say which folder it is")
    os.stat(instance.own_folder)  # noqa: PTH116 - rglob would say nothing of a folder that is not there
    found = sorted(islice(instance.own_folder.rglob("*"), FILES))
    return "\n".join(map(_line_of, (instance.own_folder, *found)))


def _line_of(path: Path) -> str:
    """`0o100640 997:997 16777216 2026-11-21T08:00:00Z /var/lib/edge-agent/cap-01/flight.log`."""
    try:
        found = path.lstat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    changed = datetime.fromtimestamp(found.st_mtime, timezone.utc).isoformat(timespec="seconds")
    target = f" -> {path.readlink()}" if path.is_symlink() else ""
    return f"{oct(found.st_mode)} {found.st_uid}:{found.st_gid} {found.st_size} {changed} {path}{target}"


def _status(context: Context) -> str:
    if context.status is None:
        raise _MissingError("a copied tree has none")
    return _json(context.status.as_json())


def _recorder(instance: Instance) -> str:
    with closing(flight_of(instance)) as flight:
        return "\n".join(reversed(list(_newest(flight)))) + "\n"


def _newest(flight: Flight) -> Iterator[str]:
    left = RECORD_BYTES
    for number, record in enumerate(flight.newest_first()):
        line = json.dumps(document_of(record), default=str)
        left -= len(line)
        if left < 0 or number >= RECORDS:
            return
        yield line


def _configuration(instance: Instance) -> str:
    if instance.config is None:
        raise _MissingError("there is none")
    return instance.config.read_text(errors="replace")


def _journal(*words: str) -> str:
    told = output_of("journalctl", "--no-pager", "--output=short-iso-precise", *words, wait_s=JOURNAL_S)
    if told is None:
        raise _MissingError("journalctl is not there, or does not let you read it: try it with sudo")
    return told


def _unit(context: Context) -> str:
    if not isinstance(context.unit, Unit):
        raise _MissingError(context.unit)
    if not context.unit.files:
        raise _MissingError(f"systemd knows no {context.unit.name}")
    return "\n".join(f"== {path}\n{path.read_text(errors='replace')}" for path in context.unit.files)


def _metrics(instance: Instance) -> str:
    if instance.runtime is None:
        raise _MissingError("the configuration does not say which folder it is")
    # The folder is the agent's: root must not be led to another file, or wait for a pipe.
    fd = os.open(instance.runtime / "metrics.prom", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        return file.read(METRICS_BYTES).decode(errors="replace")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"


def _write(path: Path, folder: str, texts: dict[str, str], made_s: float) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} is there already: choose another name with -o") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose another place with -o") from None
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
            for name, text in sorted(texts.items()):
                member = tarfile.TarInfo(f"{folder}/{name}")
                data = _bytes(text)
                member.size, member.mtime, member.mode = len(data), int(made_s), 0o600
                packed.addfile(member, io.BytesIO(data))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _bytes(text: str) -> bytes:
    """Names of files may be no UTF-8."""
    return text.encode(errors="backslashreplace")
