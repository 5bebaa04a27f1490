"""Which board is this? Read below a root folder, so that a copied `/proc`, `/sys` and `/etc` tell the same.

A Jetson is known by its module token, everything else by its SoC, both inside the NUL-separated `compatible` of the
device tree. The model text is never matched: carriers are sold with the text of another module.
"""

import platform
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIVE = Path("/")

# Module tokens: NVIDIA's device trees, as jetson_stats lists them (jtop/core/jetson_variables.py).
_JETSON_MODULES = {
    "p3448-0000": "Jetson Nano 4GB",
    "p3448-0002": "Jetson Nano 4GB",
    "p3448-0003": "Jetson Nano 2GB",
    "p3310-1000": "Jetson TX2",
    "p3489-0000": "Jetson TX2i",
    "p3489-0888": "Jetson TX2 4GB",
    "p3636-0001": "Jetson TX2 NX",
    "p3668-0000": "Jetson Xavier NX 8GB",
    "p3668-0001": "Jetson Xavier NX 8GB",
    "p3668-0003": "Jetson Xavier NX 16GB",
    "p2888-0001": "Jetson AGX Xavier 16GB",
    "p2888-0003": "Jetson AGX Xavier 32GB",
    "p2888-0004": "Jetson AGX Xavier 32GB",
    "p2888-0005": "Jetson AGX Xavier 64GB",
    "p2888-0006": "Jetson AGX Xavier 8GB",
    "p2888-0008": "Jetson AGX Xavier Industrial",
    "p3701-0000": "Jetson AGX Orin",
    "p3701-0002": "IGX Orin",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3701-0008": "Jetson AGX Orin Industrial",
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano 8GB",
    "p3834-0008": "Jetson AGX Thor",
}
_JETSON_SOCS = {
    "tegra210": "Jetson Nano or TX1",
    "tegra186": "Jetson TX2",
    "tegra194": "Jetson Xavier",
    "tegra234": "Jetson Orin",
    "tegra264": "Jetson Thor",
}
_RASPBERRY_PIS = {
    "5-model-b": "Raspberry Pi 5",
    "5-compute-module": "Raspberry Pi Compute Module 5",
    "500": "Raspberry Pi 500",
    "4-model-b": "Raspberry Pi 4",
    "4-compute-module": "Raspberry Pi Compute Module 4",
    "4-compute-module-s": "Raspberry Pi Compute Module 4S",
    "400": "Raspberry Pi 400",
    "3-model-b-plus": "Raspberry Pi 3B+",
    "3-model-b": "Raspberry Pi 3B",
    "3-model-a-plus": "Raspberry Pi 3A+",
    "3-compute-module": "Raspberry Pi Compute Module 3",
    "model-zero-2-w": "Raspberry Pi Zero 2 W",
}
_JETPACK_OF_L4T = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}


@dataclass(frozen=True, slots=True)
class Board:
    """What is known about the machine; what could not be read is None or empty.

    `board` is its name for people. `compatible` are the entries of the device tree, `module` the Jetson module token
    among them (`p3767-0005`, without suffixes), `soc` the chip (`tegra234`, `bcm2712`, else the architecture). `bits`
    is the userland's word size, 32 or 64. `l4t` is NVIDIA's release (`36.4.3`), `jetpack` the major that goes with it.
    """

    board: str
    model: str | None
    compatible: tuple[str, ...]
    module: str | None
    soc: str | None
    arch: str | None
    bits: int
    cpu_features: frozenset[str]
    cores: int | None
    memory_mb: int | None
    l4t: str | None
    jetpack: int | None


def detect(root: Path = LIVE) -> Board:
    """The board whose `/proc`, `/sys` and `/etc` lie below `root`. What cannot be read stays unknown; nothing raises."""
    root = root.absolute()
    compatible = tuple(entry for entry in _device_tree(root, "compatible").split("\0") if entry)
    model = _device_tree(root, "model").strip("\0 \n") or None
    cpuinfo = read_text(root, "proc/cpuinfo") or ""
    features = _cpu_features(cpuinfo)
    arch = platform.machine() if root == LIVE else _arch_of_copy(cpuinfo, features)
    module = _module(compatible)
    soc = _soc(compatible) or arch
    l4t = _l4t(read_text(root, "etc/nv_tegra_release") or "")
    return Board(
        board=_board_name(compatible, module, soc) or model or (f"{arch} computer" if arch else "unknown board"),
        model=model,
        compatible=compatible,
        module=module,
        soc=soc,
        arch=arch,
        bits=struct.calcsize("P") * 8 if root == LIVE else _bits_of_copy(root, arch),
        cpu_features=features,
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or None,
        memory_mb=kilobytes_as_mb(read_text(root, "proc/meminfo") or "", "MemTotal"),
        l4t=l4t,
        jetpack=_JETPACK_OF_L4T.get(int(l4t.split(".")[0])) if l4t else None,
    )


def read_text(root: Path, path: Path | str) -> str | None:
    """The text of a file below `root`, which is absolute; None where it cannot be read.

    In a copied tree, a link that leaves the tree (`/proc/device-tree` is one) would tell about this machine instead:
    it counts as unreadable.
    """
    target = root / path
    try:
        if root != LIVE:
            target = target.resolve(strict=True)
            if not target.is_relative_to(root.resolve()):
                return None
        # A pipe would block for ever.
        return target.read_text("utf-8", "replace") if target.is_file() else None
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        return None


def kilobytes_as_mb(text: str, key: str) -> int | None:
    """The value of a line `MemTotal:  7759462 kB`, in MB of 2**20 bytes."""
    found = re.search(rf"^{key}:\s*([0-9]{{1,15}}) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def tokens(board: Board) -> tuple[str, ...]:
    """The names a profile may match besides the SoC: the module token, and each `compatible` entry after its vendor."""
    names = (entry.partition(",")[2] for entry in board.compatible)
    return tuple(name for name in (board.module, *names) if name)


def _device_tree(root: Path, name: str) -> str:
    """A device-tree property. The second path is the real one; the first is a link to it."""
    return read_text(root, f"proc/device-tree/{name}") or read_text(root, f"sys/firmware/devicetree/base/{name}") or ""


def _module(compatible: Iterable[str]) -> str | None:
    """The token after the carrier's: `nvidia,p3768-0000+p3767-0005-super`. Standing alone it must be a known one."""
    entries = "\n".join(compatible)
    on_carrier = re.search(r"\+(p\d{4}-\d{4})", entries)
    if on_carrier:
        return on_carrier[1]
    alone = re.findall(r"^nvidia,(p\d{4}-\d{4})", entries, re.MULTILINE)
    return next((token for token in alone if token in _JETSON_MODULES), None)


def _soc(compatible: tuple[str, ...]) -> str | None:
    """The chip; a stepping after its number (`bcm2712d0`) is left out. The last entry is the chip by convention."""
    known = re.search(r"^(?:nvidia,(tegra\d{3})|brcm,(bcm\d{4}))", "\n".join(compatible), re.MULTILINE)
    if known:
        return known[1] or known[2]
    return compatible[-1].rpartition(",")[2] or None if compatible else None


def _board_name(compatible: tuple[str, ...], module: str | None, soc: str | None) -> str | None:
    if module in _JETSON_MODULES:
        return _JETSON_MODULES[module]
    if soc in _JETSON_SOCS:
        return f"{_JETSON_SOCS[soc]} ({module or soc})"
    pis = [entry.removeprefix("raspberrypi,") for entry in compatible if entry.startswith("raspberrypi,")]
    return _RASPBERRY_PIS.get(pis[0], f"Raspberry Pi ({pis[0]})") if pis else None


def _cpu_features(cpuinfo: str) -> frozenset[str]:
    """The words of the first `Features` (ARM) or `flags` (x86) line."""
    line = re.search(r"^(?:Features|flags)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()


def _arch_of_copy(cpuinfo: str, features: frozenset[str]) -> str | None:
    """x86 has `flags`; on ARM, `asimd` is the 64-bit name of what 32-bit kernels call `neon`."""
    if re.search(r"^flags\s*:", cpuinfo, re.MULTILINE):
        return "x86_64"
    if "asimd" in features:
        return "aarch64"
    return "armv7l" if features & {"half", "thumb", "neon", "vfp"} else None


def _bits_of_copy(root: Path, arch: str | None) -> int:
    """32 where the copy says so: a 32-bit ARM kernel, or Raspbian, the 32-bit Raspberry Pi OS (the 64-bit is Debian)."""
    release = read_text(root, "etc/os-release") or read_text(root, "usr/lib/os-release") or ""
    is_raspbian = re.search(r'^ID="?raspbian"?\s*$', release, re.MULTILINE)
    return 32 if is_raspbian or arch == "armv7l" else 64


def _l4t(release: str) -> str | None:
    """`# R36 (release), REVISION: 4.3, …` is 36.4.3. Its BOARD field says `generic` on all boards."""
    found = re.search(r"R(\d{1,3}).*REVISION:\s*(\d[\d.]*)", release)
    return f"{found[1]}.{found[2]}" if found else None
