"""As whom the agent runs, and what that user may do with a file: the doctor may be somebody else."""

import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from edge_agent.app.doctor import systemd
from edge_agent.app.instances import Instance

SERVICE_USER = "edge-agent"
READ, WRITE, ENTER = stat.S_IRUSR >> 6, stat.S_IWUSR >> 6, stat.S_IXUSR >> 6


@dataclass(frozen=True, slots=True)
class Who:
    """A user with all groups of its process."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int]

    @property
    def is_me(self) -> bool:
        """Whether this process is that user."""
        return self.uid == os.geteuid() and self.groups >= {os.getegid(), *os.getgroups()}

    def may(self, path: Path, what: int) -> bool:
        """Whether the file, and each folder on the way, lets this user do it. A link counts as what it leads to."""
        if self.is_me:
            modes = {READ: os.R_OK, WRITE: os.W_OK, ENTER: os.X_OK}
            return os.access(path, sum(mode for bit, mode in modes.items() if what & bit), effective_ids=True)
        target = path.resolve()
        return all(self._allows(folder, ENTER) for folder in target.parents) and self._allows(target, what)

    def _allows(self, path: Path, what: int) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        if self.uid == 0:
            return True
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return (found.st_mode >> shift) & what == what


def agents_user(instance: Instance | None, pid: int | None) -> Who:
    """The user of the running process, else that of the service, else whoever asks."""
    if pid is not None and (found := _of_process(pid)):
        return found
    if instance is None or not instance.is_service:
        return _myself()
    unit = systemd.look(f"edge-agent@{instance.name}.service")
    name, more = (unit.user, unit.groups) if isinstance(unit, systemd.Unit) else (SERVICE_USER, ())
    try:
        account = pwd.getpwnam(name or SERVICE_USER)
    except KeyError:
        return _myself()
    groups = {*os.getgrouplist(account.pw_name, account.pw_gid), *filter(None, map(_gid, more))}
    return Who(account.pw_name, account.pw_uid, account.pw_gid, frozenset(groups))


def group_of(path: Path) -> str:
    """The name of the group that a file belongs to."""
    gid = path.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _myself() -> Who:
    return Who(_name(os.geteuid()), os.geteuid(), os.getegid(), frozenset({os.getegid(), *os.getgroups()}))


def _of_process(pid: int) -> Who | None:
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    ids = {key: [int(word) for word in words.split()] for key, words in re.findall(r"(?m)^([UG]id|Groups):(.*)$", told)}
    uid = ids["Uid"][1]  # real, effective, saved, of the file system
    gid = ids["Gid"][1]
    return Who(_name(uid), uid, gid, frozenset({gid, *ids["Groups"]}))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
