"""What systemd says of a service, by its own programs."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from edge_agent.app.places import SERVICE_STATE
from edge_agent.app.service import output_of, read
from edge_agent.hardware.probe import LIVE, read_text

PROGRAM = Path("/opt/edge-agent/current")
"""The virtual environment of services, as `scripts/install` makes it."""
_KEYS = (
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "WatchdogUSec",
    "User",
    "SupplementaryGroups",
    "FragmentPath",
    "DropInPaths",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "SetCredential",
    "ProtectSystem",
    "ReadWritePaths",
    "IPAddressAllow",
    "IPAddressDeny",
)
_FOLDERS = ("etc/systemd/journald.conf.d", "run/systemd/journald.conf.d", "usr/local/lib/systemd/journald.conf.d")
_MAIN = tuple(f"{folder}/systemd/journald.conf" for folder in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))
_OF_SYSTEM = ("usr/lib/systemd/journald.conf.d", "lib/systemd/journald.conf.d")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's properties, as `systemctl show` names them."""

    name: str
    properties: dict[str, str]

    def __getitem__(self, key: str) -> str:
        return self.properties.get(key, "")

    @property
    def words(self) -> str:
        """How it ended, in a sentence."""
        service = read(self.name, "\n".join(f"{key}={value}" for key, value in self.properties.items()))
        return service.words if service else self["Result"]

    @property
    def user(self) -> str:
        """`User=`."""
        return self["User"]

    @property
    def groups(self) -> tuple[str, ...]:
        """`SupplementaryGroups=`."""
        return tuple(self["SupplementaryGroups"].split())

    def gives(self, secret: str) -> bool:
        """Whether the service gets a credential of that name."""
        told = f"{self['LoadCredential']} {self['LoadCredentialEncrypted']} {self['SetCredential']}"
        return any(word.partition(":")[0] == secret for word in told.split())

    def may_write(self, folder: Path) -> bool:
        """Whether the sandbox lets the service write there: to its state folder, and where it was told."""
        allowed = (SERVICE_STATE, *(Path(word.lstrip("-+")) for word in self["ReadWritePaths"].split()))
        return self["ProtectSystem"] != "strict" or any(folder.is_relative_to(path) for path in allowed)

    def may_reach(self, address: str) -> bool:
        """Whether the sandbox lets the service talk to an address (systemd.resource-control(5): allowing wins)."""
        host = ip_address(address.partition("%")[0])
        nets = {
            key: [ip_network(word, strict=False) for word in self[key].split()]
            for key in ("IPAddressAllow", "IPAddressDeny")
        }
        allowed, denied = (any(host in net for net in nets[key]) for key in ("IPAddressAllow", "IPAddressDeny"))
        return allowed or not denied

    @property
    def files(self) -> tuple[Path, ...]:
        """The unit file and its drop-ins."""
        return tuple(Path(word) for word in f"{self['FragmentPath']} {self['DropInPaths']}".split())


def look(name: str) -> Unit | str:
    """The unit, or why nothing can be said of it."""
    told = output_of("systemctl", "show", name, f"--property={','.join(_KEYS)}")
    if told is None:
        return "systemd does not answer here: the system was not started by it"
    return Unit(name, dict(line.split("=", 1) for line in told.splitlines() if "=" in line))


def credentials(name: str) -> Path | None:
    """Where systemd keeps the secrets of a running service, if we may look at them."""
    folder = Path(f"/run/credentials/edge-agent@{name}.service")
    try:
        return folder if any(folder.iterdir()) else None
    except OSError:
        return None


def journal_storage(root: Path = LIVE) -> str:
    """`Storage=` of journald (journald.conf(5)): drop-ins by their file names, of a name the first folder's; `auto`."""
    files: dict[str, Path] = {}
    for folder in (*_FOLDERS, *_OF_SYSTEM):
        for path in sorted((root / folder).glob("*.conf")):
            files.setdefault(path.name, path)
    main = next((path for path in map(root.joinpath, _MAIN) if path.is_file()), None)
    storage = "auto"
    for path in filter(None, (main, *(files[name] for name in sorted(files)))):
        for line in (read_text(root, path) or "").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "Storage" and value.strip():
                storage = value.strip()
    return storage
