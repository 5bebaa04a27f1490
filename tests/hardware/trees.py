"""Copied `/proc`, `/sys` and `/etc` trees, built from what boards are known to say."""

from pathlib import Path

ARM64 = "fp asimd evtstrm crc32 cpuid"
ARM32 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"

ORIN_NANO_MODES = (
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n\n< POWER_MODEL ID=1 NAME=7W >\nCPU_ONLINE CORE_0 1\n"
)
ORIN_NANO_SUPER_MODES = "".join(
    f"< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1\n\n"
    for number, name in enumerate(("15W", "25W", "MAXN_SUPER", "7W"))
)


def put(root: Path, path: str, text: str) -> None:
    """Writes one file of the tree."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def make_tree(root: Path, *compatible: str, model: str = "", features: str = ARM64, l4t: str = "") -> Path:
    """A board with four cores and 4 GB."""
    put(root, "proc/device-tree/compatible", "".join(f"{entry}\0" for entry in compatible))
    put(root, "proc/device-tree/model", f"{model}\0")
    put(root, "proc/cpuinfo", "".join(f"processor\t: {core}\nFeatures\t: {features}\n\n" for core in range(4)))
    put(root, "proc/meminfo", "MemTotal:        4000000 kB\nMemFree:          100000 kB\n")
    if l4t:
        major, _, revision = l4t.partition(".")
        put(root, "etc/nv_tegra_release", f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n")
    return root


def make_zone(root: Path, number: int, name: str, temp: str | None) -> None:
    """A thermal zone; without `temp`, reading it fails as a sensor that is switched off does: with an OSError."""
    folder = f"sys/class/thermal/thermal_zone{number}"
    put(root, f"{folder}/type", f"{name}\n")
    if temp is None:
        (root / folder / "temp").mkdir()
    else:
        put(root, f"{folder}/temp", temp)


def make_cooling(root: Path, number: int, kind: str, state: str) -> None:
    """A cooling device and its present state; 0 is "not cooling"."""
    put(root, f"sys/class/thermal/cooling_device{number}/type", f"{kind}\n")
    put(root, f"sys/class/thermal/cooling_device{number}/cur_state", f"{state}\n")


def make_power_mode(root: Path, status: str, modes: str) -> None:
    """What nvpmodel keeps: the mode that is set, and the modes that the board has."""
    put(root, "var/lib/nvpmodel/status", status)
    put(root, "etc/nvpmodel.conf", modes)
