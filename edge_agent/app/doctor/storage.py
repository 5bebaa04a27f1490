"""Disks: room, rights, wear and errors."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.systemd import Unit
from edge_agent.app.doctor.who import ENTER, READ, WRITE
from edge_agent.hardware.probe import read_text

MB = 1 << 20
NEARLY = 3  # times what is left free on purpose
MIN_FREE_MB = 100.0  # where no configuration says
# JEDEC 84-B51 (eMMC 5.1), EXT_CSD: DEVICE_LIFE_TIME_EST_TYP_A and _B in tenths, 11 is "exceeded"; PRE_EOL_INFO is 1
# normal, 2 warning (80 % of the reserve used), 3 urgent (90 %).
WORN, WORN_OUT = 8, 10
PRE_EOL_WARNING, PRE_EOL_URGENT = 2, 3
IN_MEMORY = ("tmpfs", "ramfs")
REPLACE = "copy the system to a new eMMC module, card or SSD soon"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system where it is mounted."""

    point: str
    kind: str


def look_at_room(context: Context) -> Iterator[Finding]:
    """What is free where records are kept; the agent itself stops writing below `min_free_mb`."""
    folder = _nearest(context)
    if folder is None:
        yield skip("there is no configuration that says which folder it is")
        return
    room, least_mb = os.statvfs(folder), context.loaded.config.records.min_free_mb if context.loaded else MIN_FREE_MB
    free_mb, mount = room.f_bavail * room.f_frsize / MB, mount_of(folder)
    fix = f"make room: `sudo du -xh {mount.point} | sort -h | tail` shows what takes it"
    said = f"{free_mb:.0f} MB are free on {mount.point}"
    if room.f_files and not room.f_favail:
        yield fail(f"no file can be made on {mount.point}: it has no inodes left", fix)
    elif free_mb < least_mb:
        yield fail(f"{said}: below {least_mb:g} MB no record is written", fix)
    elif free_mb < NEARLY * least_mb:
        yield warn(f"{said}: at {least_mb:g} MB no record is written any more", fix)
    else:
        yield ok(said)


def look_at_folder(context: Context) -> Iterator[Finding]:
    """Whether the agent's user can keep something in its folder."""
    own, folder = context.instance.own_folder if context.instance else None, _nearest(context)
    if own is None or folder is None:
        yield skip("there is no configuration that says which folder it is")
        return
    mount, user = mount_of(folder), context.agent
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield fail(
            f"{mount.point} is read-only: nothing can be kept in {own}", f"sudo mount -o remount,rw {mount.point}"
        )
    elif not folder.is_dir():
        yield fail(f"{folder} is not a folder: nothing can be kept in {own}", f"sudo mv {folder} {folder}.old")
    elif not user.may(folder, READ | WRITE | ENTER):
        fix = f"sudo chown -R {user.name}: {own}" if folder == own else f"sudo install -d -o {user.name} -m 0750 {own}"
        if folder == own and not context.is_service:  # an agent may run there, of which we cannot know
            fix = f"sudo edge-agent doctor, if another user runs it; if it is to be {user.name}: {fix}"
        yield fail(f"{user.name}, the agent's user, may not write into {folder}", fix)
    elif isinstance(context.unit, Unit) and not context.unit.may_write(own):
        name = context.unit.name.removesuffix(".service")
        fix = f"sudo systemctl edit {name}, and write: [Service] ReadWritePaths={own}"
        yield fail(f"the sandbox of the service does not let it write to {own}", fix)
    elif mount.kind in IN_MEMORY:
        yield warn(
            f"{own} is in memory ({mount.kind}): records are lost when the power is cut",
            f"set `folder` in [records] to one on a disk: {context.place('records')}",
        )
    else:
        yield ok(f"{own} can be written by {user.name}")


def look_at_wear(context: Context) -> Iterator[Finding]:
    """What each eMMC says of its age. SD cards and most SSDs do not say it here."""
    found = sorted(context.root.absolute().glob("sys/class/mmc_host/mmc*/mmc*:*"))
    told = [finding for card in found if (finding := _wear_of(context.root.absolute(), card))]
    yield from told or [skip("no eMMC that tells; an SD card does not")]


def _wear_of(root: Path, card: Path) -> Finding | None:
    life = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]{1,2}\b", read_text(root, card / "life_time") or "")]
    end = re.match(r"0x([0-9a-fA-F]{1,2})\b", read_text(root, card / "pre_eol_info") or "")
    pre_eol = int(end[1], 16) if end else 0
    tenths = max(life, default=0)
    if not tenths and not pre_eol:
        return None
    name = (read_text(root, card / "name") or "").strip()
    used = f"eMMC {name}".rstrip() + (f": {min(tenths, 10) * 10} % of its life used" if tenths else "")
    if tenths > WORN_OUT or pre_eol >= PRE_EOL_URGENT:
        return fail(f"{used}; it may fail any day", REPLACE, card.name)
    if tenths >= WORN or pre_eol == PRE_EOL_WARNING:
        return warn(f"{used}; it is nearly worn out", REPLACE, card.name)
    return ok(used, card.name)


def look_at_errors(context: Context) -> Iterator[Finding]:
    """What ext4 has counted since its file system was last repaired."""
    root = context.root.absolute()
    counts = {path.parent.name: read_text(root, path) for path in sorted(root.glob("sys/fs/ext4/*/errors_count"))}
    bad = {name: count.strip() for name, count in counts.items() if count and count.strip() not in ("", "0")}
    if not counts:
        yield skip("there is no ext4 file system")
    for name, count in bad.items():
        yield fail(
            f"the file system on {name} has found {count} errors since it was last repaired",
            "have it repaired at the next start: sudo touch /forcefsck && sudo reboot",
            name,
        )
    if counts and not bad:
        yield ok(f"no errors on {', '.join(counts)}")


def mount_of(path: Path) -> Mount:
    """Where the file system of a path is mounted (proc(5), mountinfo)."""
    best = Mount("/", "?")
    for line in (read_text(Path("/"), "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split()[4])
        if path.resolve().is_relative_to(point) and len(point) >= len(best.point):
            best = Mount(point, right.split()[0])
    return best


def _nearest(context: Context) -> Path | None:
    """The agent's own folder, or where it would be made: the first that is there."""
    own = context.instance.own_folder if context.instance else None
    return next((folder for folder in (own, *own.parents) if os.path.lexists(folder)), None) if own else None


CHECKS = (
    Check("disk-space", "storage", "too little room, or no inodes, for records", look_at_room),
    Check("state-folder", "storage", "a folder that is read-only, another's, or in memory", look_at_folder),
    Check("disk-wear", "storage", "an eMMC near the end of its life", look_at_wear, "copy"),
    Check("disk-errors", "storage", "errors that ext4 has counted", look_at_errors, "copy"),
)
